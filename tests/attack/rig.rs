//! A server with its healthy clients, and the checks after each attack.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attacker::{Attacker, Endpoint};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port};
use crate::healthy::{HealthyClients, STREAM};
use crate::rtmp::play_session;
use crate::sample::{OmittedPart, is_long, is_selected};
use crate::schedule::{AttackTurn, Permit};

/// Resident memory above the level before the first attack that counts as recovered: what the allocator keeps for reuse.
const RETAINED_BY_ALLOCATOR: u64 = 24 << 20;

/// Charged memory above the level before the first attack that counts as recovered: the HLS window of the healthy stream, and segments
/// that wait for their removal.
const CHARGED_MARGIN: usize = 8 << 20;

/// Time limit for the recovery of descriptors, clients, coroutines and streams.
const RECOVERY: Duration = Duration::from_secs(30);

/// Time limit for the recovery of memory. The HLS of a finished stream is kept for the reconnect grace, the length of its playlist (6 s)
/// and `hls_dispose`; the allocator returns memory 5 to 10 s later.
pub(crate) const MEMORY_RECOVERY: Duration = Duration::from_secs(75);

/// Highest slowdown of the server by other programs that excuses its lateness.
const MAX_SLOWDOWN: f64 = 4.0;

/// Server directives of every rig, unless the test has its own: room for the attackers.
const MANY_CONNECTIONS: &str = "max_connections 4000;";

/// Vhost directives of every rig: each published stream becomes HLS, which is removed soon after the stream's end.
const HLS: &str = "hls { enabled on; hls_path html; hls_fragment 1; hls_window 6; hls_dispose 1; }";

/// Vhost directives of every rig, unless the test has its own `publish` block: a lost publisher is not waited for.
const SHORT_GRACE: &str = "publish { reconnect_grace 1; }";

/// The RTMP port that is attacked.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Port {
    /// Plain RTMP.
    #[default]
    Plain,
    /// RTMP over TLS.
    #[cfg(feature = "ssl")]
    Tls,
    /// RTMP over TLS, on a port that takes plain RTMP as well.
    #[cfg(feature = "ssl")]
    Mixed,
}

/// Description of a rig.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Directives outside of vhosts.
    pub(crate) root: &'a str,
    /// Directives of `__defaultVhost__`.
    pub(crate) vhost: &'a str,
    pub(crate) port: Port,
    /// In a sample run, attacks of this rig run beside those of others, and lateness is not measured.
    pub(crate) side_by_side: bool,
}

/// A server under attack.
#[cfg_attr(not(all(feature = "hls", feature = "http")), allow(dead_code, reason = "some attacks are of HLS and HTTP"))]
pub(crate) struct Rig {
    /// The RTMP port that is attacked.
    pub(crate) rtmp: Endpoint,
    /// The HTTP port, in builds with HLS and HTTP.
    pub(crate) http: Endpoint,
    // Before the server: fields are dropped in this order.
    healthy: Option<HealthyClients>,
    pub(crate) server: Server,
    measures_lateness: bool,
    /// Resident memory in bytes, descriptors and status before the first attack.
    memory_before: u64,
    descriptors_before: usize,
    status_before: Status,
    /// The attack that runs, or ran last.
    attack: String,
    /// Attacks since the last recovery.
    unrecovered: Vec<String>,
    /// Numbers the streams that have to be new in each run of an attack.
    unique: AtomicUsize,
    left_out: OmittedPart,
    pub(crate) scratch: Scratch,
    _permit: Permit,
}

/// The `status:` line of the server's log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    pub(crate) clients: usize,
    pub(crate) streams: usize,
    pub(crate) coroutines: usize,
    /// Bytes charged for clients.
    pub(crate) held: usize,
}

