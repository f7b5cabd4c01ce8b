//! `http_api`: the HTTP API, and who may use it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::api_token::{ApiToken, Secret};
use super::error::Reason;
use super::listen::Listen;
use super::reader::{Reader, Section};

/// The warning of a build without the feature `http`. No error, since srs.conf uses it.
pub(super) const NO_HTTP: &str =
    "this server was built without its HTTP server: ignored; build it with ./configure --with-http";

/// The HTTP API.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpApi {
    /// `enabled`.
    pub enabled: bool,
    /// `listen`: addresses; at least one, without duplicates, none used for other protocols. None but loopback
    /// addresses without [`ApiAuth`].
    pub listen: Vec<Listen>,
    /// `crossdomain`: pages of other sites may use the API.
    pub crossdomain: bool,
    /// `auth`: who may use it.
    pub auth: ApiAuth,
    /// `enabled` of `raw_api`: the path `/api/v1/raw` of SRS.
    pub raw_enabled: bool,
    /// `allow_reload` of `raw_api`: it may reload the configuration.
    pub raw_reload: bool,
    /// `allow_query` of `raw_api`: it may show the configuration.
    pub raw_query: bool,
    /// `https`: the API over TLS.
    pub https: ApiHttps,
}

/// The API over TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiHttps {
    /// `enabled`. Off while the API is off, and in a build without `ssl`.
    pub enabled: bool,
    /// `listen`: addresses; at least one, without duplicates, none used for other protocols.
    pub listen: Vec<Listen>,
    /// `cert`: PEM file with the certificate and the intermediate ones; relative to the working directory.
    pub cert: PathBuf,
    /// `key`: PEM file with the private key.
    pub key: PathBuf,
}

/// The users of the API.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiAuth {
    /// Everybody who reaches a loopback address.
    Loopback,
    /// Everybody: `auth none;`.
    Open,
    /// Those who know a secret; at least one.
    Secrets {
        /// `username` and `password`, for [`ApiRole::Admin`](super::ApiRole::Admin).
        login: Option<(String, Secret)>,
        /// `token`.
        tokens: Vec<ApiToken>,
    },
}

impl HttpApi {
    /// Reads the block. `used` are the addresses of other protocols.
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, used: &[Listen], file_name: &str) -> Self {
        let raw = section.block("raw_api");
        let mut api = Self {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            crossdomain: reader.switch(section, "crossdomain"),
            auth: ApiAuth::read(reader, section, file_name),
            raw_enabled: reader.switch(raw, "enabled"),
            raw_reload: reader.switch(raw, "allow_reload"),
            raw_query: reader.switch(raw, "allow_query"),
            https: ApiHttps::read(reader, section.block("https")),
        };
        api.https.enabled &= api.enabled;
        if api.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_used = |listen: &&Listen| used.iter().any(|other| other.address == listen.address);
            if let Some(taken) = api.listen.iter().find(is_used) {
                reader.problem(at("listen"), Reason::PortOfApi(taken.address));
            } else if !cfg!(feature = "http") {
                reader.warn(at("enabled"), NO_HTTP);
                api.enabled = false;
            } else {
                api.auth.check(reader, &api.listen, || at("listen"));
            }
        }
        if api.https.enabled {
            let used: Vec<_> = used.iter().chain(&api.listen).copied().collect();
            api.https.check(reader, section.block("https"), &used, file_name);
            let at = || section.block("https").position("listen").unwrap_or(file_name).to_owned();
            api.auth.check(reader, &api.https.listen, at);
        }
        api
    }
}

impl ApiHttps {
    fn read(reader: &mut Reader, section: Section<'_>) -> Self {
        Self {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            cert: reader.path(section, "cert"),
            key: reader.path(section, "key"),
        }
    }

    /// Adds the problems of a block that is on. `used` are the addresses of other protocols.
    fn check(&mut self, reader: &mut Reader, section: Section<'_>, used: &[Listen], file_name: &str) {
        let at = |name| section.position(name).unwrap_or(file_name).to_owned();
        let is_used = |listen: &&Listen| used.iter().any(|other| other.address == listen.address);
        if let Some(taken) = self.listen.iter().find(is_used) {
            reader.problem(at("listen"), Reason::PortOfHttps(taken.address));
        }
        if !cfg!(feature = "ssl") {
            let text = "this server was built without TLS; build it with ./configure --with-ssl, or write \"enabled off;\" in https";
            reader.problem(at("enabled"), Reason::Other(text.to_owned()));
        }
        self.enabled &= cfg!(feature = "http");
    }
}

impl ApiAuth {
    /// Returns whether requests need a secret.
    pub fn needs_secret(&self) -> bool {
        matches!(self, Self::Secrets { .. })
    }

    fn read(reader: &mut Reader, section: Section<'_>, file_name: &str) -> Self {
        if !section.is_block("auth") {
            return if reader.choice(section, "auth") == "none" { Self::Open } else { Self::Loopback };
        }
        let block = section.block("auth");
        if !reader.switch(block, "enabled") {
            return Self::Loopback;
        }
        let (username, password) = (reader.text(block, "username"), reader.text(block, "password"));
        let tokens = reader.tokens(block, "token");
        let at = |name| block.position(name).or(section.position("auth")).unwrap_or(file_name).to_owned();
        let login = match (username, password) {
            (Some(username), Some(password)) => Some((username, Secret(password))),
            (None, None) => None,
            (Some(_), None) => {
                reader.problem(at("username"), Reason::HalfLogin { has: "username", lacks: "password" });
                None
            }
            (None, Some(_)) => {
                reader.problem(at("password"), Reason::HalfLogin { has: "password", lacks: "username" });
                None
            }
        };
        if login.is_none() && tokens.is_empty() {
            reader.problem(at("enabled"), Reason::NoCredentials);
        }
        Self::Secrets { login, tokens }
    }

