//! `rtmps`: RTMP over TLS.

use std::path::PathBuf;

use super::error::Reason;
use super::listen::Listen;
use super::reader::{Reader, Section};

/// RTMP over TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct Rtmps {
    /// `enabled`. Always off in a build without `ssl`.
    pub enabled: bool,
    /// `listen`: addresses; at least one, without duplicates, none used for other protocols.
    pub listen: Vec<Listen>,
    /// `cert`: PEM file with the certificate and the intermediate ones; relative to the working directory.
    pub cert: PathBuf,
    /// `key`: PEM file with the private key.
    pub key: PathBuf,
    /// `plain`: serve RTMP without TLS on the same addresses.
    pub plain: bool,
}

impl Rtmps {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, plain: &[Listen], file_name: &str) -> Rtmps {
        let rtmps = Rtmps {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            cert: reader.path(section, "cert"),
            key: reader.path(section, "key"),
            plain: reader.switch(section, "plain"),
        };
        if rtmps.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_used = |listen: &&Listen| plain.iter().any(|plain| plain.address == listen.address);
            if let Some(used) = rtmps.listen.iter().find(is_used) {
                reader.problem(at("listen"), Reason::PortWithoutTls(used.address));
            }
            if !cfg!(feature = "ssl") {
                reader.problem(at("enabled"), Reason::NoSsl);
            }
        }
        rtmps
    }
}
