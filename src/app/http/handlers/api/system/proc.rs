//! The files of `/proc`, read as texts.

use serde_json::Value;

/// Names of the fields of `/proc/self/stat`, see proc_pid_stat(5).
pub(super) const SELF_STAT: [&str; 44] = [
    "pid",
    "comm",
    "state",
    "ppid",
    "pgrp",
    "session",
    "tty_nr",
    "tpgid",
    "flags",
    "minflt",
    "cminflt",
    "majflt",
    "cmajflt",
    "utime",
    "stime",
    "cutime",
    "cstime",
    "priority",
    "nice",
    "num_threads",
    "itrealvalue",
    "starttime",
    "vsize",
    "rss",
    "rsslim",
    "startcode",
    "endcode",
    "startstack",
    "kstkesp",
    "kstkeip",
    "signal",
    "blocked",
    "sigignore",
    "sigcatch",
    "wchan",
    "nswap",
    "cnswap",
    "exit_signal",
    "processor",
    "rt_priority",
    "policy",
    "delayacct_blkio_ticks",
    "guest_time",
    "cguest_time",
];

/// Names of the times of `/proc/stat`.
pub(super) const SYSTEM_STAT: [&str; 9] = ["user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal", "guest"];

/// Reads `/proc/self/stat`: the name in parentheses may contain blanks.
pub(super) fn self_stat(text: &str) -> Vec<Value> {
    let (Some(open), Some(close)) = (text.find('('), text.rfind(')')) else { return Vec::new() };
    let number = |word: &str| match (word.parse::<i64>(), word.parse::<u64>()) {
        (Ok(number), _) => number.into(),
        // rsslim is 2^64 - 1 without a limit; SRS shows -1.
        (Err(_), Ok(u64::MAX)) => (-1).into(),
        (Err(_), Ok(number)) => number.into(),
        (Err(_), Err(_)) => word.into(),
    };
    let before = [number(text[..open].trim()), text[open..=close].into()];
    before.into_iter().chain(text[close + 1..].split_whitespace().map(number)).take(SELF_STAT.len()).collect()
}

pub(super) fn system_stat(text: &str) -> Vec<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).take(SYSTEM_STAT.len()).collect()
}

pub(super) fn memory(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Returns the bytes received and sent by physical devices, and the same of `lo` and virtual ones.
pub(super) fn network(text: &str) -> [u64; 4] {
    let mut all = [0; 4];
    for line in text.lines() {
        let Some((device, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let (Some(received), Some(sent)) = (counters.first(), counters.get(8)) else { continue };
        let is_public = ["eth", "en", "wl"].iter().any(|prefix| device.trim().starts_with(prefix));
        let at = if is_public { 0 } else { 2 };
        all[at] += received;
        all[at + 1] += sent;
    }
    all
}

pub(super) fn disk(text: &str) -> [u64; 2] {
    ["pgpgin ", "pgpgout "].map(|name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    })
}

/// Returns the number of TCP sockets (all, established, TIME_WAIT) and of UDP sockets. Listing them would take long.
pub(super) fn sockets(sockstat: &str, snmp: &str) -> [u64; 4] {
    let value = |protocol: &str, key: &str| {
        let line = sockstat.lines().find_map(|line| line.strip_prefix(protocol)).unwrap_or_default();
        let mut words = line.split_whitespace().skip_while(|word| *word != key).skip(1);
        words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let at = tcp.next().and_then(|mut names| names.position(|name| name == "CurrEstab"));
    let established = at.and_then(|at| tcp.next()?.nth(at)?.parse().ok()).unwrap_or(0);
    let time_wait = value("TCP:", "tw");
    [value("TCP:", "inuse") + time_wait, established, time_wait, value("UDP:", "inuse")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat =
            self_stat("7 (a (b) c) S 1 2 3 0 -1 4194304 10 0 0 0 5 6 0 0 20 0 1 0 100 4096 2 18446744073709551615 1");
        assert_eq!((stat[0].as_u64(), stat[1].as_str(), stat[2].as_str()), (Some(7), Some("(a (b) c)"), Some("S")));
        assert_eq!(stat[24].as_i64(), Some(-1));
        assert!(self_stat("").is_empty());
        assert_eq!(system_stat("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let dev = "Inter-|\n face |\n    lo: 5 1 0 0 0 0 0 0 6 1 0\n  eth0: 7 1 0 0 0 0 0 0 8 1 0\n";
        assert_eq!(network(dev), [7, 8, 5, 6]);
        assert_eq!(disk("pgpgin 3\npgpgout 4\n"), [3, 4]);
        let sockstat = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 1\nUDP: inuse 3 mem 1\n";
        let snmp = "Ip: a\nIp: 1\nTcp: MaxConn CurrEstab InSegs\nTcp: -1 4 9\n";
        assert_eq!(sockets(sockstat, snmp), [7, 4, 2, 3]);
    }
}
