//! Description of a program, for the API.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Map, Value};

use super::entry::Entry;
use crate::app::context::Context;
use crate::app::limits::fairness::TimeSlice;

/// The streams that programs publish, by the stream and the name of the program.
pub(super) type Outputs = HashMap<(String, String), Vec<String>>;

/// Collects the outputs of all programs. May wait.
pub(super) fn outputs(ctx: &Context) -> Outputs {
    let mut outputs = Outputs::new();
    let mut slice = TimeSlice::for_report();
    for client in ctx.clients.all() {
        slice.yield_if_used_up();
        if let Some(engine) = client.engine().filter(|_| client.is_publishing())
            && let Some(stream) = client.stream_info()
        {
            outputs.entry((engine.stream.clone(), engine.name.clone())).or_default().push(stream.name.clone());
        }
    }
    outputs.values_mut().for_each(|names| names.sort());
    outputs
}

pub(super) fn report(entry: &Entry, outputs: &Outputs, now: Instant) -> Map<String, Value> {
    let task = &entry.task;
    let run = task.run();
    let progress = run.map(|run| run.progress).unwrap_or_default();
    let uptime = run.map_or(0, |run| now.saturating_duration_since(run.started).as_millis());
    let lag = run.map_or(0, |run| run.lag.as_millis());
    let spec = task.wanted.as_ref().or(run.map(|run| &run.spec));
    let outputs = outputs.get(&(entry.stream.clone(), entry.key.clone())).cloned().unwrap_or_default();
    let last_end = task.last_end.as_ref();
    let fields: [(&str, Value); 19] = [
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
        ("outputs", outputs.into()),
        ("picture", spec.and_then(|spec| spec.picture.clone()).into()),
        ("last_error", task.last_error.clone().into()),
        ("last_exit", last_end.map(|last| last.end.to_string()).into()),
        ("last_lines", last_end.map(|last| last.lines.clone()).unwrap_or_default().into()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}
