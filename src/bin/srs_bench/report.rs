//! What is printed.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};

use super::stats::{Stats, get, lock};

/// A line on a terminal that is written over each time.
pub(super) fn progress(stats: &Stats, quiet: bool) {
    if !quiet && stderr().is_terminal() {
        let (seconds, bytes, _) = stats.measured();
        let mbps = if seconds > 0.0 { bytes as f64 * 8e-6 / seconds } else { 0.0 };
        // A terminal that takes no more text does not matter.
        let _ = write!(
            stderr(),
            "\rstarted {}, refused {}, lost {}, {mbps:.1} Mbit/s, {seconds:.0} s   ",
            get(&stats.started),
            get(&stats.refused),
            get(&stats.lost),
        );
    }
}

pub(super) fn end_progress(quiet: bool) {
    if !quiet && stderr().is_terminal() {
        let _ = writeln!(stderr());
    }
}

/// Every figure by name, in the order of the table.
fn figures(stats: &Stats) -> Vec<(&'static str, f64)> {
    let (seconds, bytes, messages) = stats.measured();
    let rate = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    let mut figures = vec![
        ("seconds", seconds),
        ("connected", get(&stats.connected) as f64),
        ("started", get(&stats.started) as f64),
        ("refused", get(&stats.refused) as f64),
        ("lost", get(&stats.lost) as f64),
        ("gaps", get(&stats.gaps) as f64),
        ("mbit_per_second", rate(bytes) * 8e-6),
        ("messages_per_second", rate(messages)),
    ];
    if stats.join.count() > 0 {
        figures.push(("join_ms_p50", stats.join.quantile_ms(0.5)));
        figures.push(("join_ms_p99", stats.join.quantile_ms(0.99)));
    }
    if stats.latency.count() > 0 {
        figures.push(("latency_ms_p50", stats.latency.quantile_ms(0.5)));
        figures.push(("latency_ms_p99", stats.latency.quantile_ms(0.99)));
        figures.push(("latency_ms_max", stats.latency.max_ms()));
    }
    figures
}

pub(super) fn table(stats: &Stats) -> String {
    let mut table = String::new();
    for (name, value) in figures(stats) {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{:22} {value:>12.2}", name.replace('_', " "));
    }
    if let Some(error) = &*lock(&stats.error) {
        let _ = writeln!(table, "{:22} {error}", "first error");
    }
    table
}

pub(super) fn json(stats: &Stats) -> String {
    let figures = figures(stats);
    let pairs: Vec<_> = figures.iter().map(|(name, value)| format!("\"{name}\":{value:.3}")).collect();
    // Debug escapes as JSON does for what error messages contain.
    let error = lock(&stats.error).as_ref().map_or("null".into(), |error| format!("{error:?}"));
    format!("{{{},\"first_error\":{error}}}\n", pairs.join(","))
}
