//! Counters, and their periodic log lines.

pub(crate) mod reporter;
pub(crate) mod totals;

use crate::config::Config;

use self::reporter::StatsGroup;
use self::totals::CloseTotals;

/// The counters that connections keep. Clones are the same counters.
#[derive(Clone)]
pub(crate) struct Stats {
    pub(crate) play: StatsGroup,
    pub(crate) publish: StatsGroup,
    pub(crate) forward: StatsGroup,
    pub(crate) closed: CloseTotals,
}

impl Stats {
    /// Creates counters at zero, with the intervals of `pithy_print`.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            play: StatsGroup::new("->", "clients", config.pithy_print.play),
            publish: StatsGroup::new("<-", "clients", config.pithy_print.publish),
            forward: StatsGroup::new("->", "forwarders", config.pithy_print.forwarder),
            closed: CloseTotals::default(),
        }
    }

    /// Applies the intervals of another configuration.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.play.set_interval(config.pithy_print.play);
        self.publish.set_interval(config.pithy_print.publish);
        self.forward.set_interval(config.pithy_print.forwarder);
    }
}
