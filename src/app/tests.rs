//! A feature as somebody adds one: its own type, one line in the list of features, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::{Context, Feature};
use super::events::{Event, Listener};
use super::stream::StreamEvent;
use crate::config::{Config, ConfigCell};

#[derive(Default)]
struct CounterFeature(AtomicUsize);

impl Feature for CounterFeature {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }
}

impl Listener for CounterFeature {
    fn on_event(&self, event: &Event) {
        let is_published = matches!(event, Event::Stream(StreamEvent::Published { .. }));
        self.0.fetch_add(usize::from(is_published), Ordering::Relaxed);
    }
}

struct BrokenFeature;

impl Feature for BrokenFeature {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }
}

impl Listener for BrokenFeature {
    fn on_event(&self, _: &Event) {
        panic!("on purpose");
    }
}

#[test]
fn a_feature_of_ten_lines_hears_of_streams_and_one_that_panics_hurts_nobody() {
    crate::st::run(|| {
        let config = Arc::new(Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap());
        let vhost = config.vhost("x").unwrap().clone();
        let ctx = Context::new(ConfigCell::new(config).0);
        let counter = Arc::new(CounterFeature::default());
        let features: Vec<Arc<dyn Feature>> = vec![Arc::new(BrokenFeature), counter.clone()];
        super::connect_features(&ctx, &features);
        let source = ctx.streams.get_or_create("v/live/s", &vhost);
        let publication = super::stream::tests::publish(&source);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        drop(publication);
        let _again = super::stream::tests::publish(&source);
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
    })
    .unwrap();
}
