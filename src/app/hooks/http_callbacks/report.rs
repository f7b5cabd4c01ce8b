//! The figures of the backends, for the API and the metrics.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::backend::{Backend, Totals};
use super::latency::{BOUNDS_MS, Latency};
use crate::app::stats::snapshot::Section;

/// Names and descriptions of the classes of [`Latency`].
const CLASSES: [(&str, &str); BOUNDS_MS.len()] = [
    ("answered_within_3ms_total", "Requests answered within 3 ms."),
    ("answered_within_10ms_total", "Requests answered within 10 ms."),
    ("answered_within_30ms_total", "Requests answered within 30 ms."),
    ("answered_within_100ms_total", "Requests answered within 100 ms."),
    ("answered_within_300ms_total", "Requests answered within 300 ms."),
    ("answered_within_1000ms_total", "Requests answered within 1000 ms."),
    ("answered_within_3000ms_total", "Requests answered within 3000 ms."),
];

/// Returns the section of the feature.
pub(super) fn section(backends: &[Arc<Backend>]) -> Section {
    let all: Vec<_> = backends.iter().map(|backend| (backend.origin(), backend.totals())).collect();
    let sum = |number: fn(&Totals) -> u64| all.iter().map(|(_, totals)| number(totals)).sum();
    let latency = all.iter().fold(Latency::default(), |sum, (_, totals)| sum.plus(&totals.latency));
    let mut section = Section::new("http_hooks")
        .with("requests_total", "Requests to backends.", sum(|totals| totals.requests))
        .with("failures_total", "Requests without a usable answer.", sum(|totals| totals.failures))
        .with("milliseconds_total", "Time of all requests that were answered.", latency.milliseconds())
        .with("lost_total", "Events that were not delivered.", sum(|totals| totals.lost))
        .with("queued", "Events that wait for a backend.", sum(|totals| totals.queued))
        .with("backends_down", "Backends that do not answer.", sum(|totals| totals.is_down.into()));
    for (index, (name, help)) in CLASSES.into_iter().enumerate() {
        section = section.with(name, help, latency.within(index));
    }
    section.items = all.iter().map(|(origin, totals)| report(origin, totals)).collect();
    section
}

/// Returns what the API shows of a backend.
fn report(origin: &str, totals: &Totals) -> Map<String, Value> {
    let within = |(index, bound): (usize, &u64)| (bound.to_string(), totals.latency.within(index).into());
    [
        ("backend", Value::from(origin)),
        ("down", totals.is_down.into()),
        ("requests", totals.requests.into()),
        ("failures", totals.failures.into()),
        ("milliseconds", totals.latency.milliseconds().into()),
        ("answered_within_ms", Value::Object(BOUNDS_MS.iter().enumerate().map(within).collect())),
        ("queued", totals.queued.into()),
        ("lost", totals.lost.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_the_name_of_its_bound() {
        for ((name, help), bound) in CLASSES.into_iter().zip(BOUNDS_MS) {
            assert_eq!(name, format!("answered_within_{bound}ms_total"));
            assert!(help.contains(&format!(" {bound} ms")), "{help}");
        }
    }
}
