//! The figures of the backends, for the API and the metrics.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::backend::{Backend, Totals};
use super::latency::{BOUNDS_MS, Latency};
use crate::app::stats::snapshot::{Family, Sample, Section};

const CLASSES: [(&str, &str); BOUNDS_MS.len()] = [
    ("answered_within_3ms_total", "Requests answered within 3 ms."),
    ("answered_within_10ms_total", "Requests answered within 10 ms."),
    ("answered_within_30ms_total", "Requests answered within 30 ms."),
    ("answered_within_100ms_total", "Requests answered within 100 ms."),
    ("answered_within_300ms_total", "Requests answered within 300 ms."),
    ("answered_within_1000ms_total", "Requests answered within 1000 ms."),
    ("answered_within_3000ms_total", "Requests answered within 3000 ms."),
];

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
    section.families = families(&all);
    section
}

/// A metric of each backend: name, help, type, and value.
type BackendMetric = (&'static str, &'static str, &'static str, fn(&Totals) -> u64);

const BACKEND_METRICS: [BackendMetric; 5] = [
    ("backend_requests_total", "Requests to the backend.", "counter", |totals| totals.requests),
    ("backend_failures_total", "Requests without a usable answer.", "counter", |totals| totals.failures),
    ("backend_lost_total", "Events that were not delivered.", "counter", |totals| totals.lost),
    ("backend_queued", "Events that wait for the backend.", "gauge", |totals| totals.queued),
    ("backend_down", "1 while the backend does not answer.", "gauge", |totals| totals.is_down.into()),
];

/// Returns the metrics by backend. The configuration names them, so their number stays bounded.
fn families(all: &[(&str, Totals)]) -> Vec<Family> {
    let label = |origin: &str| ("backend", origin.to_owned());
    let plain = BACKEND_METRICS.into_iter().map(|(name, help, kind, value)| {
        let sample = |(origin, totals): &(&str, Totals)| Sample {
            suffix: "",
            labels: vec![label(origin)],
            value: value(totals) as f64,
        };
        Family { name, help, kind, samples: all.iter().map(sample).collect() }
    });
    let histogram = all.iter().flat_map(|(origin, Totals { latency, .. })| {
        let bucket = |bound: String, count: u64| Sample {
            suffix: "_bucket",
            labels: vec![label(origin), ("le", bound)],
            value: count as f64,
        };
        let within = |(index, ms): (usize, &u64)| bucket((*ms as f64 / 1000.0).to_string(), latency.within(index));
        let mut samples: Vec<_> = BOUNDS_MS.iter().enumerate().map(within).collect();
        samples.push(bucket("+Inf".to_owned(), latency.count()));
        for (suffix, value) in [("_sum", latency.milliseconds() as f64 / 1000.0), ("_count", latency.count() as f64)] {
            samples.push(Sample { suffix, labels: vec![label(origin)], value });
        }
        samples
    });
    let (name, help) = ("backend_answer_seconds", "Time of the requests that were answered.");
    plain.chain([Family { name, help, kind: "histogram", samples: histogram.collect() }]).collect()
}

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
    fn the_histogram_of_a_backend_is_one_of_prometheus() {
        let mut totals = Totals::default();
        for ms in [2, 250, 9000] {
            totals.latency.add(std::time::Duration::from_millis(ms));
        }
        let families = families(&[("http://h:80", totals)]);
        let histogram = families.last().unwrap();
        let shown: Vec<_> = histogram
            .samples
            .iter()
            .map(|sample| {
                assert_eq!(sample.labels[0], ("backend", "http://h:80".to_owned()));
                let bound = sample.labels.get(1).map_or("", |(_, bound)| bound.as_str());
                format!("{}{bound}={}", sample.suffix, sample.value)
            })
            .collect();
        let due = "_bucket0.003=1 _bucket0.01=1 _bucket0.03=1 _bucket0.1=1 _bucket0.3=2 _bucket1=2 _bucket3=2 \
                   _bucket+Inf=3 _sum=9.252 _count=3";
        assert_eq!(shown.join(" "), due);
    }

    #[test]
    fn each_class_has_the_name_of_its_bound() {
        for ((name, help), bound) in CLASSES.into_iter().zip(BOUNDS_MS) {
            assert_eq!(name, format!("answered_within_{bound}ms_total"));
            assert!(help.contains(&format!(" {bound} ms")), "{help}");
        }
    }
}
