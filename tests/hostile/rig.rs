//! A server with its healthy clients, and what is looked at after each attack.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attacker::{Attacker, Target};
use crate::healthy::{Healthy, STREAM};
use crate::process::eventually;
use crate::rtmp::playing;
use crate::scratch::Scratch;
use crate::server::{Server, Settings, free_port};

/// How much more memory the server may have after an attack than before the first: what its allocator keeps for the next time.
const KEPT: u64 = 24 << 20;

/// How much more may be held for clients: the window of the healthy stream's HLS, and what waits behind it to be removed.
const HELD: usize = 8 << 20;

/// How long it may take to give back what an attack took.
const RECOVERY: Duration = Duration::from_secs(30);

/// The same for memory: who watches a stream over HLS that has ended has the 6 s of its playlist to get the rest of it, after the
/// second in which its publisher might come back and hls_dispose; and the heap gives back what was not needed for 5 to 10 s.
pub(crate) const MEMORY_RECOVERY: Duration = Duration::from_secs(75);

/// One rig at a time: two attacks at once would be two machines' work.
static ONE: Mutex<()> = Mutex::new(());

/// Whether all of every attack is asked for.
pub(crate) fn is_long() -> bool {
    std::env::var("SRS_HOSTILE_LONG").is_ok_and(|value| value == "1")
}

/// How often to do what takes long: `sample` times, or `all` when that is asked for.
pub(crate) fn times(sample: usize, all: usize) -> usize {
    if is_long() { all } else { sample }
}

pub(crate) struct Rig {
    pub(crate) target: Target,
    /// Where HTTP is, in builds that have it.
    pub(crate) http: Target,
    pub(crate) server: Server,
    healthy: Option<Healthy>,
    memory: u64,
    descriptors: usize,
    status: Status,
    pub(crate) scratch: Scratch,
    _alone: MutexGuard<'static, ()>,
}

/// Room for those who attack, unless a test is about that.
const PLACES: &str = "max_connections 4000;";

/// Whatever is published becomes HLS, and is given back soon after its end.
const HLS: &str = "hls { enabled on; hls_path html; hls_fragment 1; hls_window 6; hls_dispose 1; }";

/// Nor is it held for long for a publisher who does not come back, where the test has no settings of its own for publishers.
const GRACE: &str = "publish { reconnect_grace 1; }";

/// What the server says of itself when it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) clients: usize,
    pub(crate) streams: usize,
    pub(crate) coroutines: usize,
    /// Bytes for clients.
    pub(crate) held: usize,
}

