//! `stream_keys`: the file of the keys with which encoders may publish.
//!
//! One key a line, `KEY [NAME] [MAX_BITRATE] [ADDRESS]...`; text behind a `#` is a comment. Keys are kept as SHA-256: a look-up
//! takes the same time for every wrong key, and no output of the program can contain one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::api_token::Secret;
use super::network::Network;

/// Maximum size of the file in bytes: about 200,000 keys.
const MAX_BYTES: u64 = 16 << 20;

/// Maximum length of a key or a name in bytes: that of a stream's name.
const MAX_NAME: usize = 255;

/// Greatest bit rate in kbit/s, as in `publish`.
const MAX_KBPS: u64 = 100_000_000;

/// The word for a name that is not given although something follows it.
const NO_NAME: &str = "-";

type Hash = [u8; 32];

/// The keys of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKeys {
    keys: HashMap<Hash, StreamKey>,
    /// The hash of the whole file.
    content: Hash,
}

/// The rights that a key gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamKey {
    /// The public name of the stream. None: the publisher chooses it.
    pub name: Option<String>,
    /// Bit rate in kbit/s above which the publisher is disconnected.
    pub max_bitrate: Option<u64>,
    /// The addresses from which it may be used; empty for all.
    pub networks: Vec<Network>,
}

impl StreamKeys {
    /// Reads a file. Errors: the problem, with file and line and without any key.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("cannot read the stream keys of {shown}: {error}"))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("the stream keys of {shown} have more than {MAX_BYTES} bytes"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is not UTF-8 text; save it as UTF-8"))?;
        Self::parse(text).map_err(|(line, problem)| format!("{shown}:{line}: {problem}"))
    }

    /// Parses the text of a file. Errors: the line and the problem.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut keys = HashMap::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            let at = |problem: String| (index + 1, problem);
            let parsed = StreamKey::parse(words).map_err(at)?;
            if key.len() > MAX_NAME {
                return Err(at(format!("the key has more than {MAX_NAME} bytes")));
            }
            match keys.entry(hash(key)) {
                Entry::Vacant(entry) => drop(entry.insert(parsed)),
                Entry::Occupied(_) => return Err(at("the key stands on an earlier line too; remove one".to_owned())),
            }
        }
        Ok(Self { keys, content: hash(text) })
    }

    /// Returns the rights that a key gives, if there is such a key.
    pub fn find(&self, key: &str) -> Option<&StreamKey> {
        self.keys.get(&hash(key))
    }

    /// Returns a text that is another one when the file has changed, to be compared only.
    pub(super) fn version(&self) -> Secret {
        Secret(self.content.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for StreamKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamKeys({})", self.keys.len())
    }
}

impl StreamKey {
    /// Parses the words behind a key.
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut words = words.peekable();
        let name = words.next().filter(|name| *name != NO_NAME);
        if let Some(name) = name {
            check_name(name)?;
        }
        let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        let max_bitrate = match words.next_if(is_number) {
            None => None,
            Some(number) => match number.parse() {
                Ok(0) => None,
                Ok(kbps) if kbps <= MAX_KBPS => Some(kbps),
                _ => return Err(format!("the bit rate must be a number of kbit/s from 0 to {MAX_KBPS}")),
            },
        };
        let network = |word: &str| {
            Network::parse(word).ok_or_else(|| {
                format!("{word:?} is no address; KEY [NAME] [MAX_BITRATE] [ADDRESS]... is expected, with - for no name")
            })
        };
        let addresses = words.flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
        Ok(Self {
            name: name.map(str::to_owned),
            max_bitrate,
            networks: addresses.map(network).collect::<Result<_, _>>()?,
        })
    }
}

/// Checks a public name as the names that clients send are checked.
fn check_name(name: &str) -> Result<(), String> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part.contains("..");
    let is_bad = name.len() > MAX_NAME || name.contains(['?', '\\']) || name.split('/').any(bad_part);
    if is_bad { Err(format!("{name:?} cannot be the name of a stream")) } else { Ok(()) }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# Encoders\r\n\u{a0}\nk3y-1 cam\nk3y-2\tgate 6000 # the gate\n\nk3y-3 - 0 10.0.0.0/8,::1 192.0.2.1\nk3y-4";

    #[test]
    fn a_line_has_a_key_and_perhaps_a_name_a_bit_rate_and_addresses() {
        let keys = StreamKeys::parse(FILE).unwrap();
        let found = |key| keys.find(key).unwrap();
        assert_eq!((found("k3y-1").name.as_deref(), found("k3y-1").max_bitrate), (Some("cam"), None));
        assert_eq!((found("k3y-2").name.as_deref(), found("k3y-2").max_bitrate), (Some("gate"), Some(6000)));
        let third = found("k3y-3");
        assert_eq!((third.name.as_deref(), third.max_bitrate, third.networks.len()), (None, None, 3));
        assert_eq!(found("k3y-4"), &StreamKey { name: None, max_bitrate: None, networks: vec![] });
        for none in ["", "cam", "k3y", "k3y-1 ", "K3Y-1", "#"] {
            assert!(keys.find(none).is_none(), "{none:?}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_without_the_key() {
        for (text, due) in [
            ("a\nhush\nhush b", (3, "earlier line")),
            ("hush ../b", (1, "cannot be the name")),
            ("hush b?c", (1, "cannot be the name")),
            ("hush b 5 somewhere", (1, "\"somewhere\" is no address")),
            ("hush b 99999999999999999999", (1, "the bit rate must be")),
            ("hush b 10.0.0.0/33", (1, "is no address")),
        ] {
            let (line, problem) = StreamKeys::parse(text).unwrap_err();
            assert!(line == due.0 && problem.contains(due.1) && !problem.contains("hush"), "{text}: {line} {problem}");
        }
        let long = format!("\n{} a", "k".repeat(256));
        assert_eq!(StreamKeys::parse(&long).unwrap_err().0, 2);
        let missing = StreamKeys::load(Path::new("/nowhere/keys")).unwrap_err();
        assert!(missing.contains("/nowhere/keys"), "{missing}");
    }

    #[test]
    fn no_output_shows_a_key() {
        let keys = StreamKeys::parse(FILE).unwrap();
        assert_eq!(format!("{keys:?}"), "StreamKeys(4)");
        assert!(keys.version() != StreamKeys::parse(&format!("{FILE}x")).unwrap().version());
    }
}
