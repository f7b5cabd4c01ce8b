//! The texts about a kind: in error messages, and in the reference.

use super::Kind;
use crate::config::units::{format_size, format_thousandths, format_time};

impl Kind {
    /// Returns the number of words, for "takes …".
    pub(in crate::config) fn count(self) -> &'static str {
        match self {
            Kind::Addresses
            | Kind::Hosts
            | Kind::Targets
            | Kind::Streams
            | Kind::Mounts
            | Kind::Urls
            | Kind::Networks => "one value or more",
            Kind::Command => "a program and its arguments",
            Kind::Heights => "one value or more",
            Kind::Rule => "two values",
            Kind::Token => "three values",
            _ => "one value",
        }
    }

    /// Returns the valid words, for "must be …".
    pub(in crate::config) fn expected(self) -> String {
        match self {
            Kind::Switch => "on or off".to_owned(),
            Kind::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Kind::Ratio { min, max } => {
                format!("a number from {} to {}", format_thousandths(min), format_thousandths(max))
            }
            Kind::Time { min, max, bare } => {
                let (min, max, unit) = (format_time(min), format_time(max), bare.name());
                format!("a time from {min} to {max} (a number without a unit means {unit})")
            }
            Kind::Size { min, max } => format!("a number of bytes from {} to {}", format_size(min), format_size(max)),
            Kind::Memory { max } => {
                format!("a number of bytes from 0 to {}, or a share from 1% to 100%", format_size(max))
            }
            Kind::Choice([all @ .., last]) => format!("{} or {last}", all.join(", ")),
            Kind::Choice([]) | Kind::Path(_) => "the path of a file".to_owned(),
            Kind::Addresses => {
                "a port from 1 to 65535, or an address and a port, optionally followed by \"reuseport\"".to_owned()
            }
            Kind::Hosts => "a host name, without scheme, port and path".to_owned(),
            Kind::Targets => "a host, a host and a port, or rtmp://HOST[:PORT][/APP[/STREAM]][?PARAMETERS]".to_owned(),
            Kind::Streams => "all, or APP/STREAM".to_owned(),
            Kind::Mounts => "[vhost]/[app]/[stream].flv, with a directory before [app] or without".to_owned(),
            Kind::Urls => "http://HOST[:PORT][/PATH][?QUERY], or the same with https".to_owned(),
            Kind::Networks => "an address, a network such as 10.0.0.0/8, or all".to_owned(),
            Kind::Text { .. } => "a word; put it in quotes if it contains blanks or any of ; { } #".to_owned(),
            Kind::Token => "a name, then read, kick or admin, then the secret".to_owned(),
            Kind::Rule => "publish or play, then an address, a network such as 10.0.0.0/8, or all".to_owned(),
            Kind::Command => "a program and its arguments; no shell is involved".to_owned(),
            Kind::Heights => "an even height of a picture from 16p to 8192p, such as 720p".to_owned(),
        }
    }

    /// Returns the placeholder of the words in the reference.
    pub(in crate::config) fn syntax(self) -> String {
        match self {
            Kind::Switch => "on | off".to_owned(),
            Kind::Number { .. } | Kind::Ratio { .. } => "NUMBER".to_owned(),
            Kind::Time { .. } => "TIME".to_owned(),
            Kind::Size { .. } => "BYTES".to_owned(),
            Kind::Memory { .. } => "BYTES | PERCENT%".to_owned(),
            Kind::Choice(words) => words.join(" | "),
            Kind::Path(placeholder) | Kind::Text { name: placeholder, .. } => placeholder.to_owned(),
            Kind::Token => "NAME read | kick | admin SECRET".to_owned(),
            Kind::Addresses => "[ADDRESS:]PORT [reuseport] ...".to_owned(),
            Kind::Hosts => "HOST ...".to_owned(),
            Kind::Targets => "HOST[:PORT] | URL ...".to_owned(),
            Kind::Streams => "all | APP/STREAM ...".to_owned(),
            Kind::Mounts => "[vhost]/[DIRECTORY/][app]/[stream].flv ...".to_owned(),
            Kind::Urls => "URL ...".to_owned(),
            Kind::Networks => "ADDRESS | NETWORK | all ...".to_owned(),
            Kind::Rule => "publish | play ADDRESS | NETWORK | all".to_owned(),
            Kind::Command => "PROGRAM ARGUMENT ...".to_owned(),
            Kind::Heights => "HEIGHTp ...".to_owned(),
        }
    }

    /// Returns the range for the reference, with its unit; none for kinds without one.
    pub(in crate::config) fn range(self) -> Option<String> {
        Some(match self {
            Kind::Number { min, max, unit } => format!("{min} to {max} {unit}").trim_end().to_owned(),
            Kind::Ratio { min, max } => format!("{} to {}", format_thousandths(min), format_thousandths(max)),
            Kind::Time { min, max, bare } => {
                format!("{} to {}; without a unit: {}", format_time(min), format_time(max), bare.name())
            }
            Kind::Size { min, max } => format!("{} to {}", format_size(min), format_size(max)),
            Kind::Memory { max } => format!("0 to {}, or 1% to 100%", format_size(max)),
            _ => return None,
        })
    }
}
