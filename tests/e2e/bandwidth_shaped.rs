//! Bandwidth tests over lines of known speed: network namespaces, shaped by tc, with a delay and a loss between them.
//!
//! ```text
//! namespace of the server ── veth, tbf ── namespace with link.py: delay, loss ── veth, tbf ── namespace of the client
//! ```

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::binary;

const LIMIT: Duration = Duration::from_secs(30);

/// Delay of each direction and loss of frames.
const DELAY_MS: &str = "20";
const LOSS_PERCENT: &str = "1";

/// Attempts to measure within the tolerance.
const ATTEMPTS: usize = 4;

/// Attempts that were disturbed by other programs, after which the test is passed over.
const DISTURBED_ATTEMPTS: usize = 2;

/// Share of an attempt that the link may wait for a processor, and share that it may use one, without being the narrowest place
/// itself.
const MAX_WAITING: f64 = 0.05;
const MAX_RUNNING: f64 = 0.8;

/// A line between two namespaces. Dropping it removes them.
struct Line {
    name: String,
    relay: Process,
}

fn run(command: &str) -> Output {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let program =
        if Path::new("/usr/sbin").join(program).exists() { format!("/usr/sbin/{program}") } else { program.to_owned() };
    Command::new(&program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn must(command: &str) {
    let output = run(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns why such a line cannot be made here, if it cannot.
fn missing() -> Option<String> {
    for (program, package) in [("ip", "iproute2"), ("tc", "iproute2")] {
        if !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists()) {
            return Some(format!("{program} is not installed (Debian: {package})"));
        }
    }
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Some("python3 is not installed".to_owned());
    }
    let name = format!("srsp{}", std::process::id());
    let made = run(&format!("ip netns add {name}"));
    if !made.status.success() {
        return Some(format!("network namespaces are not allowed: {}", String::from_utf8_lossy(&made.stderr).trim()));
    }
    let shaped = run(&format!("ip netns exec {name} tc qdisc add dev lo root tbf rate 1mbit burst 3200 latency 100ms"));
    let _ = run(&format!("ip netns del {name}"));
    (!shaped.status.success()).then(|| format!("tc has no tbf: {}", String::from_utf8_lossy(&shaped.stderr).trim()))
}

impl Line {
    fn new(scratch: &Scratch, mbps: u32) -> Line {
        let name = format!("srsb{}x{mbps}", std::process::id());
        let link = format!("{}/tests/e2e/link.py", env!("CARGO_MANIFEST_DIR"));
        for side in ["s", "m", "c"] {
            must(&format!("ip netns add {name}{side}"));
            must(&format!("ip -n {name}{side} link set lo up"));
        }
        for (side, address) in [("s", "10.99.0.1/24"), ("c", "10.99.0.2/24")] {
            let netns = format!("{name}{side}");
            must(&format!("ip -n {name}m link add to-{side} type veth peer name line netns {netns}"));
            must(&format!("ip -n {netns} address add {address} dev line"));
            must(&format!("ip -n {netns} link set line up"));
            must(&format!("ip -n {name}m link set to-{side} up"));
            must(&format!("ip netns exec {netns} python3 {link} plain line"));
            // 10 ms of the line, but at least two frames.
            let burst = (mbps * 1250).max(3200);
            must(&format!(
                "ip netns exec {netns} tc qdisc add dev line root tbf rate {mbps}mbit burst {burst} latency 100ms"
            ));
            // The rate of a live encoder on a line with losses depends on this, see docs/bandwidth-test.md.
            let _ = run(&format!("ip netns exec {netns} sysctl -q -w net.ipv4.tcp_congestion_control=bbr"));
        }
        let ip = if Path::new("/usr/sbin/ip").exists() { "/usr/sbin/ip" } else { "/sbin/ip" };
        let relay = format!("netns exec {name}m python3 -u {link} relay to-s to-c {DELAY_MS} {LOSS_PERCENT}");
        let relay = Process::start(scratch, &format!("link-{mbps}"), ip, relay.split(' '));
        eventually("the link is up", LIMIT, || relay.log().contains("the link is up").then_some(()));
        Line { name, relay }
    }

    /// Returns for how long the link has run and has waited for a processor; `None` if the kernel does not count that.
    fn processor_time(&self) -> Option<[Duration; 2]> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.relay.pid())).ok()?;
        let mut times = text.split_whitespace().map_while(|word| word.parse().ok().map(Duration::from_nanos));
        Some([times.next()?, times.next()?])
    }

    /// Returns whether the link had too little of a processor since then for its rate.
    fn was_disturbed(&self, since: Instant, before: Option<[Duration; 2]>) -> bool {
        let Some((before, after)) = before.zip(self.processor_time()) else { return true };
        let share = |index: usize| (after[index] - before[index]).as_secs_f64() / since.elapsed().as_secs_f64();
        share(0) > MAX_RUNNING || share(1) > MAX_WAITING
    }

    /// Returns whether the namespaces use BBR, which alone keeps its rate when frames are lost.
    fn has_bbr(&self) -> bool {
        let output = run(&format!("ip netns exec {}s sysctl -n net.ipv4.tcp_congestion_control", self.name));
        output.stdout.starts_with(b"bbr")
    }

    fn start_server(&self, scratch: &Scratch) -> Process {
        let text = "listen 1935;\nvhost bandcheck.srs.com { chunk_size 65000; bandcheck { enabled on; key secret; interval 0; \
                    interval_per_address 0; limit_kbps 0; } }";
        let configuration = scratch.file(&format!("{}.conf", self.name));
        std::fs::write(&configuration, text).expect("a file in the scratch folder");
        let ip = if Path::new("/usr/sbin/ip").exists() { "/usr/sbin/ip" } else { "/sbin/ip" };
        let (netns, configuration) = (format!("{}s", self.name), configuration.display().to_string());
        let arguments = ["netns", "exec", &netns, binary(), "-c", &configuration];
        let mut server = Process::start(scratch, &format!("server-{}", self.name), ip, arguments);
        eventually("the server listens", LIMIT, || {
            assert!(server.ended().is_none(), "the server has ended");
            let table = run(&format!("ip netns exec {netns} cat /proc/net/tcp"));
            String::from_utf8_lossy(&table.stdout).contains(":078F 00000000:0000 0A").then_some(())
        });
        server
    }

    fn measure(&self) -> Value {
        let url = "rtmp://10.99.0.1/app?key=secret&vhost=bandcheck.srs.com";
        let bench = env!("CARGO_BIN_EXE_srs_bench");
        let output = run(&format!("ip netns exec {}c {bench} bandwidth --json {url}", self.name));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for side in ["s", "m", "c"] {
            let _ = run(&format!("ip netns del {}{side}", self.name));
        }
    }
}

