//! The result of a bandwidth test, as a table and as JSON.

use std::time::Duration;

use anyhow::bail;
use srs::codec::amf0::{Object, Value};

use crate::verdict;

/// The result of a test.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) server: Object,
    pub(super) address: String,
    pub(super) result: Object,
    /// Lowest and smoothed round-trip time of this client while it sent.
    pub(super) min_rtt: Duration,
    pub(super) rtt: Duration,
    /// Segments that this client sent, and those that it sent again.
    pub(super) segments: u32,
    pub(super) retransmits: u32,
}

impl Outcome {
    /// Fails if the server has sent no figures.
    pub(super) fn check(self) -> anyhow::Result<Self> {
        let has = |name| self.result.get(name).and_then(Value::as_number).is_some();
        if !has("play_kbps") || !has("publish_kbps") {
            bail!("the server sent no result");
        }
        Ok(self)
    }

    fn number(&self, name: &str) -> u64 {
        self.result.get(name).and_then(Value::as_number).map_or(0, |number| number as u64)
    }

    fn text(&self, name: &str) -> &str {
        self.server.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn duration_ms(&self) -> u64 {
        self.number("end_time").saturating_sub(self.number("start_time"))
    }

    /// Returns the object that `srs_bandwidth_check` prints, and behind its fields ours.
    pub(super) fn json(&self) -> String {
        let server_ip = if self.text("srs_server_ip").is_empty() { &self.address } else { self.text("srs_server_ip") };
        let id = |name| self.server.get(name).and_then(Value::as_number).unwrap_or(0.0) as u64;
        let texts = [
            ("srs_server", self.text("srs_server")),
            ("srs_primary", self.text("srs_primary")),
            ("srs_authors", self.text("srs_authors")),
            ("srs_server_ip", server_ip),
            ("srs_version", self.text("srs_version")),
        ];
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mut json = String::from("{\"code\": 0");
        for (name, text) in texts {
            json.push_str(&format!(", \"{name}\": {}", json_text(text)));
        }
        for (name, number) in [
            ("srs_pid", id("srs_pid")),
            ("srs_id", id("srs_id")),
            ("duration", self.duration_ms()),
            ("play_duration", self.number("play_time")),
            ("play_kbps", self.number("play_kbps")),
            ("publish_kbps", self.number("publish_kbps")),
            ("publish_duration", self.number("publish_time")),
            ("play_bytes", self.number("play_bytes")),
            ("publish_bytes", self.number("publish_bytes")),
            ("segments", self.segments.into()),
            ("retransmits", self.retransmits.into()),
        ] {
            json.push_str(&format!(", \"{name}\": {number}"));
        }
        let (min_rtt, rtt) = (ms(self.min_rtt), ms(self.rtt));
        let verdict = verdict::upload(self.number("publish_kbps"));
        json.push_str(&format!(
            ", \"min_rtt_ms\": {min_rtt:.3}, \"rtt_ms\": {rtt:.3}, \"verdict\": {}}}\n",
            json_text(&verdict)
        ));
        json
    }

    pub(super) fn table(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mbps = |name| self.number(name) as f64 / 1000.0;
        let seconds = |name| self.number(name) as f64 / 1000.0;
        let lost = f64::from(self.retransmits) * 100.0 / f64::from(self.segments.max(1));
        format!(
            "server       {} at {}\n\
             download     {:10.3} Mbit/s over {:.1} s\n\
             upload       {:10.3} Mbit/s over {:.1} s\n\
             round trip   {:10.1} ms, {:.1} ms while sending\n\
             sent again   {lost:10.1} % of {} segments\n\
             {}\n",
            self.text("srs_server"),
            self.address,
            mbps("play_kbps"),
            seconds("play_time"),
            mbps("publish_kbps"),
            seconds("publish_time"),
            ms(self.min_rtt),
            ms(self.rtt),
            self.segments,
            verdict::upload(self.number("publish_kbps")),
        )
    }
}

/// Returns a JSON string: servers send any text.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_the_fields_of_the_original() {
        let outcome = Outcome {
            server: Object::new().with("srs_server", "a \"b\"").with("srs_pid", 7.0),
            address: "192.0.2.1".into(),
            result: Object::new()
                .with("start_time", 1000.0)
                .with("end_time", 8250.0)
                .with("play_kbps", 9500.0)
                .with("publish_kbps", 6000.0)
                .with("play_time", 3000.0),
            ..Outcome::default()
        };
        let json: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap();
        for (name, expected) in
            [("code", 0), ("srs_pid", 7), ("srs_id", 0), ("duration", 7250), ("play_duration", 3000)]
        {
            assert_eq!(json[name], expected, "{name}");
        }
        assert_eq!((json["play_kbps"].as_u64(), json["publish_kbps"].as_u64()), (Some(9500), Some(6000)));
        for name in ["srs_primary", "srs_authors", "srs_version"] {
            assert_eq!(json[name], "", "{name}");
        }
        assert_eq!((json["srs_server"].as_str(), json["srs_server_ip"].as_str()), (Some("a \"b\""), Some("192.0.2.1")));
        assert!(outcome.table().contains("good for 4 Mbit/s upload with 50 % reserve"), "{}", outcome.table());
        assert!(Outcome::default().check().is_err());
    }
}
