//! The identity of programs that this server has started: how it knows their connections.
//!
//! The URLs of this server in the arguments of such a program carry a random token of this one run as a parameter. So an engine
//! is known by what it is and not by the names of its streams, whatever the configuration calls them. The parameter is removed
//! before anybody sees it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const TOKEN_PARAMETER: &str = "srs_engine";

const TOKEN_BYTES: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub struct Engine {
    /// The stream that it runs for: vhost/app/stream.
    pub stream: String,
    pub name: String,
}

/// The running programs by token. Clones are the same set.
#[derive(Clone, Default)]
pub(crate) struct Engines(Arc<Mutex<HashMap<String, Arc<Engine>>>>);

/// The right of one run of a program to be known. Dropping it ends that right.
pub(crate) struct Token {
    engines: Engines,
    text: String,
}

impl Engines {
    /// Fails when the system has no random numbers.
    pub(crate) fn issue(&self, engine: Arc<Engine>) -> Result<Token, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tokens().insert(text.clone(), engine);
        Ok(Token { engines: self.clone(), text })
    }

    /// Removes a token from a stream name with parameters. Returns its program, if that runs on this machine.
    pub(crate) fn identify(&self, name: &mut String, peer: IpAddr, local: Option<SocketAddr>) -> Option<Arc<Engine>> {
        let token = remove_token(name)?;
        let engine = self.tokens().get(&token).cloned()?;
        // Only an engine's own machine: a URL that leads elsewhere gives the token away.
        let is_here = peer.to_canonical().is_loopback()
            || local.is_some_and(|local| local.ip().to_canonical() == peer.to_canonical());
        is_here.then_some(engine)
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Arc<Engine>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    pub(crate) fn parameter(&self) -> String {
        format!("{TOKEN_PARAMETER}={}", self.text)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.engines.tokens().remove(&self.text);
    }
}

/// Removes the parameter from `name?a=b&c=d`, and returns its value.
fn remove_token(name: &mut String) -> Option<String> {
    // Nearly every name has none.
    if !name.contains(TOKEN_PARAMETER) {
        return None;
    }
    let (path, params) = name.split_once('?')?;
    let is_token = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == TOKEN_PARAMETER);
    // A player may append parameters of its own after another `?`.
    let pairs = || params.split(['&', '?']);
    let token = pairs().find(is_token)?.split_once('=')?.1.to_owned();
    let rest: Vec<&str> = pairs().filter(|pair| !is_token(pair)).collect();
    *name = match rest.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", rest.join("&")),
    };
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(name: &str) -> (Option<String>, String) {
        let mut rest = name.to_owned();
        (remove_token(&mut rest), rest)
    }

    #[test]
    fn a_token_is_taken_out_of_the_parameters() {
        for (name, token, rest) in [
            ("a", None, "a"),
            ("a?srs_engine=x", Some("x"), "a"),
            ("a?vhost=v&srs_engine=x", Some("x"), "a?vhost=v"),
            ("a?srs_engine=x&vhost=v", Some("x"), "a?vhost=v"),
            ("a?vhost=v?srs_engine=x", Some("x"), "a?vhost=v"),
            ("a?srs_engine=x&srs_engine=y", Some("x"), "a"),
            ("srs_engine=x", None, "srs_engine=x"),
            ("a?k=srs_engine", None, "a?k=srs_engine"),
            ("a?srs_engine", None, "a?srs_engine"),
        ] {
            assert_eq!(removed(name), (token.map(str::to_owned), rest.to_owned()), "{name}");
        }
    }

    #[test]
    fn an_engine_is_known_while_it_runs_and_on_this_machine() {
        let engines = Engines::default();
        let engine = Arc::new(Engine { stream: "v/live/a".to_owned(), name: "hd".to_owned() });
        let token = engines.issue(engine.clone()).unwrap();
        let other = engines.issue(engine.clone()).unwrap();
        assert_ne!(token.parameter(), other.parameter());
        let name = format!("a_hd?{}", token.parameter());
        let identify = |peer: &str, local: &str| {
            let mut name = name.clone();
            let found = engines.identify(&mut name, peer.parse().unwrap(), local.parse().ok());
            assert_eq!(name, "a_hd", "it is removed in any case");
            found
        };
        assert_eq!(identify("127.0.0.1", ""), Some(engine.clone()));
        assert_eq!(identify("::ffff:127.0.0.1", ""), Some(engine.clone()));
        assert_eq!(identify("10.0.0.1", "10.0.0.1:1935"), Some(engine));
        assert_eq!(identify("10.0.0.2", "10.0.0.1:1935"), None, "the token has left this machine");
        drop(token);
        assert_eq!(identify("127.0.0.1", ""), None);
    }
}
