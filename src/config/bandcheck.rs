//! `bandcheck`: bandwidth tests of a vhost.

use std::time::Duration;

use super::api_token::Secret;
use super::error::Reason;
use super::reader::{Reader, Section};

/// Characters that end a key within a URL.
const SEPARATORS: [char; 5] = ['&', ',', '?', '#', '/'];

/// Bandwidth tests of a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandcheck {
    /// `enabled`: the vhost is for bandwidth tests, and for nothing else.
    pub enabled: bool,
    /// `key`: the secret of those who may test; not empty if enabled.
    pub key: Secret,
    /// `interval`: time between the starts of two tests.
    pub interval: Duration,
    /// `interval_per_address`: the same for the tests of one address.
    pub interval_per_address: Duration,
    /// `limit_kbps`: bit rate of a test in each direction; 0 means no limit.
    pub limit_kbps: u64,
    /// `max_tests`: tests at a time.
    pub max_tests: usize,
}

impl Bandcheck {
    /// Reads the block; `at` is its position.
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, at: Option<&str>) -> Bandcheck {
        let bandcheck = Bandcheck {
            enabled: reader.switch(section, "enabled"),
            key: Secret(reader.text(section, "key").unwrap_or_default()),
            interval: reader.duration(section, "interval"),
            interval_per_address: reader.duration(section, "interval_per_address"),
            limit_kbps: reader.number(section, "limit_kbps"),
            max_tests: reader.size(section, "max_tests"),
        };
        let at = |name| section.position(name).or(at).unwrap_or("the configuration").to_owned();
        let key = bandcheck.key.expose();
        if bandcheck.enabled && key.is_empty() {
            reader.problem(at("enabled"), Reason::NoBandcheckKey);
        } else if key.contains(SEPARATORS) || key.contains("...") {
            reader.problem(at("key"), Reason::BadBandcheckKey);
        }
        bandcheck
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(block: &str) -> Result<Bandcheck, String> {
        let text = format!("listen 1935;\nvhost bandcheck.srs.com {{\nchunk_size 65000;\nbandcheck {{\n{block}\n}} }}");
        let config = Config::parse("t", &text).map_err(|error| error.to_string())?;
        config.vhost("bandcheck.srs.com").map(|vhost| vhost.bandcheck.clone()).ok_or_else(String::new)
    }

    #[test]
    fn the_block_of_the_original_is_understood() {
        let bandcheck =
            parse("enabled on; key \"35c9b402c12a7246868752e2878f7e0e\"; interval 30; limit_kbps 4000;").unwrap();
        assert_eq!(bandcheck.key.expose(), "35c9b402c12a7246868752e2878f7e0e");
        assert_eq!((bandcheck.interval, bandcheck.limit_kbps), (Duration::from_secs(30), 4000));
        assert!(!parse("").unwrap().enabled, "off by default, and without a key then");
        assert!(!format!("{bandcheck:?}").contains("35c9b4"), "the key is shown nowhere");
    }

    #[test]
    fn a_test_needs_a_key() {
        let error = parse("enabled on;").unwrap_err();
        assert_eq!(
            error,
            "t:5: bandcheck has no key, so everybody could use the bandwidth of this machine; add e.g. \"key SECRET;\""
        );
        for key in ["a,b", "a&b", "a?b", "a/b", "a...b", "'a#b'"] {
            let error = parse(&format!("enabled on; key {key};")).unwrap_err();
            assert!(error.starts_with("t:5: the key of bandcheck stands in a URL"), "{key}: {error}");
        }
        assert!(parse("enabled on; key '';").unwrap_err().contains("\"key\" must be a word"));
    }
}
