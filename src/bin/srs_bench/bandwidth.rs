//! The client of bandwidth tests: the other side of the server's `bandcheck` vhosts, and of those of SRS 0.9 to 4.0.

mod outcome;

use std::io::{IsTerminal, Write, stderr};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use srs::codec::amf0::{Object, Value};
use srs::rtmp::bandwidth_test::{self as exchange, Payload};
use srs::rtmp::client::{Client, info_text};
use srs::rtmp::command::Command;
use srs::rtmp::message::{Message, MessageType};
use srs::st::{self, net::TcpStream};
use structopt::StructOpt;

use self::outcome::{Outcome, json_text};

/// Time limit of connecting.
const CONNECT: Duration = Duration::from_secs(10);

/// Time limit of one step, the same as in SRS.
const STEP: Duration = Duration::from_secs(10);

/// Bytes that the kernel takes beyond those in flight: a server counts what arrives, not what waits here.
const MAX_UNSENT: usize = 128 * 1024;

/// Longest time that the server may order to send for.
const MAX_DURATION: f64 = 60_000.0;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Options of the command.
#[derive(StructOpt, Clone)]
pub(super) struct BandwidthOptions {
    /// Vhost for tests, e.g. 'rtmp://host/app?key=KEY&vhost=bandcheck.srs.com', or the same with rtmps
    #[structopt(value_name = "URL")]
    url: String,
    /// Prints one JSON object instead of a table
    #[structopt(long = "json")]
    json: bool,
    /// Accepts any certificate of an rtmps server
    #[structopt(long = "insecure")]
    insecure: bool,
}

/// A URL `rtmp[s]://HOST[:PORT]/APP?key=KEY&vhost=VHOST`.
#[derive(Debug, PartialEq)]
struct Url {
    tls: bool,
    host: String,
    port: u16,
    /// The application with its parameters.
    app: String,
}

/// Tests the bandwidth, and prints the result. Returns whether there is one. Fails when the URL is invalid, the server
/// cannot be reached or refuses, or the test is broken off.
pub(super) fn run(options: &BandwidthOptions) -> anyhow::Result<()> {
    let url = Url::parse(&options.url)?;
    let addresses: Vec<_> = (url.bare_host(), url.port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {}", url.host))?
        .collect();
    let (insecure, quiet) = (options.insecure, options.json);
    let tested = st::run(move || test(&url, &addresses, insecure, quiet));
    match tested?.and_then(Outcome::check) {
        Ok(outcome) => {
            print!("{}", if options.json { outcome.json() } else { outcome.table() });
            Ok(())
        }
        Err(error) => {
            if options.json {
                println!("{{\"code\": 1, \"error\": {}}}", json_text(&format!("{error:#}")));
            }
            Err(error)
        }
    }
}

impl Url {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let (tls, rest) = match (url.strip_prefix("rtmp://"), url.strip_prefix("rtmps://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => bail!("{url}: the URL must begin with rtmp:// or rtmps://"),
        };
        let Some((authority, app)) = rest.split_once('/').filter(|(_, app)| !app.is_empty()) else {
            bail!("{url}: an application is missing, e.g. rtmp://host/app?key=KEY&vhost=bandcheck.srs.com");
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().with_context(|| format!("{url}: {port} is no port"))?)
            }
            _ => (authority, if tls { 443 } else { 1935 }),
        };
        Ok(Self { tls, host: host.to_owned(), port, app: app.to_owned() })
    }

    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    fn tc_url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        format!("{scheme}://{}:{}/{}", self.host, self.port, self.app)
    }
}

