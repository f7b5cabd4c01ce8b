//! The rules by which callbacks are answered.

use std::num::ParseIntError;

use serde_json::{Value, json};
use structopt::StructOpt;

/// The answer that accepts.
pub(crate) const ACCEPTED: &str = "{\"code\":0}";

/// Sample backend for the HTTP callbacks of simple_rtmp_server
#[derive(StructOpt, Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Refuses to let clients publish this stream; may be repeated
    #[structopt(long = "deny-publish", value_name = "STREAM", number_of_values = 1)]
    pub(crate) deny_publish: Vec<String>,
    /// Refuses to let clients play this stream; may be repeated
    #[structopt(long = "deny-play", value_name = "STREAM", number_of_values = 1)]
    pub(crate) deny_play: Vec<String>,
    /// Gives the stream KEY the public name NAME; may be repeated
    #[structopt(long, value_name = "KEY=NAME", number_of_values = 1)]
    pub(crate) rename: Vec<String>,
    /// Message of refusals, which the client is told
    #[structopt(long, default_value = "refused by srs_hooks", value_name = "TEXT")]
    pub(crate) message: String,
    /// Time before each answer, in milliseconds, also as 200ms
    #[structopt(long, default_value = "0", value_name = "MS", parse(try_from_str = milliseconds))]
    pub(crate) delay: u64,
    /// Share of requests that are answered with status 500, in percent, also as 50%
    #[structopt(long, default_value = "0", value_name = "PERCENT", parse(try_from_str = percent))]
    pub(crate) fail: u64,
}

fn milliseconds(text: &str) -> Result<u64, ParseIntError> {
    text.trim_end_matches("ms").parse()
}

fn percent(text: &str) -> Result<u64, ParseIntError> {
    text.trim_end_matches('%').parse()
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Status 200 with this body.
    Body(String),
    /// Status 500.
    Fail,
}

impl Rules {
    /// Answers a callback, the `number`th one from 1.
    pub(crate) fn answer(&self, event: &Value, number: u64) -> Answer {
        // Evenly spread, and the same in each run.
        let failures = |number: u64| number * self.fail.min(100) / 100;
        if failures(number) > failures(number - 1) {
            return Answer::Fail;
        }
        let denied = match event["action"].as_str() {
            Some("on_publish") => &self.deny_publish,
            Some("on_play") => &self.deny_play,
            _ => return Answer::Body(ACCEPTED.to_owned()),
        };
        match denied.iter().any(|denied| event["stream"] == denied.as_str()) {
            true => Answer::Body(json!({ "code": 1, "message": self.message }).to_string()),
            false => match self
                .rename
                .iter()
                .filter_map(|rule| rule.split_once('='))
                .find(|(key, _)| event["stream"] == *key)
            {
                Some((_, name)) => Answer::Body(json!({ "code": 0, "stream": name }).to_string()),
                None => Answer::Body(ACCEPTED.to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, stream: &str) -> Value {
        json!({ "action": action, "stream": stream })
    }

    #[test]
    fn denied_streams_are_refused_with_the_message() {
        let rules = Rules { deny_publish: vec!["a".into()], message: "no".into(), ..Rules::default() };
        assert_eq!(rules.answer(&event("on_publish", "a"), 1), Answer::Body("{\"code\":1,\"message\":\"no\"}".into()));
        for (action, stream) in [("on_publish", "b"), ("on_play", "a"), ("on_unpublish", "a")] {
            assert_eq!(rules.answer(&event(action, stream), 1), Answer::Body(ACCEPTED.into()));
        }
        assert_eq!(rules.answer(&Value::Null, 1), Answer::Body(ACCEPTED.into()));
    }

    #[test]
    fn keys_get_public_names() {
        let rules = Rules { rename: vec!["k3y=cam".into()], ..Rules::default() };
        assert_eq!(
            rules.answer(&event("on_publish", "k3y"), 1),
            Answer::Body("{\"code\":0,\"stream\":\"cam\"}".into())
        );
        assert_eq!(rules.answer(&event("on_publish", "cam"), 1), Answer::Body(ACCEPTED.into()));
    }

    #[test]
    fn units_may_stand_behind_numbers() {
        assert_eq!((milliseconds("200ms"), milliseconds("200"), percent("50%")), (Ok(200), Ok(200), Ok(50)));
        assert!(milliseconds("2s").is_err() && percent("").is_err());
    }

    #[test]
    fn failures_are_spread_evenly() {
        let rules = Rules { fail: 25, ..Rules::default() };
        let fails: Vec<_> = (1..=8).filter(|n| rules.answer(&Value::Null, *n) == Answer::Fail).collect();
        assert_eq!(fails, [4, 8]);
    }
}