/// Ends what others go on with, also when this test fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Rig {
    /// A server, attacked through plain TCP.
    pub(crate) fn plain(root: &str, vhost: &str) -> Rig {
        Rig::new(root, vhost, None)
    }

    /// A server, attacked through TLS.
    #[cfg(feature = "ssl")]
    pub(crate) fn encrypted(root: &str, vhost: &str) -> Rig {
        Rig::new(root, vhost, Some(""))
    }

    /// The same on a port that takes plain RTMP as well.
    #[cfg(feature = "ssl")]
    pub(crate) fn either(root: &str, vhost: &str) -> Rig {
        Rig::new(root, vhost, Some("plain on;"))
    }

    /// `rtmps`: what the block for TLS has beside what it needs, if there is to be one.
    fn new(root: &str, vhost: &str, rtmps: Option<&str>) -> Rig {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Attacks by the thousand need as many descriptors on this side.
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 20_000, 20_000);
        let scratch = Scratch::new();
        let places = if root.contains("max_connections ") { "" } else { PLACES };
        let mut root = format!("{places}\n{root}\n");
        let tls = rtmps.is_some();
        let port = rtmps.map(|more| configure_tls(&scratch, &mut root, more));
        let http = Target { port: free_port(), tls: false };
        let mut vhost = vhost.to_owned();
        if !vhost.contains("publish {") {
            vhost += GRACE;
        }
        if cfg!(feature = "hls") {
            root += &format!("http_server {{ enabled on; listen 127.0.0.1:{}; dir html; }}\n", http.port);
            vhost += HLS;
        }
        let server = Server::with(&scratch, Settings { root: &root, vhost: &vhost, ..Settings::default() });
        let (plain, target) =
            (Target { port: server.port, tls: false }, Target { port: port.unwrap_or(server.port), tls });
        let healthy = Healthy::start(target, &[target, target, plain], cfg!(feature = "hls").then_some(http.port));
        // Until the viewer has begun, and what comes with the first segments is there.
        std::thread::sleep(Duration::from_secs(3));
        healthy.lateness().assert_small();
        let status = Status { clients: 0, streams: 0, coroutines: 0, held: 0 };
        let mut rig = Rig {
            target,
            http,
            server,
            healthy: Some(healthy),
            memory: 0,
            descriptors: 0,
            status,
            scratch,
            _alone: alone,
        };
        rig.memory = rig.process("VmRSS") << 10;
        rig.descriptors = rig.count_descriptors();
        rig.status = rig.status();
        println!("{}: {} MB before", if tls { "through TLS" } else { "plain" }, rig.memory >> 20);
        rig
    }

    /// Attacks, and looks at what it has done.
    pub(crate) fn attack(&mut self, name: &str, attack: impl FnOnce(&Rig)) {
        if std::env::var("SRS_HOSTILE_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        println!("  {name}");
        let _ = fs::write(self.proc("clear_refs"), "5");
        let began = Instant::now();
        attack(self);
        let took = began.elapsed();
        let peak = self.process("VmHWM") << 10;
        let ended = Instant::now();
        self.server.assert_healthy();
        let healthy = self.healthy.as_ref().expect("until the end");
        healthy.catch_up();
        let lateness = healthy.lateness();
        lateness.assert_small();
        self.assert_newcomers_play();
        let descriptors = self.descriptors;
        eventually("all descriptors are given back", RECOVERY, || {
            (self.count_descriptors() <= descriptors).then_some(())
        });
        let before = self.status;
        self.wait_status("all coroutines are given back", |status| {
            status.clients <= before.clients && status.coroutines <= before.coroutines
        });
        self.wait_until(MEMORY_RECOVERY, "what is held is given back", |status| status.held <= before.held + HELD);
        let due = Instant::now() + MEMORY_RECOVERY;
        while self.process("VmRSS") << 10 > self.memory + KEPT {
            let is_late = Instant::now() > due;
            assert!(!is_late, "the memory is not given back: {} kB; {:?}", self.process("VmRSS"), self.status());
            std::thread::sleep(Duration::from_millis(100));
        }
        let after = self.process("VmRSS") << 10;
        println!(
            "    {:.1} s, {:.1} s to recover; memory {} MB at most, {} MB after; {} ms late at most, the machine {} ms",
            took.as_secs_f32(),
            ended.elapsed().as_secs_f32(),
            peak >> 20,
            after >> 20,
            lateness.players.as_millis(),
            lateness.machine.as_millis()
        );
        assert!(self.server.log_line(&["panic"]).is_none(), "{:?}", self.server.log_line(&["panic"]));
        assert!(self.server.log_line(&["overflowed its stack"]).is_none());
    }

    /// Ends the healthy clients, who have seen nothing wrong.
    pub(crate) fn finish(mut self) {
        let before = self.status;
        self.wait_status("all streams are given back", |status| status.streams <= before.streams);
        self.healthy.take().expect("until the end").finish();
        self.server.assert_healthy();
    }

    /// Fails when whoever comes from now on gets no media. How soon is not asked, but that it is not refused for ever, or forgotten.
    pub(crate) fn assert_newcomers_play(&self) {
        eventually("newcomers get media", RECOVERY, || {
            // Who knocks all the time is a load of its own.
            std::thread::sleep(Duration::from_millis(300));
            let mut newcomer = Attacker::connect(self.target)?;
            newcomer.send(&playing(STREAM));
            // A keyframe, which is more than any reason why not.
            newcomer.hears(20_000, Duration::from_secs(5)).then_some(())
        });
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.server.pid())
    }

    /// The server's memory before the first attack, in bytes.
    pub(crate) fn memory(&self) -> usize {
        usize::try_from(self.memory).expect("less than there is")
    }

    /// The names of the files of the application that is attacked.
    pub(crate) fn files_of_hls(&self) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.folder().join("html/live")).expect("HLS has made the folder");
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// How many streams there were before the first attack.
    pub(crate) fn streams(&self) -> usize {
        self.status.streams
    }

    /// What the server says of itself.
    pub(crate) fn status(&self) -> Status {
        let said = || self.server.log().lines().filter(|line| line.contains("status: ")).count();
        let before = said();
        let pid = i32::try_from(self.server.pid()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("the server lives");
        eventually("the server says how it is", RECOVERY, || (said() > before).then_some(()));
        let log = self.server.log();
        let line = log.lines().rfind(|line| line.contains("status: ")).expect("it was there");
        let number = |name: &str| {
            let rest = line.split(&format!("{name}=")).nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let number = |name: &str| number(name).unwrap_or_else(|| panic!("no {name}= in {line}"));
        Status {
            clients: number("clients"),
            streams: number("streams"),
            coroutines: number("coroutines"),
            held: number("held"),
        }
    }

    /// Waits until what the server says of itself is as it is to be.
    pub(crate) fn wait_status(&self, what: &str, is_due: impl Fn(Status) -> bool) {
        self.wait_until(RECOVERY, what, is_due);
    }

    fn wait_until(&self, limit: Duration, what: &str, is_due: impl Fn(Status) -> bool) {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status();
            if is_due(status) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {limit:?}: {what}; {status:?}, before {:?}", self.status);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A line of /proc/PID/status, in kB.
    pub(crate) fn process(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the server lives");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// How many descriptors the server has.
    pub(crate) fn count_descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the server lives").count()
    }
}

#[cfg(feature = "ssl")]
use tls::configure as configure_tls;

/// Not called: no rig asks for TLS in a build without it.
#[cfg(not(feature = "ssl"))]
fn configure_tls(_: &Scratch, _: &mut String, _: &str) -> u16 {
    unreachable!("a build without TLS")
}

#[cfg(feature = "ssl")]
pub(crate) mod tls {
    //! The attacker's side of TLS, and the server's certificate.

    use std::fmt::Write as _;
    use std::net::TcpStream;
    use std::process::Command;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use crate::scratch::Scratch;
    use crate::server::free_port;
    use crate::wire::Transport;

    type Session = StreamOwned<ClientConnection, TcpStream>;

    impl Transport for Session {
        fn set_read_timeout(&self, limit: Duration) {
            self.sock.set_read_timeout(Some(limit)).expect("a socket option");
        }
    }

    /// One certificate for all rigs, since one client trusts them all.
    fn certificate() -> &'static (Vec<u8>, Vec<u8>) {
        static FILES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
        FILES.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            let options = "req -x509 -nodes -days 2 -subj /CN=localhost -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
                           -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
            let mut openssl = Command::new("openssl");
            openssl.args(options.split_whitespace()).arg("-keyout").arg(&key).arg("-out").arg(&cert);
            assert!(openssl.output().expect("openssl is here").status.success());
            (std::fs::read(cert).expect("a certificate"), std::fs::read(key).expect("a key"))
        })
    }

    /// Writes the certificate and adds the directives for a port of its own.
    pub(super) fn configure(scratch: &Scratch, root: &mut String, more: &str) -> u16 {
        let (cert, key) = (scratch.file("cert.pem"), scratch.file("key.pem"));
        std::fs::write(&cert, &certificate().0).expect("a file in the scratch folder");
        std::fs::write(&key, &certificate().1).expect("a file in the scratch folder");
        let port = free_port();
        write!(
            root,
            "rtmps {{ enabled on; listen 127.0.0.1:{port}; cert {}; key {}; {more} }}",
            cert.display(),
            key.display()
        )
        .expect("memory");
        port
    }

    /// What a client says first, with all that the server needs to answer it.
    pub(crate) fn greeting() -> Vec<u8> {
        let mut hello = Vec::new();
        client().write_tls(&mut hello).expect("memory");
        hello
    }

    pub(crate) fn wrap(socket: TcpStream) -> Option<Session> {
        socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut stream = StreamOwned::new(client(), socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).ok()?;
        }
        Some(stream)
    }

    fn client() -> ClientConnection {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates([CertificateDer::from_pem_slice(&certificate().0).expect("PEM")]);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
        });
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(config.clone(), name).expect("a configuration that is whole")
    }
}
