//! The printed results.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};

use super::histogram::Histogram;
use super::stats::{Findings, Stats, get, lock};

/// Overwrites the progress line on a terminal.
pub(super) fn progress(stats: &Stats, quiet: bool) {
    if !quiet && stderr().is_terminal() {
        let measured = stats.measured();
        let seconds = measured.seconds;
        let mbps = if seconds > 0.0 { measured.bytes as f64 * 8e-6 / seconds } else { 0.0 };
        // Errors of the terminal do not matter.
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

/// Figures with a common title, each with its name and unit.
struct Group {
    title: &'static str,
    figures: Vec<(&'static str, f64, &'static str)>,
}

/// Returns all figures in the order of the table. The names are JSON keys and must not change.
fn groups(stats: &Stats) -> Vec<Group> {
    let measured = stats.measured();
    let rate = |n: u64| if measured.seconds > 0.0 { n as f64 / measured.seconds } else { 0.0 };
    let count = |counter| get(counter) as f64;
    let mut groups = vec![
        Group {
            title: "clients",
            figures: vec![
                ("connected", count(&stats.connected), ""),
                ("started", count(&stats.started), ""),
                ("refused", count(&stats.refused), ""),
                ("lost", count(&stats.lost), ""),
                ("reconnects", count(&stats.reconnects), ""),
            ],
        },
        Group {
            title: "traffic",
            figures: vec![
                ("seconds", measured.seconds, "s"),
                ("mbit_per_second", rate(measured.bytes) * 8e-6, "Mbit/s"),
                // Counted by players that parse messages: those that check, and all while they join.
                ("messages_per_second", rate(measured.messages), "/s"),
            ],
        },
    ];
    for (title, keys, histogram) in [
        ("join", ["join_ms_p50", "join_ms_p99", "join_ms_max"], &stats.join),
        ("latency", ["latency_ms_p50", "latency_ms_p99", "latency_ms_max"], &stats.latency),
        ("slow players' lag", ["slow_lag_ms_p50", "slow_lag_ms_p99", "slow_lag_ms_max"], &stats.slow_lag),
        ("send delay", ["late_ms_p50", "late_ms_p99", "late_ms_max"], &stats.send_delay),
    ] {
        if histogram.count() > 0 {
            groups.push(Group { title, figures: quantiles(keys, histogram) });
        }
    }
    for (title, keys, found) in [
        ("checked", ["checked", "gaps", "missing", "damaged", "with_gaps", "most_gaps"], &stats.found),
        (
            "slow players",
            ["slow", "slow_gaps", "slow_missing", "slow_damaged", "slow_with_gaps", "slow_most_gaps"],
            &stats.slow_found,
        ),
    ] {
        if get(&found.players) > 0 {
            groups.push(Group { title, figures: findings(keys, found) });
        }
    }
    groups.push(Group { title: "srs_bench", figures: vec![("tool_cpu_percent", measured.cpu * 100.0, "% of a core")] });
    groups
}

fn quantiles(keys: [&'static str; 3], histogram: &Histogram) -> Vec<(&'static str, f64, &'static str)> {
    let values = [histogram.quantile_ms(0.5), histogram.quantile_ms(0.99), histogram.max_ms()];
    keys.into_iter().zip(values).map(|(key, value)| (key, value, "ms")).collect()
}

fn findings(keys: [&'static str; 6], found: &Findings) -> Vec<(&'static str, f64, &'static str)> {
    let values =
        [&found.players, &found.gaps, &found.missing, &found.damaged, &found.affected, &found.most_gaps].map(get);
    keys.into_iter().zip(values).map(|(key, value)| (key, value as f64, "")).collect()
}

/// Formats one line for each group.
pub(super) fn table(stats: &Stats) -> String {
    let mut table = String::new();
    for group in groups(stats) {
        let _ = write!(table, "{:19}", group.title);
        for (name, value, unit) in group.figures {
            // Nobody has counted them.
            if name == "messages_per_second" && value == 0.0 {
                continue;
            }
            let digits = if unit.is_empty() || value >= 1000.0 { 0 } else { 2 };
            let space = if unit.is_empty() || unit.starts_with('/') { "" } else { " " };
            let _ = write!(table, "{:22}", format!("{} {value:.digits$}{space}{unit}", label(name)).trim_start());
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    for (error, count) in &*lock(&stats.errors) {
        let _ = writeln!(table, "{count:>8} {error}");
    }
    table
}

/// Returns the label of a figure in the table, beside the title of its group.
fn label(key: &str) -> String {
    match key.rsplit_once("_ms_") {
        Some((_, quantile)) => quantile.to_owned(),
        None => match key {
            "seconds" => "over".into(),
            "mbit_per_second" | "tool_cpu_percent" => String::new(),
            "messages_per_second" => "messages".into(),
            "checked" | "slow" => "players".into(),
            "with_gaps" | "slow_with_gaps" => "players affected".into(),
            "most_gaps" | "slow_most_gaps" => "most of one player".into(),
            other => other.trim_start_matches("slow_").to_owned(),
        },
    }
}

pub(super) fn json(stats: &Stats) -> String {
    let figures = groups(stats).into_iter().flat_map(|group| group.figures);
    let pairs: Vec<_> = figures.map(|(name, value, _)| format!("\"{name}\":{value:.3}")).collect();
    // For the characters of error messages, Debug escapes like JSON.
    let errors: Vec<_> = lock(&stats.errors).iter().map(|(error, count)| format!("{error:?}:{count}")).collect();
    format!("{{{},\"errors\":{{{}}}}}\n", pairs.join(","), errors.join(","))
}
