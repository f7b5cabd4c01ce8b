//! Environment variables as a source of the `config` crate: `SRS_LISTEN` overrides the `listen` of the file.
//!
//! | variable | directive |
//! |---|---|
//! | `SRS_MAX_CONNECTIONS` | `max_connections` |
//! | `SRS_SRS_LOG_FILE` or `SRS_LOG_FILE` | `srs_log_file` |
//! | `SRS_PITHY_PRINT_PLAY` | `pithy_print { play }` |
//! | `SRS_VHOST_LIVE_EXAMPLE_COM_PUBLISH_TIMEOUT` | `vhost live.example.com { publish { timeout } }`, if the file has it |
//! | `SRS_VHOST_DEFAULTVHOST_GOP_CACHE` | `vhost __defaultVhost__ { gop_cache }` |
//! | `SRS_VHOST_HLS_ENABLED` | `hls { enabled }` of all vhosts of the file, as in SRS |
//!
//! Values are the words of the file without the `;`. Empty variables are ignored.

use std::ffi::OsString;

use ::config::{ConfigError, Map, Source, Value, ValueKind};

use super::error::{Error, Problem, Reason};
use super::schema::{BlockKind, Shape};
use super::table::rows;

const PREFIX: &str = "SRS_";

/// Prefix of the variables of this project's tests, which are ignored.
const TEST_PREFIX: &str = "SRS_TEST_";

/// The settings of the environment, as a tree like that of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    table: Map<String, Value>,
    /// Unknown variables: the origin and the warning.
    pub(super) warnings: Vec<(String, String)>,
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.table.clone())
    }
}

impl Environment {
    /// Reads the variables whose names begin with `SRS_`, for a file with these vhosts.
    pub(super) fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        vhosts: &[&str],
    ) -> Result<Environment, Error> {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let name =
                name.into_string().ok().filter(|name| name.starts_with(PREFIX) && !name.starts_with(TEST_PREFIX))?;
            (!value.is_empty()).then_some((name, value))
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort();
        let mut environment = Environment::default();
        let mut problems = Vec::new();
        for (name, value) in ours {
            let origin = format!("environment variable {name}");
            let mut problem = |text: String| problems.push(Problem { at: origin.clone(), reason: Reason::Other(text) });
            let Ok(value) = value.into_string() else {
                problem("the value is not UTF-8 text".to_owned());
                continue;
            };
            let mut paths = matching_paths(&name[PREFIX.len()..], vhosts);
            match (paths.pop(), paths.len()) {
                (Some(path), 0) => insert(&mut environment.table, &path, Value::new(Some(&origin), value)),
                (Some(_), _) => problem("several directives have this name; set the directive in the file".to_owned()),
                (None, _) if !paths_in_all_vhosts(&name, vhosts).is_empty() => {
                    for path in paths_in_all_vhosts(&name, vhosts) {
                        insert(&mut environment.table, &path, Value::new(Some(&origin), value.clone()));
                    }
                }
                (None, _) => {
                    let hint = if name.starts_with("SRS_VHOST_") { ", in any vhost of the file" } else { "" };
                    let text = format!("no directive has this name{hint}: ignored; e.g. SRS_LISTEN sets \"listen\"");
                    environment.warnings.push((origin, text));
                }
            }
        }
        Error::of_problems(problems)?;
        Ok(environment)
    }
}

/// Returns the paths of the settings that a variable may set: the names of blocks, then that of the setting.
fn matching_paths(name: &str, vhosts: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for_each_setting(BlockKind::Root, &mut Vec::new(), &mut |path| {
        let plain = variable_name(&path.join("_"));
        // SRS_SRS_LOG_FILE, or shorter.
        if plain == name || plain.strip_prefix(PREFIX) == Some(name) {
            found.push(path.to_vec());
        }
    });
    let Some(name) = name.strip_prefix("VHOST_").map(variable_name) else { return found };
    for vhost in vhosts {
        let Some(name) = name.strip_prefix(&variable_name(vhost)).and_then(|rest| rest.strip_prefix('_')) else {
            continue;
        };
        for_each_setting(BlockKind::Vhost, &mut vec!["vhost".to_owned(), (*vhost).to_owned()], &mut |path| {
            if variable_name(&path[2..].join("_")) == name {
                found.push(path.to_vec());
            }
        });
    }
    found
}

/// Returns the paths of the settings that a variable sets in the manner of SRS, without the name of a vhost.
fn paths_in_all_vhosts(name: &str, vhosts: &[&str]) -> Vec<Vec<String>> {
    let Some(name) = name.strip_prefix("SRS_VHOST_") else { return Vec::new() };
    // The block `play` of SRS is a part of the vhost here.
    let name = name.strip_prefix("PLAY_").unwrap_or(name);
    let mut found = Vec::new();
    for vhost in vhosts {
        for_each_setting(BlockKind::Vhost, &mut vec!["vhost".to_owned(), (*vhost).to_owned()], &mut |path| {
            if variable_name(&path[2..].join("_")) == name {
                found.push(path.to_vec());
            }
        });
    }
    found
}

/// Returns the part of a variable's name for a name: `DEFAULTVHOST` for `__defaultVhost__`, `A_B_C` for `a-b.c`.
fn variable_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_uppercase()
}

/// Calls `f` with the path of each setting of a block and its inner blocks.
fn for_each_setting(kind: BlockKind, path: &mut Vec<String>, f: &mut impl FnMut(&[String])) {
    for row in rows(kind) {
        path.push(row.name.to_owned());
        if matches!(row.shape, Shape::Setting { .. } | Shape::Either { .. }) {
            f(path);
        }
        if let Shape::Block(inner) | Shape::Either { block: inner, .. } = row.shape {
            for_each_setting(inner, path, f);
        }
        path.pop();
    }
}