    /// Adds a problem if the API would be open to other machines although nobody said that it may be.
    pub(super) fn check(&self, reader: &mut Reader, listen: &[Listen], at: impl FnOnce() -> String) {
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        let open = listen.iter().map(|listen| listen.address).find(|address| !is_local(address));
        if let (Self::Loopback, Some(address)) = (self, open) {
            reader.problem(at(), Reason::OpenApi(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ApiRole, Config};
    use super::*;

    fn parse(api: &str) -> Result<HttpApi, String> {
        let text = format!("listen 1935;\nhttp_api {{\nenabled on; {api}\n}}\nvhost __defaultVhost__ {{ }}");
        Config::parse("t", &text).map(|config| config.http_api).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_for_this_machine_only() {
        let api = parse("").unwrap();
        assert_eq!(api.listen[0].address.to_string(), "127.0.0.1:1985");
        assert_eq!((api.auth, api.crossdomain, api.raw_enabled), (ApiAuth::Loopback, false, false));
        assert!(!Config::parse("t", "listen 1935;").unwrap().http_api.enabled);
    }

    #[test]
    #[cfg(feature = "http")]
    fn an_open_api_has_to_be_meant() {
        let error = parse("\nlisten 1985;").unwrap_err();
        assert_eq!(
            error,
            "t:4: anybody who reaches 0.0.0.0:1985 could use the API: write \"listen 127.0.0.1:1985;\", or add a secret, \
             e.g. \"auth { enabled on; token ops admin SECRET; }\" in http_api (\"auth none;\" allows everybody)"
        );
        assert_eq!(parse("listen 1985; auth none;").unwrap().auth, ApiAuth::Open);
        assert_eq!(parse("listen [::1]:1985;").unwrap().auth, ApiAuth::Loopback);
        assert!(parse("listen 1985; auth { token a read s; }").is_err(), "it is off");
        let server = "listen 1; http_server { enabled on; listen 8080; api on; } vhost a { }";
        assert!(Config::parse("t", server).unwrap_err().to_string().contains("anybody who reaches 0.0.0.0:8080"));
        assert!(Config::parse("t", &format!("{server} http_api {{ auth none; }}")).is_ok());
    }

    #[test]
    fn secrets_are_read_and_never_shown() {
        let api =
            parse("listen 1985; auth { enabled on; username u; password \"p:q\"; token a read s1; token b kick s2; }")
                .unwrap();
        let ApiAuth::Secrets { login, tokens } = &api.auth else { panic!("{:?}", api.auth) };
        assert_eq!(login.as_ref().map(|(name, secret)| (name.as_str(), secret.expose())), Some(("u", "p:q")));
        let roles: Vec<_> =
            tokens.iter().map(|token| (token.name.as_str(), token.role, token.secret.expose())).collect();
        assert_eq!(roles, [("a", ApiRole::Read, "s1"), ("b", ApiRole::Kick, "s2")]);
        let shown = format!("{:?}", api.auth);
        assert!(!shown.contains("p:q") && !shown.contains("s1"), "{shown}");
        let error = parse("auth { enabled on; token a write hush; }").unwrap_err();
        assert!(error.contains("\"write\"") && !error.contains("hush"), "{error}");
        for (bad, part) in [
            ("auth { enabled on; }", "no secret"),
            ("auth { enabled on; username u; }", "\"password\" is missing"),
            ("auth { enabled on; password p; }", "\"username\" is missing"),
            ("auth maybe;", "\"maybe\""),
        ] {
            assert!(parse(bad).unwrap_err().contains(part), "{bad}: {}", parse(bad).unwrap_err());
        }
    }

    #[test]
    fn a_plan_hides_secrets_and_tells_that_they_changed() {
        let config = |auth: &str| {
            Config::parse("t", &format!("listen 1; http_api {{ auth {{ {auth} }} }} vhost a {{ }}")).unwrap()
        };
        let (old, new) =
            (config("token a read one; username u; password two;"), config("token a read x; username u; password y;"));
        let plan: Vec<_> = old.changes_to(&new).iter().map(ToString::to_string).collect();
        let effect = "changed in a hidden part; takes effect for new HTTP requests";
        assert_eq!(
            plan,
            [format!("password in auth in http_api: …, {effect}"), format!("token in auth in http_api: …, {effect}")]
        );
    }

    #[test]
    #[cfg(all(feature = "http", feature = "ssl"))]
    fn https_has_addresses_of_its_own_which_are_not_open_by_mistake() {
        let api = parse("https { enabled on; cert a.crt; key a.key; }").unwrap();
        assert!(api.https.enabled);
        assert_eq!(api.https.listen[0].to_string(), "127.0.0.1:1990");
        let error = parse("https { enabled on; listen 127.0.0.1:1985; }").unwrap_err();
        assert!(error.contains("127.0.0.1:1985 is already used"), "{error}");
        assert!(parse("https { enabled on; listen 1990; }").unwrap_err().contains("anybody who reaches 0.0.0.0:1990"));
        assert!(parse("auth none; https { enabled on; listen 1990; }").is_ok());
        let off = Config::parse("t", "listen 1; http_api { https { enabled on; } } vhost a { }").unwrap();
        assert!(!off.http_api.https.enabled, "the API is off");
    }

    #[test]
    #[cfg(feature = "http")]
    fn no_address_serves_two_protocols() {
        let text =
            "listen 1935; http_server { enabled on; listen 127.0.0.1:1985; } http_api { enabled on; } vhost a { }";
        let error = Config::parse("t", text).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1985 is already used"), "{error}");
    }
}
