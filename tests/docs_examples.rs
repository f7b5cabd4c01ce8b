//! Checks what the documents show: links, paths, configurations and commands.
//!
//! | in a document | must |
//! |---|---|
//! | relative link or image | lead to a file, and to a heading of it if it names one |
//! | path in code that begins with a folder of the project | exist |
//! | block of `nginx` or `conf` | pass `simple_rtmp_server -t` without a warning, see [`complete`] |
//! | line of a block of `sh`, and code that begins with one of [`COMMANDS`] | use a program with options of its help, or be in [`OTHER_COMMANDS`] |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Folders of the project.
const FOLDERS: [&str; 9] = ["benches", "conf", "docs", "fuzz", "packaging", "src", "tests", "trunk-scripts", ".ci"];

/// Beginnings of code within a sentence that is a command.
const COMMANDS: [&str; 6] =
    ["bash trunk-scripts/", "cargo test", "./configure -", "objs/srs_bench ", "objs/ts_info ", "simple_rtmp_server -"];

/// Commands of other programs, with the way in which they are tried.
const OTHER_COMMANDS: &[(&str, &str)] = &[
    ("ffplay -fflags nobuffer rtmp://127.0.0.1/live/livestream", "by hand"),
    ("apt-get install ./objs/packages/simple-rtmp-server_*.deb", "trunk-scripts/package-test.sh"),
    (
        "bash trunk-scripts/package.sh && apt-get install ./objs/packages/simple-rtmp-server_*.deb",
        "trunk-scripts/package-test.sh",
    ),
    (
        "tar -xzf objs/packages/simple-rtmp-server-*.tar.gz -C /tmp && sh /tmp/simple-rtmp-server-*/install.sh",
        "trunk-scripts/package-test.sh",
    ),
    (
        "podman build -t simple-rtmp-server -f packaging/container/Containerfile .",
        "its commands by hand in a root of Debian 12",
    ),
    (r#"kill -HUP "$(cat objs/srs.pid)""#, "tests/e2e/operations.rs sends the signal"),
    ("cp trunk-scripts/srs.service trunk-scripts/srs.socket /etc/systemd/system/", "by hand"),
    ("systemctl enable --now srs", "by hand; tests/e2e/operations.rs is the service manager otherwise"),
    ("systemctl reload srs", "by hand; tests/e2e/operations.rs is the service manager otherwise"),
    ("systemctl kill -s QUIT srs", "by hand; tests/e2e/operations.rs is the service manager otherwise"),
    ("git pull", "by hand"),
    (r#"nginx -p "$PWD" -c conf/nginx-hls.conf"#, "tests/e2e/web.rs starts nginx with this file"),
    (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
         -keyout conf/server.key -out conf/server.crt",
        "by hand",
    ),
    ("cargo run --locked -- --print-reference > conf/full.conf", "src/config/tests.rs compares the file"),
    ("cargo bench --bench hot_paths", "by hand"),
    ("python3 trunk-scripts/transcode-churn.py", "by hand"),
    ("python3 trunk-scripts/latency-browser.py", "by hand"),
    (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=live.example.com \
         -addext subjectAltName=DNS:live.example.com -addext basicConstraints=critical,CA:FALSE -keyout server.key \
         -out server.crt",
        "tests/e2e/api_tools.rs makes a certificate so",
    ),
    ("objs/srs_ctl streams --json | jq -r '.streams[] | select(.drops > 0) | .name'", "tests/e2e/srs_ctl.rs"),
    (
        "curl -s http://127.0.0.1:1985/api/v1/streams | jq '.streams[] | {name, clients, fps, kbps}'",
        "tests/e2e/api.rs asks for the same path",
    ),
    (
        "curl -s -X POST 'http://127.0.0.1:1985/api/v1/reload?dry_run=1' | jq '.changes'",
        "tests/e2e/api.rs asks for the same path",
    ),
    ("curl -s -X DELETE http://127.0.0.1:1985/api/v1/clients/12", "tests/e2e/api.rs asks for the same path"),
    (
        "curl -o /dev/null -w '%{speed_download} bytes/s\\n' -H 'X-Bandwidth-Key: KEY' \
         'http://HOST:8080/api/v1/bandwidth/download?bytes=10000000'",
        "tests/e2e/bandwidth_http.rs downloads the same path",
    ),
    ("ssh -L 1985:127.0.0.1:1985 -L 8080:127.0.0.1:8080 media.example.com", "by hand"),
    (
        "curl -s -X POST http://127.0.0.1:1985/api/v1/streams/live/cam/record",
        "tests/e2e/dvr_api.rs asks for the same path",
    ),
    (
        "curl -s http://127.0.0.1:1985/api/v1/recordings | jq -r '.recordings[] | [.id, .state, .stream, .bytes] | @tsv'",
        "tests/e2e/dvr_api.rs reads the same fields",
    ),
    ("curl -sN 'http://127.0.0.1:1985/api/v1/events?last=20'", "tests/e2e/api_events.rs reads the same path"),
    (
        r#"curl -s 'http://127.0.0.1:1985/api/v1/config?changed=1' | jq -r '.config[] | "\(.block) \(.directive) \(.value) \(.origin)"'"#,
        "tests/e2e/api_events.rs asks for the same path",
    ),
    ("ffplay -fflags nobuffer http://HOST:8080/live/livestream.flv", "by hand"),
    (
        "gst-launch-1.0 souphttpsrc location=http://HOST:8080/live/livestream.flv is-live=true ! flvdemux ! fakesink",
        "tests/e2e/http_flv.rs plays so",
    ),
    ("expires=$(($(date +%s) + 3600))", "tests/e2e/credentials.rs signs URLs"),
    (
        "printf 'live/cam?expires=%s' $expires | openssl dgst -sha256 -hmac a-long-random-text",
        "tests/e2e/credentials.rs signs URLs",
    ),
    (
        "objs/srs_ctl streams --json | jq -r '.streams[] | select(.drops > 0) | .name'",
        "tests/e2e/srs_ctl.rs lists streams as JSON",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block.
struct Block {
    /// File and line, for the message of a failure.
    place: String,
    language: String,
    text: String,
}

/// A document, split into its parts.
struct Document {
    /// Relative to the root.
    path: PathBuf,
    blocks: Vec<Block>,
    /// Lines outside of blocks, each with its place.
    prose: Vec<(String, String)>,
}

impl Document {
    fn parse(path: PathBuf, text: &str) -> Self {
        let mut document = Self { path, blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<Block> = None;
        for (index, line) in text.lines().enumerate() {
            let place = format!("{}:{}", document.path.display(), index + 1);
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => document.blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block { place, language: language.to_owned(), text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => document.prose.push((place, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a block does not end", document.path.display());
        document
    }

    /// Returns the targets of links and images, outside of code.
    fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prose.iter().flat_map(|(place, line)| {
            let outside = line.split('`').step_by(2);
            let targets = outside.flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
            targets.map(move |target| (place.as_str(), target))
        })
    }

    /// Returns code within sentences and tables.
    fn inline_code(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prose
            .iter()
            .flat_map(|(place, line)| line.split('`').skip(1).step_by(2).map(move |code| (place.as_str(), code)))
    }

    /// Returns the anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn documents() -> Vec<Document> {
    let mut paths: Vec<_> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for entry in root().join("docs").read_dir().unwrap() {
        let path = Path::new("docs").join(entry.unwrap().file_name());
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Document::parse(path, &text)
    };
    paths.into_iter().map(read).collect()
}

fn assert_no_faults(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut count = 0;
    let mut faults = Vec::new();
    for document in &documents {
        for (place, target) in document.links().filter(|(_, target)| !target.contains("://")) {
            count += 1;
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let folder = document.path.parent().unwrap();
            let path = if file.is_empty() { document.path.clone() } else { normalized(&folder.join(file)) };
            if !root().join(&path).exists() {
                faults.push(format!("{place}: {target}: no such file"));
            } else if let Some(heading) = heading {
                let found = documents.iter().find(|other| other.path == path).map(Document::anchors);
                if !found.is_some_and(|anchors| anchors.iter().any(|anchor| anchor == heading)) {
                    faults.push(format!("{place}: {target}: no such heading"));
                }
            }
        }
    }
    assert!(count > 30, "{count}");
    assert_no_faults(&faults);
}

/// Resolves `..` within a path.
fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => assert!(out.pop(), "{} is outside of the project", path.display()),
            part => out.push(part),
        }
    }
    out
}

#[test]
fn every_path_of_the_project_exists() {
    let mut count = 0;
    let mut faults = Vec::new();
    for document in documents() {
        for (place, code) in document.inline_code() {
            let is_plain = code.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
            let is_ours = code.split_once('/').is_some_and(|(first, _)| FOLDERS.contains(&first));
            // Words in capitals stand for something else.
            let has_placeholder = code.split(['/', '.']).any(|part| part.len() > 1 && part == part.to_uppercase());
            if is_plain && is_ours && !has_placeholder {
                count += 1;
                if !root().join(code).exists() {
                    faults.push(format!("{place}: {code}: no such file"));
                }
            }
        }
    }
    assert!(count > 30, "{count}");
    assert_no_faults(&faults);
}

/// Returns the configuration that a block stands for: a whole file, or the part of one that its first line names.
fn complete(block: &str) -> String {
    match block.lines().next() {
        Some("# In a vhost:") => format!("listen 1935;\nvhost __defaultVhost__ {{\n{block}}}\n"),
        Some("# At the top of the file:") => format!("listen 1935;\n{block}vhost __defaultVhost__ {{ }}\n"),
        _ => block.to_owned(),
    }
}

#[test]
fn every_configuration_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    // Files that the examples name; ffmpeg is installed.
    for name in ["conf/keys", "objs/notify.sh"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut count = 0;
    let mut faults = Vec::new();
    for document in documents() {
        for block in document.blocks.iter().filter(|block| ["nginx", "conf"].contains(&block.language.as_str())) {
            count += 1;
            let file = folder.path().join(format!("{count}.conf"));
            std::fs::write(&file, complete(&block.text)).unwrap();
            let mut server = Command::new(env!("CARGO_BIN_EXE_simple_rtmp_server"));
            server.args(["-t", "-c"]).arg(&file).current_dir(folder.path());
            // The files of the certificate do not exist here.
            let output = server
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .env("SRS_RTMPS_ENABLED", "off")
                .output()
                .unwrap();
            let has_warning = cfg!(feature = "hls") && !output.stderr.is_empty();
            if !output.status.success() || has_warning {
                faults.push(format!("{}: {}{}", block.place, text(&output), complete(&block.text)));
            }
        }
    }
    assert!(count > 10, "{count}");
    assert_no_faults(&faults);
}

/// Returns what a program has printed.
fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Splits a line of shell into its simple commands, without redirections and assignments.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut is_target = false;
    for word in words(line) {
        match word.as_str() {
            "&&" | "||" | "|" | ";" => commands.push(Vec::new()),
            ">" | ">>" | "<" => is_target = true,
            _ if std::mem::take(&mut is_target) => {}
            _ => commands.last_mut().unwrap().push(word),
        }
    }
    for command in &mut commands {
        let is_assignment = |word: &String| word.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase());
        let count = command.iter().take_while(|word| is_assignment(word)).count();
        command.drain(..count);
    }
    commands
}

/// Splits a line at blanks outside of quotes, and removes the quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (character, quote) {
            (end, Some(begin)) if end == begin => quote = None,
            (begin @ ('"' | '\''), None) => {
                quote = Some(begin);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// The check of commands against the help texts of their programs.
#[derive(Default)]
struct Checker {
    helps: HashMap<String, String>,
}

impl Checker {
    /// Returns the fault of a command, if there is one. `None` in the error: the program is not known.
    fn check(&mut self, command: &[String]) -> Result<(), Option<String>> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let [program, arguments @ ..] = &words[..] else { return Ok(()) };
        let (help, arguments) = match (program.rsplit('/').next().unwrap(), arguments) {
            ("simple_rtmp_server", _) => (self.help(env!("CARGO_BIN_EXE_simple_rtmp_server"), &[]), arguments),
            ("srs_ctl", _) => {
                // Its options stand before or behind the subcommand.
                let program = env!("CARGO_BIN_EXE_srs_ctl");
                let help = self.help(program, &[]);
                let is_command =
                    |word: &&&str| help.lines().any(|line| line.trim_start().starts_with(&format!("{word} ")));
                let of_command = arguments.iter().find(is_command).map(|word| self.help(program, &[word]));
                (help + &of_command.unwrap_or_default(), arguments)
            }
            ("ts_info", _) => (self.help(env!("CARGO_BIN_EXE_ts_info"), &[]), arguments),
            ("srs_hooks", _) => (self.help(env!("CARGO_BIN_EXE_srs_hooks"), &[]), arguments),
            ("srs_bench", [subcommand, rest @ ..]) => (self.help(env!("CARGO_BIN_EXE_srs_bench"), &[subcommand]), rest),
            ("configure", _) => (self.help("sh", &["./configure"]), arguments),
            ("bash", [script, rest @ ..]) if script.starts_with("trunk-scripts/") => {
                (self.help("bash", &[script]), rest)
            }
            ("make", _) => return is_target(arguments).map_err(Some),
            ("srs", [action]) if program.starts_with("/etc/init.d/") => return is_action(action).map_err(Some),
            ("cargo", ["test", rest @ ..]) => return is_test(rest).map_err(Some),
            _ => return Err(None),
        };
        let options = arguments.iter().filter(|word| word.starts_with('-') && **word != "-");
        for option in options {
            let name = option.split('=').next().unwrap();
            if !has_word(&help, name) {
                return Err(Some(format!("{name} is not in the help of {program}")));
            }
        }
        Ok(())
    }

    fn help(&mut self, program: &str, arguments: &[&str]) -> String {
        let key = format!("{program} {}", arguments.join(" "));
        let make = || {
            let output = Command::new(program).args(arguments).arg("-h").current_dir(root()).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?} -h: {}", text(&output));
            text(&output)
        };
        self.helps.entry(key).or_insert_with(make).clone()
    }
}

/// Returns whether `text` contains `word` as a whole.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Checks targets of the Makefile that `configure` writes.
fn is_target(targets: &[&str]) -> Result<(), String> {
    let configure = std::fs::read_to_string(root().join("configure")).unwrap();
    let known = configure.lines().find_map(|line| line.strip_prefix(".PHONY:")).unwrap();
    match targets.iter().find(|target| !has_word(known, target)) {
        Some(target) => Err(format!("make has no target {target}")),
        None => Ok(()),
    }
}

/// Checks an action of the init script.
fn is_action(action: &str) -> Result<(), String> {
    let script = std::fs::read_to_string(root().join("trunk-scripts/srs.init")).unwrap();
    let is_known = script.contains(&format!("\n{action})"));
    if is_known { Ok(()) } else { Err(format!("srs.init has no action {action}")) }
}

/// Checks that `cargo test` with these arguments runs something: the test program and the filter exist.
fn is_test(arguments: &[&str]) -> Result<(), String> {
    let mut folder = root().join("src");
    let mut arguments = arguments.iter().take_while(|word| **word != "--");
    let mut filter = None;
    while let Some(argument) = arguments.next() {
        match *argument {
            "--test" => {
                let name = arguments.next().ok_or("--test needs a name")?;
                folder = root().join("tests").join(name);
                if !folder.is_dir() {
                    folder.set_extension("rs");
                }
                if !folder.exists() {
                    return Err(format!("there is no test program {name}"));
                }
            }
            option if option.starts_with('-') => {}
            word => filter = Some(word),
        }
    }
    let name = filter.map(|filter| filter.trim_end_matches("::").rsplit("::").next().unwrap());
    match name {
        Some(name) if !is_defined(&folder, name) => Err(format!("there is no test or module {name}")),
        _ => Ok(()),
    }
}

/// Returns whether a function or module of this name is below `path`.
fn is_defined(path: &Path, name: &str) -> bool {
    if path.is_dir() {
        return path.read_dir().unwrap().any(|entry| is_defined(&entry.unwrap().path(), name));
    }
    let source = std::fs::read_to_string(path).unwrap_or_default();
    [format!("fn {name}("), format!("mod {name};"), format!("mod {name} {{")].iter().any(|text| source.contains(text))
}

#[test]
fn every_command_has_its_program_and_options() {
    let mut checker = Checker::default();
    let mut unused: Vec<&str> = OTHER_COMMANDS.iter().map(|(line, _)| *line).collect();
    let mut count = 0;
    let mut faults = Vec::new();
    for document in documents() {
        let shell = document.blocks.iter().filter(|block| block.language == "sh");
        let lines: Vec<_> = shell.map(|block| (block.place.as_str(), block.text.replace("\\\n", " "))).collect();
        let in_blocks = lines.iter().flat_map(|(place, text)| text.lines().map(|line| (*place, line)));
        let is_command = |code: &str| COMMANDS.iter().any(|beginning| code.starts_with(beginning));
        let in_sentences = document.inline_code().filter(|(_, code)| is_command(code));
        for (place, line) in in_blocks.chain(in_sentences) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            count += 1;
            if OTHER_COMMANDS.iter().any(|(listed, _)| *listed == line) {
                unused.retain(|listed| *listed != line);
                continue;
            }
            for command in commands(line) {
                match checker.check(&command) {
                    Ok(()) => {}
                    Err(Some(fault)) => faults.push(format!("{place}: {line}: {fault}")),
                    Err(None) => {
                        faults.push(format!("{place}: {line}: not in OTHER_COMMANDS, and {command:?} is not known"))
                    }
                }
            }
        }
    }
    faults.extend(unused.iter().map(|line| format!("no document has the command: {line}")));
    assert!(count > 30, "{count}");
    assert_no_faults(&faults);
}

#[test]
fn faults_of_commands_are_found() {
    let mut checker = Checker::default();
    let mut fault = |line: &str| commands(line).iter().find_map(|command| checker.check(command).err());
    assert_eq!(fault("SRS_LISTEN=1 objs/simple_rtmp_server -t -c a.conf > b"), None);
    assert_eq!(fault("./configure --prefix=/usr && make install"), None);
    assert_eq!(fault("bash trunk-scripts/attack.sh --only 'one byte'"), None);
    for line in [
        "objs/simple_rtmp_server -q",
        "./configure && make instal",
        "./configure --with",
        "bash trunk-scripts/attack.sh --log",
        "objs/srs_bench play --bit 3",
        "/etc/init.d/srs begin",
        "cargo test --test none",
        "cargo test --test e2e no_such_test",
    ] {
        assert!(matches!(fault(line), Some(Some(_))), "{line}");
    }
    assert_eq!(fault("frobnicate -x"), Some(None));
}

#[test]
fn parts_of_documents_are_found() {
    let source = "# A `b` c, D-e\n[x](y.md#z) `[no](link)` ![p](q.png)\n```sh\n# t\nls\n```\n";
    let document = Document::parse("d.md".into(), source);
    assert_eq!(document.anchors(), ["a-b-c-d-e"]);
    assert_eq!(document.links().map(|(_, target)| target).collect::<Vec<_>>(), ["y.md#z", "q.png"]);
    assert_eq!(document.inline_code().map(|(_, code)| code).collect::<Vec<_>>(), ["b", "[no](link)"]);
    assert_eq!((document.blocks[0].language.as_str(), document.blocks[0].text.as_str()), ("sh", "# t\nls\n"));
    assert_eq!(complete("# In a vhost:\ngop_cache on;\n").matches('{').count(), 1);
    assert_eq!(words("a 'b c' \"\" d"), ["a", "b c", "", "d"]);
}
