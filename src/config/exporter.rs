//! `exporter`: metrics on an address of their own.

use super::error::Reason;
use super::http_api::{ApiAuth, NO_HTTP};
use super::listen::Listen;
use super::reader::{Reader, Section};

/// Metrics for Prometheus on an address of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Exporter {
    /// `enabled`.
    pub enabled: bool,
    /// `listen`: addresses; at least one, without duplicates, none used for other protocols. None but loopback
    /// addresses without [`ApiAuth`].
    pub listen: Vec<Listen>,
    /// `max_streams`: streams with metrics of their own, here and at `/metrics` of the API.
    pub max_streams: usize,
    /// `label` of `srs_build_info`; empty if there is none.
    pub label: String,
    /// `tag` of `srs_build_info`; empty if there is none.
    pub tag: String,
}

impl Exporter {
    /// Returns whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        self.listen.iter().all(|listen| listen.address.ip().to_canonical().is_loopback())
    }

    /// Reads the block. `used` are the addresses of other protocols; `auth` says who may read.
    pub(super) fn read(
        reader: &mut Reader,
        section: Section<'_>,
        used: &[Listen],
        auth: &ApiAuth,
        file_name: &str,
    ) -> Self {
        let mut exporter = Self {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            max_streams: reader.size(section, "max_streams"),
            label: reader.text(section, "label").unwrap_or_default(),
            tag: reader.text(section, "tag").unwrap_or_default(),
        };
        if exporter.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_used = |listen: &&Listen| used.iter().any(|other| other.address == listen.address);
            if let Some(taken) = exporter.listen.iter().find(is_used) {
                reader.problem(at("listen"), Reason::PortOfExporter(taken.address));
            } else if !cfg!(feature = "http") {
                reader.warn(at("enabled"), NO_HTTP);
                exporter.enabled = false;
            } else {
                auth.check(reader, &exporter.listen, || at("listen"));
            }
        }
        exporter
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::super::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse("t", &format!("listen 1935; vhost a {{ }}\n{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_free_and_not_open_by_mistake() {
        let config = parse("exporter { enabled on; }").unwrap();
        assert_eq!(config.exporter.listen[0].to_string(), "127.0.0.1:9972");
        assert!(config.exporter.is_local());
        let error = parse("exporter { enabled on; listen 1935; }").unwrap_err();
        assert!(error.contains("t:2: 0.0.0.0:1935 is already used"), "{error}");
        let api = "http_api { enabled on; listen 127.0.0.1:9972; }";
        assert!(parse(&format!("{api} exporter {{ enabled on; }}")).unwrap_err().contains("already used"));
        let error = parse("exporter { enabled on; listen 9972; }").unwrap_err();
        assert!(error.contains("anybody who reaches 0.0.0.0:9972"), "{error}");
        let config = parse("http_api { auth none; } exporter { enabled on; listen 127.0.0.1:9972 9973; }").unwrap();
        assert!(!config.exporter.is_local());
        assert!(!parse("exporter { }").unwrap().exporter.enabled);
    }
}
