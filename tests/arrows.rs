//! Checks the dependencies between modules and files.
//!
//! | what | rule |
//! |---|---|
//! | modules of `src` | `codec <- rtmp <- app`, `st <- app`, `config <- app <- main`, see [`ALLOWED`] |
//! | folders of `src/app` | [`LAYERS`]: a file uses those of its own layer and of lower ones |
//! | `app.rs` | only `main.rs` uses it |
//! | files | no circles: no file uses another one that uses it, directly or through others |
//! | the crate `may` | only `st` names it |
//!
//! A file uses another one if it names an item that is defined there, also through a re-export. Tests may use everything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

#[path = "arrows/graph.rs"]
mod graph;
#[path = "arrows/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use graph::{Arrows, Modules, circles, describe};
use source::Source;

/// The modules of the library, and the other modules that each may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("memory", &[]),
    ("codec", &[]),
    ("rtmp", &["memory", "codec"]),
    ("http", &[]),
    ("st", &["memory", "log"]),
    ("config", &[]),
    ("log", &["config", "st"]),
    ("os", &[]),
    ("app", &["memory", "codec", "rtmp", "http", "st", "config", "log", "os"]),
];

/// The folders and files of `src/app`, from the lowest layer. The longest name that fits a file counts.
const LAYERS: &[&[&str]] = &[
    &["session", "stream", "limits", "stats"],
    &["events", "context", "gates"],
    &["rtmp", "http", "outputs", "hooks", "stats/collect"],
    &["server"],
];

/// The only module that may use the runtime.
const RUNTIME_USER: &str = "st";
/// The crate of the runtime.
const RUNTIME: &str = "may";

/// Returns the forbidden dependencies of a file of the given module: line number and description. `None` stands for `main.rs`,
/// `lib.rs` and the other programs, which may use any module.
fn faults(module: Option<&str>, text: &str) -> Vec<(usize, String)> {
    let allowed = module.map(|module| match ALLOWED.iter().find(|(name, _)| *name == module) {
        Some((_, allowed)) => *allowed,
        None => panic!("the module {module} is not in ALLOWED: add it with the modules that it may use"),
    });
    let mut faults = Vec::new();
    for path in Source::with_tests(text).paths {
        let names: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        match (names.as_slice(), module) {
            (["crate", name, ..], Some(module)) => {
                let is_module = ALLOWED.iter().any(|(known, _)| known == name);
                if is_module && *name != module && !allowed.is_some_and(|allowed| allowed.contains(name)) {
                    faults.push((path.line, format!("{module} names {name}")));
                }
            }
            ([RUNTIME, ..] | ["", RUNTIME, ..], module) if module != Some(RUNTIME_USER) => {
                faults.push((path.line, format!("{} names {RUNTIME}", module.unwrap_or("a program"))));
            }
            _ => {}
        }
    }
    faults
}

/// Returns the layer of a file below `src/app`.
fn layer(file: &str) -> Option<usize> {
    let path = file.strip_prefix("app/")?;
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let fits = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let layers = LAYERS.iter().enumerate().flat_map(|(layer, names)| names.iter().map(move |name| (layer, *name)));
    layers.filter(|(_, name)| fits(name)).max_by_key(|(_, name)| name.len()).map(|(layer, _)| layer)
}

/// Returns the arrows against the layers.
fn layer_faults(arrows: &BTreeMap<String, Arrows>) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, targets) in arrows {
        if file.starts_with("app/") && layer(file).is_none() {
            faults.push(format!("{file} is in no layer: add it to LAYERS"));
        }
        for (target, names) in targets {
            let is_upwards = layer(file).is_some_and(|own| layer(target).is_some_and(|other| other > own));
            if is_upwards || target == "app.rs" {
                faults.push(format!("{file} -> {target}: {names:?}"));
            }
        }
    }
    faults
}

/// Collects all `.rs` files below a folder.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Returns the module of the library that a file below `src` belongs to.
fn module(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "main" | "lib" | "bin")).then(|| name.to_owned())
}

/// Returns all sources: their path below `src` and their text.
fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 5, "{} files in {}", files.len(), root.display());
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a source");
        (file.strip_prefix(&root).expect("below it").to_owned(), text)
    };
    files.into_iter().map(read).collect()
}

