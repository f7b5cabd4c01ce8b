//! Reports of bandwidth tests, over RTMP and HTTP: a line in the log, metrics, and the last results.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Listener};
use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::stats::snapshot::Section;
use crate::st::Shared;

const MAX_RESULTS: usize = 20;

pub(crate) struct BandwidthTestFeature {
    ctx: Context,
    results: Shared<Results>,
}

#[derive(Default)]
struct Results {
    completed: u64,
    last: VecDeque<Arc<BandwidthReport>>,
}

impl BandwidthTestFeature {
    pub(crate) fn new(ctx: Context) -> Self {
        Self { ctx, results: Shared::default() }
    }
}

impl Listener for BandwidthTestFeature {
    fn on_event(&self, event: &Event) {
        let Event::BandwidthTested(report) = event else { return };
        log::info!(
            "bandwidth test complete: address={} vhost={} protocol={} play_kbps={} publish_kbps={} rtt_ms={:.1} \
             retransmits={}",
            report.ip,
            report.vhost,
            report.protocol,
            report.play_kbps,
            report.publish_kbps,
            report.rtt_ms,
            report.retransmits
        );
        self.results.try_with(|results| {
            results.completed += 1;
            results.last.truncate(MAX_RESULTS - 1);
            results.last.push_front(report.clone());
        });
    }
}

impl Feature for BandwidthTestFeature {
    fn name(&self) -> &'static str {
        "bandwidth_test"
    }

    fn snapshot(&self) -> Option<Section> {
        let counts = self.ctx.bandwidth_tests.counts();
        let (completed, last) = self.results.with(|results| (results.completed, results.last.clone()));
        let mut section = Section::new("bandwidth_test")
            .with("running", "Bandwidth tests that run now.", counts.running)
            .with("started_total", "Bandwidth tests started.", counts.started)
            .with("completed_total", "Bandwidth tests with a result.", completed)
            .with("refused_total", "Bandwidth tests refused, for any reason.", counts.refused)
            .with("wrong_keys_total", "Bandwidth tests refused because of a wrong key.", counts.wrong_keys);
        // A struct of numbers and texts always becomes an object.
        let item = |report: &Arc<BandwidthReport>| match serde_json::to_value(report.as_ref()) {
            Ok(serde_json::Value::Object(fields)) => Some(fields),
            _ => None,
        };
        section.items = last.iter().filter_map(item).collect();
        Some(section)
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }
}
