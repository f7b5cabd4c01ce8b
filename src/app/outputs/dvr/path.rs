//! The names of recordings: the variables of `dvr_path`, as in SRS.
//!
//! | variable | value |
//! |---|---|
//! | `[vhost]`, `[app]`, `[stream]` | names of the stream |
//! | `[2006]`, `[01]`, `[02]`, `[15]`, `[04]`, `[05]`, `[999]` | year, month, day, hour, minute, second, millisecond of the start |
//! | `[timestamp]` | the start in milliseconds since 1970 |

use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Local};

use crate::app::session::info::StreamInfo;

/// Longest name of a file or directory, in bytes, without what is appended to it: file systems allow 255.
const MAX_NAME: usize = 255 - 16;

const MAX_DEPTH: usize = 32;

/// Returns the directory of a `dvr_path` that no variable changes: all its recordings are below it.
pub(super) fn root(template: &str) -> PathBuf {
    let plain = template.split('[').next().unwrap_or_default();
    let directory = plain.rsplit_once('/').map_or(".", |(directory, _)| directory);
    // "/[app]" has the root of the file system.
    PathBuf::from(if directory.is_empty() { "/" } else { directory })
}

/// Returns the path of a recording that starts at `start`, below [`root`]. Errors: the reason why the stream has none.
pub(super) fn expand(template: &str, stream: &StreamInfo, start: SystemTime) -> Result<PathBuf, &'static str> {
    let time = DateTime::<Local>::from(start);
    let mut path = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((plain, after)) = rest.split_once('[') {
        path.push_str(plain);
        let Some((name, after_name)) = after.split_once(']') else {
            path.push('[');
            rest = after;
            continue;
        };
        match name {
            "vhost" => path.push_str(&stream.vhost),
            "app" => path.push_str(&stream.app),
            "stream" => path.push_str(&stream.stream),
            "2006" => path.push_str(&time.format("%Y").to_string()),
            "01" => path.push_str(&time.format("%m").to_string()),
            "02" => path.push_str(&time.format("%d").to_string()),
            "15" => path.push_str(&time.format("%H").to_string()),
            "04" => path.push_str(&time.format("%M").to_string()),
            "05" => path.push_str(&time.format("%S").to_string()),
            "999" => path.push_str(&format!("{:03}", time.timestamp_subsec_millis().min(999))),
            "timestamp" => path.push_str(&time.timestamp_millis().to_string()),
            other => path.push_str(&format!("[{other}]")),
        }
        rest = after_name;
    }
    path.push_str(rest);
    check(Path::new(&path), &root(template))
}

/// Checks that a path stays below its root and can be written.
fn check(path: &Path, root: &Path) -> Result<PathBuf, &'static str> {
    // `./` at the start is no component; one inside is dropped.
    let below = path.strip_prefix(root).or_else(|_| path.strip_prefix("./")).unwrap_or(path);
    let parts: Vec<_> = below.components().collect();
    if parts.is_empty() || parts.len() > MAX_DEPTH {
        return Err("the name has too many directories");
    }
    for part in parts {
        match part {
            Component::Normal(name) if name.len() > MAX_NAME => return Err("the name is too long"),
            Component::Normal(_) => {}
            _ => return Err("the file would be outside of dvr_path"),
        }
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("the name contains a zero byte");
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn stream(app: &str, stream: &str) -> StreamInfo {
        StreamInfo {
            vhost: "v.com".to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
            name: String::new(),
            params: String::new(),
        }
    }

    #[test]
    fn variables_are_replaced() {
        let start = UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        let of =
            |template: &str| expand(template, &stream("live", "cam/1"), start).map(|path| path.display().to_string());
        assert_eq!(of("./html/[app]/[stream].[timestamp].flv").unwrap(), "./html/live/cam/1.1700000000042.flv");
        assert_eq!(of("/rec/[vhost]/[app]-x[999].flv").unwrap(), "/rec/v.com/live-x042.flv");
        assert_eq!(of("/rec/[what]/[a.flv").unwrap(), "/rec/[what]/[a.flv");
        let local = DateTime::<Local>::from(start).format("%Y-%m-%d/%H.%M.%S").to_string();
        assert_eq!(of("[2006]-[01]-[02]/[15].[04].[05].flv").unwrap(), format!("{local}.flv"));
    }

    #[test]
    fn the_root_has_no_variable() {
        for (template, expected) in [
            ("./objs/nginx/html/[app]/[stream].flv", "./objs/nginx/html"),
            ("/data/rec-[app]/[stream].flv", "/data"),
            ("[app]/[stream].flv", "."),
            ("/[app].flv", "/"),
            ("a.flv", "."),
        ] {
            assert_eq!(root(template), Path::new(expected), "{template}");
        }
    }

    #[test]
    fn names_stay_below_the_root() {
        let of = |app: &str, name: &str| expand("/rec/[app]/[stream].flv", &stream(app, name), UNIX_EPOCH);
        assert!(of("a", "b").is_ok() && of("a/b", "c/d").is_ok());
        for (app, name) in [("..", "x"), ("a/../..", "x"), ("a", "../../x"), ("a", "b\0c")] {
            assert!(of(app, name).is_err(), "{app} {name}");
        }
        assert!(of("a", &"x".repeat(250)).is_err());
        assert!(of(&"a/".repeat(40), "x").is_err());
    }
}