/// Returns the arrows between the files of the library, except those from tests.
fn all_arrows() -> BTreeMap<String, Arrows> {
    let is_test = |path: &Path| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let is_library = |path: &Path| module(path).is_some() || path == Path::new("lib.rs");
    let files = all_sources().into_iter().filter(|(path, _)| is_library(path) && !is_test(path));
    Modules::parse(files.map(|(path, text)| (path.display().to_string(), text))).arrows()
}

#[test]
fn each_module_names_only_those_it_may() {
    let mut all = Vec::new();
    for (path, text) in all_sources() {
        for (line, what) in faults(module(&path).as_deref(), &text) {
            let content = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
            all.push(format!("src/{}:{line}: {what}: {content}", path.display()));
        }
    }
    assert!(all.is_empty(), "forbidden dependencies:\n{}", all.join("\n"));
}

#[test]
fn each_file_of_the_application_uses_only_its_own_layer_and_lower_ones() {
    let faults = layer_faults(&all_arrows());
    assert!(faults.is_empty(), "forbidden dependencies:\n{}", faults.join("\n"));
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let arrows = all_arrows();
    let circles = circles(&arrows);
    let found: Vec<String> = circles.iter().map(|circle| describe(circle, &arrows)).collect();
    assert!(found.is_empty(), "move the shared definitions to a file of their own:\n{}", found.join("\n"));
}

#[test]
fn a_line_that_goes_against_an_arrow_is_found() {
    for (module, text, due) in [
        (Some("codec"), "use crate::rtmp::message::Message;", "codec names rtmp"),
        (
            Some("codec"),
            "fn f() {}\n\nuse crate::codec::amf0;\nlet a = crate::config::Config::default();",
            "codec names config",
        ),
        (Some("rtmp"), "use crate::{codec::flv, st};", "rtmp names st"),
        (Some("rtmp"), "use crate::{\n    codec::{flv, aac},\n    app::source,\n};", "rtmp names app"),
        (Some("st"), "pub(in crate::app) fn f() {}", "st names app"),
        (Some("config"), "use crate::log;", "config names log"),
        (Some("log"), "    crate::app::run(\"rtmp://a/b\");", "log names app"),
        (Some("app"), "use may::coroutine;", "app names may"),
        (Some("rtmp"), "let a = ::may::go!(f);", "rtmp names may"),
        (None, "fn main() { may::config(); }", "a program names may"),
    ] {
        let found = faults(module, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].1, due, "{text}");
    }
    assert_eq!(
        faults(Some("rtmp"), "use crate::{\n    codec::flv,\n    app::source,\n};"),
        [(3, "rtmp names app".to_owned())]
    );
}

#[test]
fn a_line_within_the_arrows_passes() {
    for (module, text) in [
        (Some("codec"), "//! See [`crate::rtmp`].\nuse crate::codec::amf0;"),
        (Some("rtmp"), "use crate::codec::{amf0, flv};\nuse super::chunk; // not crate::st"),
        (Some("app"), "use crate::{codec, config::Config, rtmp, st};"),
        (Some("st"), "use may::coroutine;"),
        (Some("log"), "use crate::{config, st};"),
        (Some("app"), "let dismay = mycrate::app::f(); a::may::b();"),
        (None, "use srs::app;"),
    ] {
        assert_eq!(faults(module, text), [], "{text}");
    }
}

#[test]
fn an_arrow_against_the_layers_is_found() {
    let to =
        |targets: &[&str]| targets.iter().map(|target| ((*target).to_owned(), BTreeSet::new())).collect::<Arrows>();
    let faults = |file: &str, targets: &[&str]| layer_faults(&BTreeMap::from([(file.to_owned(), to(targets))])).len();
    assert_eq!(faults("app/stream/state.rs", &["app/session/client.rs", "app/limits.rs", "st.rs"]), 0);
    assert_eq!(faults("app/rtmp/play.rs", &["app/stream.rs", "app/context.rs", "app/http/state.rs"]), 0);
    assert_eq!(faults("app/stats/collect.rs", &["app/context.rs", "app/stats.rs"]), 0);
    assert_eq!(faults("app.rs", &["app/server.rs", "app/rtmp.rs"]), 0);
    assert_eq!(faults("app/stream/state.rs", &["app/context.rs", "app/http.rs", "app/server/reload.rs"]), 3);
    assert_eq!(faults("app/stats/totals.rs", &["app/stats/collect.rs"]), 1);
    assert_eq!(faults("app/server.rs", &["app.rs"]), 1);
    assert_eq!(faults("app/loose.rs", &[]), 1);
}
