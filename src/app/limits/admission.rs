//! Admission of new publishers, players and viewers while memory is short or the worker is overloaded.
//!
//! The loops of [`memory`](super::memory) and [`overload`](super::overload) set the state through an [`AdmissionControl`];
//! everybody else reads it through an [`Admission`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fairness::WORK_BUDGET;
use crate::app::session::close::CloseReason;

/// Divisor of [`WORK_BUDGET`] under overload: leaves 2,560 messages/s or 40 Mbit/s. Without it, a hundred publishers just below
/// the full budget would cost all players their connections.
const BUDGET_DIVISOR: usize = 8;

/// Read access to the state of admission. Clones are the same state.
#[derive(Clone, Default)]
pub(crate) struct Admission(Arc<State>);

/// Write access to the same state.
pub(crate) struct AdmissionControl(Arc<State>);

#[derive(Default)]
struct State {
    out_of_memory: AtomicBool,
    overloaded: AtomicBool,
    budget_reduced: AtomicBool,
}

impl Admission {
    pub(crate) fn control(&self) -> AdmissionControl {
        AdmissionControl(self.0.clone())
    }

    /// Checks whether new clients are accepted now. Errors: the reason for rejecting them.
    pub(crate) fn check(&self) -> Result<(), CloseReason> {
        if self.0.out_of_memory.load(Ordering::Relaxed) {
            let text = "server memory limit reached: no new clients are accepted";
            return Err(CloseReason::Memory(text.to_owned()));
        }
        if self.0.overloaded.load(Ordering::Relaxed) {
            return Err(CloseReason::Overload("server overloaded: no new clients are accepted".to_owned()));
        }
        Ok(())
    }

    /// Returns the work units per period above which a client loses its priority.
    pub(crate) fn work_budget(&self) -> usize {
        if self.0.budget_reduced.load(Ordering::Relaxed) { WORK_BUDGET / BUDGET_DIVISOR } else { WORK_BUDGET }
    }
}

impl AdmissionControl {
    pub(crate) fn set_out_of_memory(&self, out_of_memory: bool) {
        self.0.out_of_memory.store(out_of_memory, Ordering::Relaxed);
    }

    pub(crate) fn set_overloaded(&self, overloaded: bool) {
        self.0.overloaded.store(overloaded, Ordering::Relaxed);
    }

    pub(crate) fn set_budget_reduced(&self, reduced: bool) {
        self.0.budget_reduced.store(reduced, Ordering::Relaxed);
    }
}