/// Measures a line of this rate until download and upload are within `tolerance` of it. A rate is never above that of the line;
/// it is below where other programs take the processor that the link needs, and then the test is passed over.
fn assert_measured(mbps: u32, tolerance: f64) {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let scratch = Scratch::new();
    let line = Line::new(&scratch, mbps);
    let _server = line.start_server(&scratch);
    if !line.has_bbr() {
        eprintln!("skipped: without BBR, TCP does not use a line with this loss");
        return;
    }
    let [lowest, highest] = [1.0 - tolerance, 1.0 + tolerance].map(|factor| f64::from(mbps) * 1000.0 * factor);
    let (mut seen, mut disturbed) = (Vec::new(), 0);
    for _ in 0..ATTEMPTS {
        let (start, before) = (Instant::now(), line.processor_time());
        let result = line.measure();
        let rates = ["play_kbps", "publish_kbps"].map(|name| result[name].as_f64().expect("a rate"));
        assert!(rates.iter().all(|rate| *rate < highest), "{mbps} Mbit/s measured as {rates:?} kbit/s");
        assert!(result["min_rtt_ms"].as_f64() > Some(35.0), "two delays of 20 ms: {result}");
        if rates.iter().all(|rate| *rate >= lowest) {
            return;
        }
        seen.push(rates);
        disturbed += usize::from(line.was_disturbed(start, before));
        if disturbed == DISTURBED_ATTEMPTS {
            eprintln!("skipped: other programs take the processor that a line of {mbps} Mbit/s needs: {seen:?} kbit/s");
            return;
        }
    }
    panic!("{mbps} Mbit/s measured as {seen:?} kbit/s");
}

#[test]
fn a_line_of_100_mbps_with_delay_and_loss_is_measured_within_a_tenth() {
    assert_measured(100, 0.1);
}

#[test]
fn a_line_of_10_mbps_with_delay_and_loss_is_measured_within_a_tenth() {
    assert_measured(10, 0.1);
}

#[test]
fn a_line_of_1_mbps_with_delay_and_loss_is_measured() {
    assert_measured(1, 0.2);
}
