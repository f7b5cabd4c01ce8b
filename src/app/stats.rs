//! Counters, and their periodic log lines.

#[cfg(feature = "http")]
pub(crate) mod collect;
#[cfg(feature = "http")]
pub(crate) mod media_paths;
pub(crate) mod reporter;
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) mod snapshot;
pub(crate) mod totals;

use std::time::Instant;

use crate::config::Config;
use crate::st;

use self::reporter::StatsGroup;
use self::totals::CloseTotals;

/// The counters of the server. Clones are the same counters.
#[derive(Clone)]
pub(crate) struct Stats {
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) started_at: Instant,
    pub(crate) play: StatsGroup,
    pub(crate) publish: StatsGroup,
    pub(crate) forward: StatsGroup,
    pub(crate) closed: CloseTotals,
}

impl Stats {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            started_at: st::now(),
            play: StatsGroup::new("->", "clients", config.pithy_print.play),
            publish: StatsGroup::new("<-", "clients", config.pithy_print.publish),
            forward: StatsGroup::new("->", "forwarders", config.pithy_print.forwarder),
            closed: CloseTotals::default(),
        }
    }

    pub(crate) fn reconfigure(&self, config: &Config) {
        self.play.set_interval(config.pithy_print.play);
        self.publish.set_interval(config.pithy_print.publish);
        self.forward.set_interval(config.pithy_print.forwarder);
    }
}
