//! Events as they happen.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, encode};
use crate::failure::Failure;
use crate::options::EventFilter;
use crate::output::{escape_controls, print_line, text};

/// Time before a lost connection is made again.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Longest line of an event.
const MAX_LINE: u64 = 64 * 1024;

/// Prints events until the user stops it. A lost connection is made again, without a gap as far as the server can.
/// Fails when the first connection fails, or the server refuses a later one.
pub(crate) fn follow(api: &Api, filter: &EventFilter, as_json: bool) -> Result<(), Failure> {
    let mut query = String::new();
    let types = (!filter.types.is_empty()).then(|| filter.types.join(","));
    for (name, value) in [("type", &types), ("stream", &filter.stream)] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    let first = filter.last.map(|last| format!("&last={last}")).unwrap_or_default();
    let mut last_id: Option<String> = None;
    let mut body = api.stream(&format!("/api/v1/events?{query}{first}"))?;
    loop {
        let reader = body.into_with_config().limit(u64::MAX).reader();
        read(BufReader::new(reader), &mut last_id, as_json)?;
        eprintln!("srs_ctl: the connection is lost, connecting again");
        body = loop {
            thread::sleep(RECONNECT_DELAY);
            let after = last_id.as_deref().map(|id| format!("&after={}", encode(id))).unwrap_or_default();
            match api.stream(&format!("/api/v1/events?{query}{after}")) {
                Ok(body) => break body,
                Err(Failure::Unreachable(_)) => {}
                Err(failure) => return Err(failure),
            }
        };
    }
}

/// Prints the events of one connection until it ends.
fn read(mut reader: impl BufRead, last_id: &mut Option<String>, as_json: bool) -> Result<(), Failure> {
    let (mut name, mut data) = (String::new(), String::new());
    loop {
        let mut line = Vec::new();
        let limited = std::io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line);
        if !limited.is_ok_and(|count| count > 0) {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            if !data.is_empty() {
                print(&name, &data, as_json)?;
            }
            name.clear();
            data.clear();
            continue;
        }
        match line.split_once(": ") {
            Some(("id", id)) => *last_id = Some(id.to_owned()),
            Some(("event", event)) => name = event.to_owned(),
            Some(("data", text)) => data = text.to_owned(),
            _ => {}
        }
    }
}

fn print(name: &str, data: &str, as_json: bool) -> Result<(), Failure> {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    if name == "hello" {
        match event["missed"].as_u64() {
            Some(0) => {}
            Some(missed) => eprintln!("srs_ctl: {missed} events were missed"),
            None => eprintln!("srs_ctl: the server has started anew"),
        }
        return Ok(());
    }
    if as_json {
        return Ok(print_line(data)?);
    }
    Ok(print_line(&describe(name, &event))?)
}

/// Returns an event as a line.
pub(crate) fn describe(name: &str, event: &Value) -> String {
    let time = i64::try_from(event["time_ms"].as_u64().unwrap_or(0)).unwrap_or(0);
    let time = chrono::DateTime::from_timestamp_millis(time).unwrap_or_default().with_timezone(&chrono::Local);
    let mut line = format!("{} {name:<14}", time.format("%H:%M:%S%.3f"));
    let fields = event.as_object().into_iter().flatten();
    let is_known = |name: &str| ["seq", "time_ms", "event", "vhost", "app", "stream", "ordinary"].contains(&name);
    let has_name = event["name"].is_string();
    for (name, value) in fields {
        if !is_known(name) || (!has_name && ["vhost", "app"].contains(&name.as_str())) {
            let value =
                value.as_f64().filter(|_| value.is_f64()).map_or_else(|| text(value), |value| format!("{value:.1}"));
            let value = if value.contains(' ') { format!("{value:?}") } else { escape_controls(&value) };
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_is_kept_for_the_next_connection() {
        let mut id = None;
        let text = "retry: 2000\nevent: hello\ndata: {\"missed\":0}\n\nid: a-7\nevent: played\ndata: {}\n\n: alive\n\n";
        read(text.as_bytes(), &mut id, true).unwrap();
        assert_eq!(id.as_deref(), Some("a-7"));
    }
}