/// Guard that sets a flag when it is dropped, so that threads stop when a test fails, too.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg_attr(not(all(feature = "hls", feature = "http")), allow(dead_code, reason = "some attacks are of HLS and HTTP"))]
impl Rig {
    /// Starts a server and its healthy clients.
    pub(crate) fn start(setup: Setup<'_>) -> Rig {
        let permit = Permit::wait();
        // Thousands of attackers need as many descriptors on this side.
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 20_000, 20_000);
        let scratch = Scratch::new();
        let mut root = setup.root.to_owned() + "\n";
        if !root.contains("max_connections ") {
            root += MANY_CONNECTIONS;
        }
        let tls_port = add_tls(&scratch, &mut root, setup.port);
        let http = Endpoint { port: free_port(), tls: false };
        let mut vhost = setup.vhost.to_owned();
        if !vhost.contains("publish {") {
            vhost += SHORT_GRACE;
        }
        if cfg!(all(feature = "hls", feature = "http")) {
            root += &format!(
                "http_server {{ enabled on; listen 127.0.0.1:{}; dir html; request_timeout 4; }}\n",
                http.port
            );
            vhost += HLS;
        }
        let server = Server::with(&scratch, Settings { root: &root, vhost: &vhost, ..Settings::default() });
        let plain = Endpoint { port: server.port, tls: false };
        let rtmp = tls_port.map_or(plain, |port| Endpoint { port, tls: true });
        let healthy = HealthyClients::start(
            rtmp,
            &[rtmp, rtmp, plain],
            cfg!(all(feature = "hls", feature = "http")).then_some(http.port),
        );
        // The levels before the first attack include what comes with the first segments.
        if cfg!(all(feature = "hls", feature = "http")) {
            eventually("the healthy viewer has a segment", RECOVERY, || healthy.has_viewed().then_some(()));
        }
        std::thread::sleep(Duration::from_secs(1));
        let mut rig = Rig {
            rtmp,
            http,
            server,
            healthy: Some(healthy),
            measures_lateness: is_long() || !setup.side_by_side,
            memory_before: 0,
            descriptors_before: 0,
            status_before: Status::default(),
            attack: String::new(),
            unrecovered: Vec::new(),
            unique: AtomicUsize::new(0),
            left_out: OmittedPart::default(),
            scratch,
            _permit: permit,
        };
        rig.memory_before = rig.process_kib("VmRSS") << 10;
        rig.descriptors_before = rig.count_descriptors();
        rig.status_before = rig.status();
        println!("before the first attack: {} MB resident", rig.memory_before >> 20);
        if !rig.measures_lateness {
            rig.left_out.record("all attacks of this test", "lateness is not measured");
        }
        rig
    }

    /// Attacks, and checks that the server and the healthy clients are well. An attack that makes packets late is repeated once, and
    /// fails if they are late again. Returns false if the attack is not selected.
    pub(crate) fn attack(&mut self, name: &str, attack: impl Fn(&Rig)) -> bool {
        if !is_selected(name) {
            return false;
        }
        name.clone_into(&mut self.attack);
        if let Err(late) = self.attack_once(&attack) {
            println!("  {name}: {late}; once more");
            self.recover();
            if let Err(late) = self.attack_once(&attack) {
                panic!("{name}: {late}, for the second time");
            }
        }
        if is_long() {
            self.recover();
        }
        true
    }

    /// Attacks like `attack`, but only when the server has recovered from the attacks before: for attacks that bound the memory.
    pub(crate) fn attack_from_rest(&mut self, name: &str, attack: impl Fn(&Rig)) -> bool {
        if is_selected(name) {
            self.recover();
        }
        self.attack(name, attack)
    }

    /// Attacks like `attack`, but in long mode only.
    pub(crate) fn attack_in_long_mode(&mut self, name: &str, why: &str, attack: impl Fn(&Rig)) {
        if is_long() {
            self.attack(name, attack);
        } else if is_selected(name) {
            self.left_out.record(name, why);
        }
    }

    fn attack_once(&mut self, attack: &impl Fn(&Rig)) -> Result<(), String> {
        let healthy = self.healthy.as_ref().expect("present until finish");
        let turn = AttackTurn::wait(self.measures_lateness);
        // Lateness from the attacks of other rigs does not count.
        healthy.wait_caught_up();
        healthy.take_lateness(1.0);
        let [ran, waited] = self.processor_time();
        // Resets VmHWM.
        let _ = fs::write(self.proc("clear_refs"), "5");
        self.unrecovered.push(self.attack.clone());
        let started = Instant::now();
        attack(self);
        let duration = started.elapsed();
        let peak = self.process_kib("VmHWM") >> 10;
        self.server.assert_healthy();
        let healthy = self.healthy.as_ref().expect("present until finish");
        healthy.wait_caught_up();
        let [ran_now, waited_now] = self.processor_time();
        let (running, waiting) = (ran_now.saturating_sub(ran), waited_now.saturating_sub(waited));
        let slowdown = if running.is_zero() { 1.0 } else { 1.0 + waiting.as_secs_f64() / running.as_secs_f64() };
        let lateness = healthy.take_lateness(slowdown.min(MAX_SLOWDOWN));
        drop(turn);
        println!(
            "  {}: {:.1} s; peak {peak} MB; players {} ms late, machine {} ms, slowed down by {slowdown:.1}",
            self.attack,
            duration.as_secs_f32(),
            lateness.players.as_millis(),
            lateness.machine.as_millis()
        );
        self.assert_new_players_served();
        self.assert_log_clean();
        if self.measures_lateness { lateness.check() } else { Ok(()) }
    }

    /// Waits until the server has given back everything that the attacks since the last recovery have taken.
    pub(crate) fn recover(&mut self) {
        if self.unrecovered.is_empty() {
            return;
        }
        let started = Instant::now();
        let attacks = self.unrecovered.join(", ");
        eventually(&format!("descriptors are closed after {attacks}"), RECOVERY, || {
            (self.count_descriptors() <= self.descriptors_before).then_some(())
        });
        let before = self.status_before;
        self.wait_status(&format!("clients and coroutines end after {attacks}"), |status| {
            status.clients <= before.clients && status.coroutines <= before.coroutines
        });
        self.wait_status_within(MEMORY_RECOVERY, &format!("charged memory is released after {attacks}"), |status| {
            status.held <= before.held + CHARGED_MARGIN
        });
        let deadline = Instant::now() + MEMORY_RECOVERY;
        while self.process_kib("VmRSS") << 10 > self.memory_before + RETAINED_BY_ALLOCATOR {
            let is_late = Instant::now() > deadline;
            assert!(
                !is_late,
                "resident memory stays at {} kB after {attacks}; {:?}",
                self.process_kib("VmRSS"),
                self.status()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        println!(
            "  recovered in {:.1} s; {} MB resident",
            started.elapsed().as_secs_f32(),
            self.process_kib("VmRSS") >> 10
        );
        self.unrecovered.clear();
    }

    /// Waits for the last recovery, ends the healthy clients and checks what they have seen.
    pub(crate) fn finish(mut self) {
        self.recover();
        let before = self.status_before;
        self.wait_status("all streams are removed", |status| status.streams <= before.streams);
        self.healthy.take().expect("present until finish").finish();
        self.server.assert_healthy();
        self.assert_log_clean();
        self.left_out.print();
    }

    /// Returns `sample`, or `all` in long mode.
    pub(crate) fn count(&self, sample: usize, all: usize, unit: &str) -> usize {
        if is_long() {
            return all;
        }
        self.left_out.record(&self.attack, &format!("{sample} of {all} {unit}"));
        sample
    }

    /// Returns a duration of `sample` seconds, or of `all` in long mode.
    pub(crate) fn seconds(&self, sample: u64, all: u64) -> Duration {
        if is_long() {
            return Duration::from_secs(all);
        }
        self.left_out.record(&self.attack, &format!("{sample} of {all} seconds"));
        Duration::from_secs(sample)
    }

    /// Records that the sample of the attack leaves something out.
    pub(crate) fn leave_out(&self, what: &str) {
        self.left_out.record(&self.attack, what);
    }

    /// Returns a stream name that no attack on this server has used, also not the same attack before it was repeated.
    pub(crate) fn unique_name(&self, name: &str) -> String {
        format!("{name}{}", self.unique_number())
    }

    /// Returns how often this rig was asked for something unique before.
    pub(crate) fn unique_number(&self) -> usize {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails if new players do not get media within the time limit.
    pub(crate) fn assert_new_players_served(&self) {
        eventually("a new player gets media", RECOVERY, || {
            let mut player = Attacker::connect(self.rtmp)?;
            player.send(&play_session(STREAM));
            // A keyframe: more bytes than any refusal.
            let is_served = player.receives(20_000, Duration::from_secs(5));
            if !is_served {
                // Players that come back at once are a load of their own.
                std::thread::sleep(Duration::from_millis(300));
            }
            is_served.then_some(())
        });
    }

    fn assert_log_clean(&self) {
        for fault in ["panic", "overflowed its stack"] {
            let line = self.server.log_line(&[fault]);
            assert!(line.is_none(), "{line:?}");
        }
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.server.pid())
    }

    /// Returns for how long the server's threads have run, and have waited for a processor; zero if the kernel does not count that.
    fn processor_time(&self) -> [Duration; 2] {
        let of_thread = |text: &str| {
            let mut times = text.split_whitespace().map_while(|word| word.parse().ok().map(Duration::from_nanos));
            Some([times.next()?, times.next()?])
        };
        let threads = fs::read_dir(self.proc("task")).expect("the server runs").flatten();
        let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
        texts.filter_map(|text| of_thread(&text)).fold([Duration::ZERO; 2], |sum, of| [sum[0] + of[0], sum[1] + of[1]])
    }

    /// Returns the resident memory before the first attack, in bytes.
    pub(crate) fn memory_before(&self) -> usize {
        usize::try_from(self.memory_before).expect("memory fits the address space")
    }

    /// Returns the names of the HLS files of the attacked application.
    pub(crate) fn hls_files(&self) -> HashSet<String> {
        let entries = fs::read_dir(self.scratch.folder().join("html/live")).expect("HLS has created the folder");
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// Returns how many HLS files have names that start with `prefix`.
    pub(crate) fn count_hls_files(&self, prefix: &str) -> usize {
        self.hls_files().iter().filter(|name| name.starts_with(prefix)).count()
    }

    /// Returns the number of streams before the first attack.
    pub(crate) fn streams_before(&self) -> usize {
        self.status_before.streams
    }

    /// Asks the server for its status.
    pub(crate) fn status(&self) -> Status {
        let count = || self.server.log().lines().filter(|line| line.contains("status: ")).count();
        let before = count();
        let pid = i32::try_from(self.server.pid()).expect("a process id fits 31 bits");
        kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("the server runs");
        eventually("the server logs its status", RECOVERY, || (count() > before).then_some(()));
        let log = self.server.log();
        let line = log.lines().rfind(|line| line.contains("status: ")).expect("counted above");
        let value = |key: &str| {
            let rest = line.split(&format!(" {key}=")).nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let value = |key: &str| value(key).unwrap_or_else(|| panic!("no {key}= in {line}"));
        Status {
            clients: value("clients"),
            streams: value("streams"),
            coroutines: value("coroutines"),
            held: value("held"),
        }
    }

    /// Waits until the server's status meets a condition.
    pub(crate) fn wait_status(&self, what: &str, is_met: impl Fn(Status) -> bool) {
        self.wait_status_within(RECOVERY, what, is_met);
    }

    fn wait_status_within(&self, limit: Duration, what: &str, is_met: impl Fn(Status) -> bool) {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status();
            if is_met(status) {
                return;
            }
            let before = self.status_before;
            assert!(Instant::now() < deadline, "not within {limit:?}: {what}; {status:?}, before {before:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns a value of /proc/PID/status, in KiB.
    pub(crate) fn process_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Fails if the server's resident memory exceeds `limit`, in MB.
    pub(crate) fn assert_memory_below(&self, limit: u64) {
        let memory = self.process_kib("VmRSS") >> 10;
        println!("    {memory} MB resident, {limit} MB allowed");
        assert!(memory < limit, "{}: {memory} MB resident, {limit} MB allowed", self.attack);
    }

    /// Returns the number of the server's open descriptors.
    pub(crate) fn count_descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the server runs").count()
    }
}

/// Adds the directives of the port to `root`, and returns its number if it is one for TLS.
fn add_tls(scratch: &Scratch, root: &mut String, port: Port) -> Option<u16> {
    #[cfg(not(feature = "ssl"))]
    let _ = (scratch, root);
    match port {
        Port::Plain => None,
        #[cfg(feature = "ssl")]
        Port::Tls => Some(crate::tls_client::configure(scratch, root, "")),
        #[cfg(feature = "ssl")]
        Port::Mixed => Some(crate::tls_client::configure(scratch, root, "plain on;")),
    }
}
