//! Commands in documents, and the check of their programs and options.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::document::root;

/// Returns what a program has printed.
pub(crate) fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Splits a line of shell into its simple commands, without redirections and assignments.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
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
pub(crate) fn words(line: &str) -> Vec<String> {
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
pub(crate) struct Checker {
    helps: HashMap<String, String>,
}

impl Checker {
    /// Returns the fault of a command, if there is one. `None` in the error: the program is not known.
    pub(crate) fn check(&mut self, command: &[String]) -> Result<(), Option<String>> {
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