/// Connects and goes through the steps of a test.
fn test(url: &Url, addresses: &[SocketAddr], insecure: bool, quiet: bool) -> anyhow::Result<Outcome> {
    let stream = connect(url, addresses, insecure)?;
    stream.set_unsent_limit(MAX_UNSENT)?;
    stream.set_time_limit(Some(CONNECT));
    let mut client = Client::handshake(stream.clone(), false).context("handshake")?;
    let mut progress = Progress { is_shown: !quiet && stderr().is_terminal(), next: Instant::now() };
    let mut test = Test { stream: &stream, client: &mut client, progress: &mut progress };
    let reply = test.connect(url)?;
    let data = reply.args.first().and_then(Value::as_object).and_then(|info| info.get("data"));
    let server = data.and_then(Value::as_object).cloned().unwrap_or_default();
    let result = test.measure()?;
    progress.end();
    let info = stream.tcp_info()?;
    Ok(Outcome {
        server,
        address: stream.peer().ip().to_canonical().to_string(),
        result,
        min_rtt: info.min_rtt,
        rtt: info.rtt,
        segments: info.segments,
        retransmits: info.retransmits,
    })
}

/// Connects to the first address that accepts.
fn connect(url: &Url, addresses: &[SocketAddr], insecure: bool) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(*address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                if url.tls {
                    stream.set_time_limit(Some(CONNECT));
                    encrypt(&stream, url, insecure)?;
                }
                return Ok(stream);
            }
            Err(error) => last = Some(anyhow::Error::new(error).context(format!("cannot connect to {address}"))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{} has no address", url.host)))
}

#[cfg(feature = "ssl")]
fn encrypt(stream: &TcpStream, url: &Url, insecure: bool) -> anyhow::Result<()> {
    use srs::st::tls::Connector;
    let connector = if insecure { Connector::without_verification() } else { Connector::system() }?;
    stream.connect_tls(&connector, &url.host).context("TLS (--insecure accepts any certificate)")
}

#[cfg(not(feature = "ssl"))]
fn encrypt(_: &TcpStream, _: &Url, _: bool) -> anyhow::Result<()> {
    bail!("this build has no TLS; build it with ./configure --with-ssl")
}

struct Test<'a> {
    stream: &'a TcpStream,
    client: &'a mut Client<TcpStream>,
    progress: &'a mut Progress,
}