/// Inserts a value at a path, and creates the tables on the way.
fn insert(table: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => drop(table.insert(name.clone(), value)),
        [name, rest @ ..] => {
            let slot = table.entry(name.clone()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
            if !matches!(slot.kind, ValueKind::Table(_)) {
                slot.kind = Map::<String, Value>::new().into();
            }
            if let ValueKind::Table(inner) = &mut slot.kind {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Action, Config};

    const FILE: &str = "listen 1935; max_connections 7; pithy_print { publish 200; }
        vhost __defaultVhost__ { gop_cache on; publish { stall_timeout 2; } }
        vhost live-1.Example.com { security { enabled on; allow play all; allow publish all; } }";

    fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Config::parse_with("a.conf", FILE, variables).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_go_over_the_file() {
        let config = with(&[
            ("SRS_LISTEN", "1936 127.0.0.1:1937"),
            ("SRS_LOG_FILE", "/var/log/my srs.log"),
            ("SRS_SRS_LOG_LEVEL", "warn"),
            ("SRS_PITHY_PRINT_PLAY", "500"),
            ("SRS_VHOST_DEFAULTVHOST_GOP_CACHE", "off"),
            ("SRS_VHOST___DEFAULTVHOST___PUBLISH_TIMEOUT", "9"),
            ("SRS_VHOST_LIVE_1_EXAMPLE_COM_SECURITY_ALLOW", "play 10.0.0.0/8"),
            ("SRS_VHOST_LIVE_1_EXAMPLE_COM_REFER_PLAY", "a.b c.d"),
            ("SRS_MAX_CONNECTIONS", ""),
            ("SRS_TEST_SKIP_MISSING", "1"),
            ("HOME", "/"),
        ])
        .unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.log.file.to_str(), Some("/var/log/my srs.log"));
        assert_eq!(config.log.level, super::super::LogLevel::Warn);
        assert_eq!(config.max_connections, 7, "an empty variable is ignored");
        assert_eq!(config.pithy_print.play, Duration::from_millis(500));
        assert_eq!(config.pithy_print.publish, Duration::from_millis(200), "what stands beside it stays");
        let vhost = config.vhost("any").unwrap();
        assert!(!vhost.gop_cache);
        assert_eq!((vhost.publish.timeout.as_secs(), vhost.publish.stall_timeout.as_secs()), (9, 2));
        let vhost = config.vhost("live-1.example.com").unwrap();
        assert_eq!(vhost.refer_play, ["a.b", "c.d"]);
        assert!(vhost.security.enabled && vhost.security.allow.len() == 1);
        assert!(vhost.security.allows(Action::Play, "10.1.1.1".parse().unwrap()));
    }

    #[test]
    fn variables_of_srs_set_all_vhosts() {
        let config = with(&[
            ("SRS_VHOST_HLS_ENABLED", "on"),
            ("SRS_VHOST_HLS_HLS_FRAGMENT", "3"),
            ("SRS_VHOST_PLAY_MW_LATENCY", "120"),
            ("SRS_VHOST_TCP_NODELAY", "on"),
        ])
        .unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        for name in ["any", "live-1.example.com"] {
            let vhost = config.vhost(name).unwrap();
            assert!(vhost.tcp_nodelay && vhost.hls.enabled == cfg!(feature = "hls"), "{name}");
            assert_eq!((vhost.hls.fragment.as_secs(), vhost.mw_latency.as_millis()), (3, 120), "{name}");
        }
        let file = "listen 1935;";
        let config = Config::parse_with("t", file, [("SRS_VHOST_GOP_CACHE".into(), "off".into())]).unwrap();
        assert!(!config.vhost("any").unwrap().gop_cache);
    }

    #[test]
    fn what_is_wrong_names_the_variable() {
        for (name, value, expected) in [
            (
                "SRS_MAX_CONNECTIONS",
                "0",
                "\"max_connections\" must be a whole number from 1 to 1000000, not \"0\"; e.g. \"max_connections 1000;\"",
            ),
            (
                "SRS_VHOST_DEFAULTVHOST_GOP_CACHE",
                "on off",
                "\"gop_cache\" takes one value, not 2; e.g. \"gop_cache on;\" (players start at the last keyframe)",
            ),
        ] {
            assert_eq!(with(&[(name, value)]).unwrap_err(), format!("environment variable {name}: {expected}"));
        }
    }

    #[test]
    fn what_is_not_understood_is_warned_of() {
        let warnings = with(&[("SRS_LISTNE", "1"), ("SRS_VHOST_OTHER_GOP_CACHE", "on")]).unwrap().warnings;
        let example = "e.g. SRS_LISTEN sets \"listen\"";
        assert_eq!(
            warnings,
            [
                format!("environment variable SRS_LISTNE: no directive has this name: ignored; {example}"),
                format!(
                    "environment variable SRS_VHOST_OTHER_GOP_CACHE: no directive has this name, in any vhost of the \
                     file: ignored; {example}"
                ),
            ]
        );
        let file = "listen 1; vhost a.b { } vhost a-b { }";
        let variables = [("SRS_VHOST_A_B_GOP_CACHE".into(), "on".into())];
        let error = Config::parse_with("a.conf", file, variables).unwrap_err().to_string();
        assert!(error.ends_with("several directives have this name; set the directive in the file"), "{error}");
    }
}
