//! Checks what the documents show: links, paths, configurations and commands.
//!
//! | in a document | must |
//! |---|---|
//! | relative link or image | lead to a file, and to a heading of it if it names one |
//! | path in code that begins with a folder of the project | exist |
//! | block of `nginx` or `conf` | pass `simple_rtmp_server -t` without a warning, see [`complete`] |
//! | line of a block of `sh`, and code that begins with one of [`COMMANDS`] | use a program with options of its help, or be in [`OTHER_COMMANDS`] |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

#[path = "docs_examples/commands.rs"]
mod commands;
#[path = "docs_examples/document.rs"]
mod document;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use commands::{Checker, commands, text, words};
use document::{Document, documents, root};

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
    for name in ["conf/keys", "objs/notify.sh", "objs/convert.sh"] {
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
