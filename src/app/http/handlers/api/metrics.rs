//! Metrics in the text format of Prometheus, version 0.0.4. No label names a client, so their number stays bounded.

use std::fmt::{Display, Write as _};

use super::core::Core;
use crate::app::limits::fairness::TimeSlice;
use crate::app::session::close;
use crate::app::stats::collect::{self, discard};
use crate::app::stats::snapshot::{Sample, Snapshot, StreamReport};
use crate::config::Exporter;
use crate::st::{self, RunLengths};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Default)]
struct MetricsText(String);

/// A metric of each stream: name, help, type, and value.
type StreamMetric = (&'static str, &'static str, &'static str, fn(&StreamReport) -> f64);

const STREAM_METRICS: [StreamMetric; 9] = [
    ("srs_stream_players", "Players of the stream.", "gauge", |stream| stream.players as f64),
    ("srs_stream_forwarders", "Forwarders of the stream.", "gauge", |stream| stream.forwarders as f64),
    ("srs_stream_receive_bits_per_second", "Bit rate of the publisher over 30 s.", "gauge", |stream| {
        stream.kbps_in as f64 * 1000.0
    }),
    ("srs_stream_send_bits_per_second", "Bit rate to all players over 30 s.", "gauge", |stream| {
        stream.kbps_out as f64 * 1000.0
    }),
    ("srs_stream_frames_per_second", "Video frames in a second, over 30 s.", "gauge", |stream| {
        stream.video.as_ref().map_or(0.0, |video| video.fps)
    }),
    ("srs_stream_jitter_seconds", "Deviation of the arrival of media from its timestamps.", "gauge", |stream| {
        stream.jitter_ms / 1000.0
    }),
    ("srs_stream_uptime_seconds", "Time since the publisher began.", "gauge", |stream| {
        stream.uptime_ms as f64 / 1000.0
    }),
    ("srs_stream_stalls_total", "Times that input was late by a second or more.", "counter", |stream| {
        stream.stalls as f64
    }),
    ("srs_stream_dropped_messages_total", "Messages that slow players did not get.", "counter", |stream| {
        stream.dropped as f64
    }),
];

/// Returns all metrics. `cpu_share` is the processor time of the process, 1 for one core. May wait.
pub(super) fn render(core: &Core, cpu_share: f64) -> String {
    let snapshot = collect::snapshot(&core.ctx);
    let exporter = &core.ctx.config.get().exporter;
    let mut text = MetricsText::default();
    text.build(core, exporter);
    text.server(&snapshot);
    text.srs(&snapshot, cpu_share);
    text.streams(&snapshot.streams, exporter.max_streams);
    for section in &snapshot.features {
        for number in &section.numbers {
            let kind = if number.name.ends_with("_total") { "counter" } else { "gauge" };
            text.single(&format!("srs_{}_{}", section.name, number.name), number.help, kind, number.value);
        }
        for family in section.families.iter().filter(|family| !family.samples.is_empty()) {
            let name = format!("srs_{}_{}", section.name, family.name);
            text.family(&name, family.help, family.kind);
            for Sample { suffix, labels, value } in &family.samples {
                let labels: Vec<_> = labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
                text.sample(&format!("{name}{suffix}"), &labels, value);
            }
        }
    }
    discard(snapshot.streams);
    text.0
}

impl MetricsText {
    /// Writes what the system and the build are, with the labels of SRS.
    fn build(&mut self, core: &Core, exporter: &Exporter) {
        self.family("srs_node_uname_info", "The system, as uname(2) tells; always 1.", "gauge");
        let system: Vec<_> = core.build.system().iter().map(|(label, text)| (*label, text.as_str())).collect();
        self.sample("srs_node_uname_info", &system, 1);
        self.family("srs_build_info", "The build of the server; always 1.", "gauge");
        let (pid, date) = (std::process::id().to_string(), core.build.date());
        let mut labels = vec![
            ("server", core.server_id.as_str()),
            ("service", &core.service_id),
            ("pid", &pid),
            ("build_date", &date),
            ("major", env!("CARGO_PKG_VERSION_MAJOR")),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        let own = [("label", exporter.label.as_str()), ("tag", exporter.tag.as_str())];
        labels.extend(own.into_iter().filter(|(_, text)| !text.is_empty()));
        self.sample("srs_build_info", &labels, 1);
    }

    fn server(&mut self, snapshot: &Snapshot) {
        let (server, limits) = (&snapshot.server, &snapshot.limits);
        let seconds = server.uptime_ms as f64 / 1000.0;
        self.single("srs_uptime_seconds", "Time since the server started.", "gauge", seconds);
        self.single("srs_busy_ratio", "Share of the worker's time that media takes.", "gauge", server.busy);
        self.low_priority_runs(&st::low_priority_runs());
        self.single("srs_resident_memory_bytes", "Memory of the process.", "gauge", server.resident_bytes);
        self.family("srs_held_memory_bytes", "Bytes held for clients, by purpose.", "gauge");
        for held in &server.held {
            self.sample("srs_held_memory_bytes", &[("category", held.category)], held.bytes);
        }
        self.single(
            "srs_held_memory_limit_bytes",
            "Limit of the bytes held; 0 without one.",
            "gauge",
            limits.max_memory_bytes,
        );
        self.single("srs_refusing", "1 while new streams are refused.", "gauge", u8::from(limits.refusing.is_some()));
        self.single("srs_open_files", "Open file descriptors.", "gauge", server.open_files);
        self.single("srs_coroutines", "Coroutines.", "gauge", server.coroutines);
        self.single("srs_streams", "Published streams.", "gauge", server.streams);
        self.single("srs_clients", "RTMP clients.", "gauge", server.clients);
        self.single("srs_clients_limit", "Limit of the RTMP clients.", "gauge", limits.max_connections);
        self.family("srs_connections", "RTMP connections, by what they do.", "gauge");
        for (kind, count) in [("publish", server.publishers), ("play", server.players), ("forward", server.forwarders)]
        {
            self.sample("srs_connections", &[("kind", kind)], count);
        }
        let groups = [("publish", server.publish), ("play", server.play), ("forward", server.forward)];
        self.family("srs_receive_bytes_total", "Bytes received over RTMP, by what connections do.", "counter");
        for (kind, traffic) in groups {
            self.sample("srs_receive_bytes_total", &[("kind", kind)], traffic.bytes_in);
        }
        self.family("srs_send_bytes_total", "Bytes sent over RTMP, by what connections do.", "counter");
        for (kind, traffic) in groups {
            self.sample("srs_send_bytes_total", &[("kind", kind)], traffic.bytes_out);
        }
        self.family("srs_messages_total", "Messages received from publishers, or sent.", "counter");
        for (kind, traffic) in groups {
            self.sample("srs_messages_total", &[("kind", kind)], traffic.messages);
        }
        self.family(
            "srs_dropped_messages_total",
            "Messages that receivers did not get because they were too slow.",
            "counter",
        );
        for (kind, traffic) in groups {
            self.sample("srs_dropped_messages_total", &[("kind", kind)], traffic.dropped);
        }
        self.family("srs_closed_connections_total", "Closed RTMP connections, by reason.", "counter");
        for close in &snapshot.closes {
            self.sample("srs_closed_connections_total", &[("reason", close.code)], close.count);
        }
    }

    fn low_priority_runs(&mut self, runs: &RunLengths) {
        let help = "Time for which work of low priority, such as a request, held the worker without a break.";
        self.family("srs_low_priority_run_seconds", help, "histogram");
        for (bound, count) in runs.cumulative() {
            self.sample("srs_low_priority_run_seconds_bucket", &[("le", &bound.as_secs_f64().to_string())], count);
        }
        self.sample("srs_low_priority_run_seconds_bucket", &[("le", "+Inf")], runs.count());
        self.sample("srs_low_priority_run_seconds_sum", &[], runs.total().as_secs_f64());
        self.sample("srs_low_priority_run_seconds_count", &[], runs.count());
    }

    /// Writes what the exporter of SRS has beside these, for dashboards that were made for it.
    fn srs(&mut self, snapshot: &Snapshot, cpu_share: f64) {
        let server = &snapshot.server;
        self.single(
            "srs_cpu_percent",
            "Processor time of the process, in percent of a core.",
            "gauge",
            cpu_share * 100.0,
        );
        self.single("srs_memory", "Memory of the process, in KiB.", "gauge", server.resident_bytes / 1024);
        let closed: u64 = snapshot.closes.iter().map(|close| close.count).sum();
        self.single("srs_clients_total", "Clients since the start.", "counter", closed + server.clients);
        let faulty = snapshot.closes.iter().filter(|close| !close::is_ordinary_code(close.code));
        let faulty: u64 = faulty.map(|close| close.count).sum();
        self.single("srs_clients_errs_total", "Clients closed for a reason that is not ordinary.", "counter", faulty);
    }

    /// Writes the metrics of the first streams, and under the label `other` the sums of the others.
    fn streams(&mut self, streams: &[StreamReport], max_streams: usize) {
        let mut slice = TimeSlice::for_report();
        let (labelled, others) = streams.split_at(streams.len().min(max_streams));
        for (name, help, kind, value) in STREAM_METRICS {
            self.family(name, help, kind);
            slice.yield_if_used_up();
            for stream in labelled {
                let labels = [("vhost", &*stream.vhost), ("app", &*stream.app), ("stream", &*stream.stream)];
                self.sample(name, &labels, value(stream));
                slice.yield_if_used_up();
            }
            // A sum of uptimes or of jitter would mean nothing.
            let is_sum = !["srs_stream_jitter_seconds", "srs_stream_uptime_seconds"].contains(&name);
            if !others.is_empty() && is_sum {
                let labels = [("vhost", "other"), ("app", "other"), ("stream", "other")];
                self.sample(name, &labels, others.iter().map(value).sum::<f64>());
            }
        }
    }

    fn single(&mut self, name: &str, help: &str, kind: &str, value: impl Display) {
        self.family(name, help, kind);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    _ => self.0.push(character),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_format_of_prometheus() {
        let mut text = MetricsText::default();
        text.single("srs_a", "Help.", "gauge", 1.5);
        text.family("srs_b_total", "Help.", "counter");
        text.sample("srs_b_total", &[("stream", "a\"b\\c\nd"), ("app", "ü")], 7);
        let expected = "# HELP srs_a Help.\n# TYPE srs_a gauge\nsrs_a 1.5\n# HELP srs_b_total Help.\n# TYPE srs_b_total counter\n\
                        srs_b_total{stream=\"a\\\"b\\\\c\\nd\",app=\"ü\"} 7\n";
        assert_eq!(text.0, expected);
    }
}
