//! The part of an attack that runs: a sample, or all of it in long mode. The kit reports what a sample leaves out.

use std::sync::{Mutex, PoisonError};

/// Returns true in long mode.
pub(crate) fn is_long() -> bool {
    std::env::var("SRS_TEST_ATTACK_LONG").is_ok_and(|value| value == "1")
}

/// Returns true if an attack of this name is to run.
pub(crate) fn is_selected(attack: &str) -> bool {
    std::env::var("SRS_TEST_ATTACK_ONLY").map_or(true, |text| attack.contains(&text))
}

/// The part of one test that the sample leaves out.
#[derive(Default)]
pub(crate) struct OmittedPart(Mutex<Vec<String>>);

impl OmittedPart {
    /// Records one omission of an attack. An attack that is repeated records it once.
    pub(crate) fn record(&self, attack: &str, what: &str) {
        let line = format!("{attack}: {what}");
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// Prints the omissions, one a line. trunk-scripts/attack.sh repeats them at the end of the run.
    pub(crate) fn print(&self) {
        for line in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            println!("sample: {line}");
        }
    }
}
