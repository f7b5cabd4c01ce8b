//! The names of a stream in the arguments of a program.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

use crate::app::session::info::StreamInfo;

/// Characters with a meaning to ffmpeg or in a path: patterns of file names, separators of outputs, options after a blank.
const FORBIDDEN: &[char] = &['|', '\\', '"', '\'', '`', '<', '>', '*', '$', '%', '#', '[', ']', '{', '}', ';'];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) vhost: String,
    pub(super) app: String,
    pub(super) stream: String,
    pub(super) params: String,
    /// The path of a recording that is complete.
    pub(super) file: Option<String>,
    pub(super) address: String,
    pub(super) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("the name {0:?} contains a blank or one of {FORBIDDEN:?}, which would change the command")]
    Forbidden(String),
    #[error("the argument {0:?} would be an option, since the name begins with a dash")]
    Option(String),
}

impl Names {
    pub(super) fn new(stream: &StreamInfo, address: String, port: u16) -> Self {
        let StreamInfo { vhost, app, stream, params, .. } = stream.clone();
        Self { vhost, app, stream, params, file: None, address, port }
    }

    /// Returns the URL at which this server plays the stream, or another one of the same application. The form with the vhost at
    /// the end is the only one that ffmpeg splits right when names contain slashes.
    pub(super) fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{}/{stream}?vhost={}", self.address, self.app, self.vhost)
    }

    pub(super) fn input(&self) -> String {
        self.url(&self.stream)
    }

    /// Replaces the variables of a template. Fails when a name would change the command: only the operator decides about options.
    pub(super) fn expand(&self, template: &str, engine: &str, time: SystemTime) -> Result<String, NameError> {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find('[') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let variable = rest.find(']').map(|end| &rest[1..end]);
            match variable.and_then(|name| Some((name, self.value(name, engine, time)?))) {
                Some((name, value)) => {
                    let by_client = match name {
                        "vhost" | "app" | "stream" | "param" | "url" => Some(value.clone()),
                        // The rest of its path is the operator's.
                        "file" => Some(format!("{}/{}", self.app, self.stream)),
                        _ => None,
                    };
                    if let Some(text) = by_client.filter(|text| !is_safe_value(text)) {
                        return Err(NameError::Forbidden(text));
                    }
                    text.push_str(&value);
                    rest = &rest[name.len() + 2..];
                }
                // Filters have brackets too.
                None => {
                    text.push('[');
                    rest = &rest[1..];
                }
            }
        }
        text.push_str(rest);
        if text.starts_with('-') && !template.starts_with('-') {
            return Err(NameError::Option(text));
        }
        Ok(text)
    }

    fn value(&self, name: &str, engine: &str, time: SystemTime) -> Option<String> {
        let format = |format: &str| DateTime::<Local>::from(time).format(format).to_string();
        Some(match name {
            "vhost" => self.vhost.clone(),
            "app" => self.app.clone(),
            "stream" => self.stream.clone(),
            "param" if self.params.is_empty() => String::new(),
            "param" => format!("?{}", self.params),
            "engine" => engine.to_owned(),
            "port" => self.port.to_string(),
            "url" => self.input(),
            "file" => return self.file.clone(),
            "2006" => format("%Y"),
            "01" => format("%m"),
            "02" => format("%d"),
            "15" => format("%H"),
            "04" => format("%M"),
            "05" => format("%S"),
            "999" => format("%3f"),
            "timestamp" => time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string(),
            _ => return None,
        })
    }
}

fn is_safe_value(value: &str) -> bool {
    !value.chars().any(|c| c.is_whitespace() || c.is_control() || FORBIDDEN.contains(&c))
}

/// Returns a name for a file: slashes and all that is not plain become `_`, and its length has a bound.
pub(super) fn file_name(words: &[&str], suffix: &str) -> String {
    /// File systems allow 255 bytes, and `.1` is appended.
    const MAX_NAME: usize = 200;
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join("-");
    let mut name: String = name.chars().map(plain).collect();
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    name.truncate(end);
    name + suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stream: &str, params: &str) -> Names {
        let text = str::to_owned;
        let (vhost, app, address) = (text("v.com"), text("live"), text("127.0.0.1:1936"));
        Names { vhost, app, stream: text(stream), params: text(params), file: None, address, port: 1936 }
    }

    fn expand(names: &Names, template: &str) -> Result<String, NameError> {
        names.expand(template, "hd", UNIX_EPOCH)
    }

    #[test]
    fn variables_are_those_of_srs() {
        let names = names("a/b", "k=1");
        for (template, expected) in [
            (
                "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost]",
                "rtmp://127.0.0.1:1936/live/a/b_hd?vhost=v.com",
            ),
            ("[stream][param]", "a/b?k=1"),
            ("[url]", "rtmp://127.0.0.1:1936/live/a/b?vhost=v.com"),
            ("[timestamp]", "0"),
            ("[0:v]scale=2[out];[x", "[0:v]scale=2[out];[x"),
            ("[[app]]", "[live]"),
            ("[999]", "000"),
            ("", ""),
        ] {
            assert_eq!(expand(&names, template).as_deref(), Ok(expected), "{template}");
        }
        let time = expand(&names, "[2006]-[01]-[02] [15]:[04]:[05]").unwrap();
        assert_eq!(time.len(), 19, "{time}");
        assert_eq!(expand(&self::names("a", ""), "[stream][param]").as_deref(), Ok("a"));
        assert_eq!(expand(&self::names("a", ""), "[file]").as_deref(), Ok("[file]"), "only a recording has one");
        let recorded =
            |stream: &str| Names { file: Some(format!("./My films/{stream}.flv")), ..self::names(stream, "") };
        assert_eq!(expand(&recorded("a"), "[file]").as_deref(), Ok("./My films/a.flv"));
        assert!(expand(&recorded("a|b"), "[file]").is_err());
    }

    #[test]
    fn a_name_changes_no_command() {
        for name in ["a b", "a|b", "%d", "a\tb", "a;b", "$(x)", "`x`", "a\"b", "[app]"] {
            assert!(expand(&names(name, ""), "x/[stream]").is_err(), "{name}");
            assert!(expand(&names("a", name), "x/[param]").is_err(), "{name}");
            assert!(expand(&names(name, name), "x").is_ok(), "it is not used");
        }
        assert!(expand(&names("-i", ""), "[stream]").is_err());
        assert_eq!(expand(&names("-i", ""), "x/[stream]").as_deref(), Ok("x/-i"));
        assert_eq!(expand(&names("i", ""), "-[stream]").as_deref(), Ok("-i"));
        assert!(expand(&names("日本語@~!é", "a=b&c=%20"), "[stream]").is_ok());
    }

    #[test]
    fn files_have_plain_and_short_names() {
        assert_eq!(file_name(&["ffmpeg-encoder", "v", "a/b", "s", ""], ".log"), "ffmpeg-encoder-v-a_b-s.log");
        assert_eq!(file_name(&["../x", "\n"], ".log"), ".._x-_.log");
        let long = file_name(&["é".repeat(300).as_str()], ".log");
        assert!(long.len() <= 204 && long.ends_with("é.log"), "{long}");
    }
}