impl Test<'_> {
    /// Sends `connect`, and returns the server's reply.
    fn connect(&mut self, url: &Url) -> anyhow::Result<Command> {
        let object = Object::new()
            .with("app", url.app.as_str())
            .with("flashVer", concat!("srs_bench/", env!("CARGO_PKG_VERSION")))
            .with("tcUrl", url.tc_url().as_str());
        let protocol = self.client.protocol();
        protocol.set_chunk_size(60_000);
        protocol.send_command(0, &Command::new("connect", 1.0).object(object));
        loop {
            let message = self.client.recv().context("the server does not answer connect")?;
            if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
                continue;
            }
            let command = Command::from_message(&message)?;
            let is_error = command.name == "_error" || info_text(&command, "level") == Some("error");
            match command.name.as_str() {
                "_result" => return Ok(command),
                "_error" | "onStatus" if is_error => {
                    bail!("refused: {}", info_text(&command, "description").unwrap_or("without a reason"))
                }
                _ => {}
            }
        }
    }

    /// Runs the 13 steps, and returns the object of step 12.
    fn measure(&mut self) -> anyhow::Result<Object> {
        self.expect(exchange::START_PLAY)?;
        self.answer(exchange::STARTING_PLAY)?;
        self.expect(exchange::STOP_PLAY)?;
        self.answer(exchange::STOPPED_PLAY)?;
        let order = self.expect(exchange::START_PUBLISH)?;
        self.answer(exchange::STARTING_PUBLISH)?;
        self.publish(&order)?;
        self.answer(exchange::STOP_PUBLISH)?;
        self.expect(exchange::STOP_PUBLISH)?;
        self.answer(exchange::STOPPED_PUBLISH)?;
        let result = self.expect(exchange::FINISHED)?;
        // The server may have closed already.
        let _ = self.answer(exchange::FINAL);
        Ok(result)
    }

    /// Sends for as long and as fast as the server says.
    fn publish(&mut self, order: &Object) -> anyhow::Result<()> {
        let number = |name| order.get(name).and_then(Value::as_number).unwrap_or(0.0);
        let duration = Duration::from_secs_f64(number("duration_ms").clamp(0.0, MAX_DURATION) / 1000.0);
        let bytes_per_second = number("limit_kbps").max(0.0) * 125.0;
        // A tenth of a second of the limit.
        let longest = if bytes_per_second > 0.0 { (bytes_per_second / 10.0) as usize } else { usize::MAX };
        let mut payload = Payload::new(exchange::PUBLISHING, longest);
        let (started, before) = (Instant::now(), self.stream.tcp_info()?.bytes_acked);
        let mut sent = 0;
        while started.elapsed() < duration {
            payload.send(self.client.protocol());
            sent += self.client.protocol().output_len();
            self.stream.set_time_limit(Some(STEP));
            self.client.protocol().flush()?;
            if self.progress.is_due() {
                self.progress.show("upload", self.stream.tcp_info()?.bytes_acked - before, started.elapsed());
            }
            let due = if bytes_per_second > 0.0 { sent as f64 / bytes_per_second } else { 0.0 };
            let ahead = Duration::from_secs_f64(due).saturating_sub(started.elapsed());
            st::sleep(ahead.min(duration.saturating_sub(started.elapsed())));
        }
        Ok(())
    }

    /// Waits for a command, and returns its object. Skips others, of which the payload is one.
    fn expect(&mut self, name: &str) -> anyhow::Result<Object> {
        let (started, before) = (Instant::now(), self.stream.bytes_received());
        loop {
            // The limit is for a message; payload messages come until the one that is awaited.
            self.stream.set_time_limit(Some(STEP));
            let message = self.client.recv().with_context(|| format!("no {name} of the server"))?;
            match exchange::name(&message) {
                Some(found) if found == name => return read_object(&message),
                Some(exchange::PLAYING) if self.progress.is_due() => {
                    self.progress.show("download", self.stream.bytes_received() - before, started.elapsed());
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, name: &str) -> anyhow::Result<()> {
        self.stream.set_time_limit(Some(STEP));
        exchange::send(self.client.protocol(), name, Object::new());
        self.client.protocol().flush().with_context(|| format!("the server does not take {name}"))
    }
}

fn read_object(message: &Message) -> anyhow::Result<Object> {
    let command = Command::from_message(message)?;
    Ok(command.args.first().and_then(Value::as_object).cloned().unwrap_or_default())
}

/// The progress line on a terminal.
struct Progress {
    is_shown: bool,
    next: Instant,
}

impl Progress {
    fn is_due(&mut self) -> bool {
        let is_due = self.is_shown && Instant::now() >= self.next;
        if is_due {
            self.next = Instant::now() + PROGRESS_INTERVAL;
        }
        is_due
    }

    fn show(&self, direction: &str, bytes: u64, time: Duration) {
        let mbps = bytes as f64 * 8e-6 / time.as_secs_f64().max(0.001);
        // Errors of the terminal do not matter.
        let _ = write!(stderr(), "\r{direction:<8} {mbps:8.2} Mbit/s after {:.1} s   ", time.as_secs_f64());
    }

    fn end(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r{:48}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("rtmp://h/app?key=k,vhost=v").unwrap();
        let expected = Url { tls: false, host: "h".into(), port: 1935, app: "app?key=k,vhost=v".into() };
        assert_eq!(url, expected);
        assert_eq!(url.tc_url(), "rtmp://h:1935/app?key=k,vhost=v");
        let url = Url::parse("rtmps://[::1]:1936/a").unwrap();
        assert_eq!((url.tls, url.bare_host(), url.port), (true, "::1", 1936));
        assert_eq!(Url::parse("rtmps://[::1]/a").unwrap().port, 443);
        for bad in ["http://h/a", "rtmp://h", "rtmp://h/", "rtmp://h:x/a"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
