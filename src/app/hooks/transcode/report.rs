//! Description of a program, for the API.

use std::time::Instant;

use serde_json::{Map, Value};

use super::manager::Entry;

/// Returns the report of a program.
pub(super) fn report(entry: &Entry, now: Instant) -> Map<String, Value> {
    let task = &entry.task;
    let run = task.run();
    let progress = run.map(|run| run.progress).unwrap_or_default();
    let uptime = run.map_or(0, |run| now.saturating_duration_since(run.started).as_millis());
    let lag = run.map_or(0, |run| run.lag.as_millis());
    let fields: [(&str, Value); 15] = [
        ("stream", entry.stream.clone().into()),
        ("process", entry.key.clone().into()),
        ("state", task.state_name(now).into()),
        ("pid", run.and_then(|run| run.pid).into()),
        ("uptime_ms", u64::try_from(uptime).unwrap_or(u64::MAX).into()),
        ("starts", task.starts.into()),
        ("fps", progress.fps.into()),
        ("speed", progress.speed.into()),
        ("frames", progress.frames.into()),
        ("duplicated", progress.duplicated.into()),
        ("dropped", progress.dropped.into()),
        ("out_ms", progress.out_ms.into()),
        ("bytes_out", progress.bytes.into()),
        ("lag_ms", u64::try_from(lag).unwrap_or(u64::MAX).into()),
        ("last_error", task.last_error.clone().into()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}
