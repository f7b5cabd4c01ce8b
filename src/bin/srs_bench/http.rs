//! An HTTP client that gets one URL repeatedly on one connection, or follows the live playlist at the URL as a viewer does.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use srs::st::{self, net::TcpStream};

use super::player::CONNECT;
use super::stats::{Stats, add};

/// Time limit of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest head of a response.
const MAX_HEAD: usize = 16 * 1024;

thread_local! {
    /// Read buffer that all clients share: its content is consumed before another coroutine runs.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Longest playlist of a viewer.
const MAX_PLAYLIST: usize = 64 * 1024;

/// The behaviour of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    /// Time from one request to the next, unless the response takes longer.
    pub(super) interval: Duration,
    /// The URL is a playlist of HLS: the client also gets its newest segment, once.
    pub(super) follows_playlist: bool,
}

/// A URL, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Url {
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Url {
    /// Reads `http://host[:port][/path]`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else { bail!("{url}: the URL must begin with http://") };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let socket = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = socket.to_socket_addrs().with_context(|| format!("{url}: cannot resolve {authority}"))?.next();
        Ok(Self {
            address: address.with_context(|| format!("{url}: {authority} has no address"))?,
            authority: authority.to_owned(),
            path: format!("/{path}"),
        })
    }

    /// Returns the URL with `{n}` in the path replaced by a number.
    pub(super) fn numbered(&self, n: u32) -> Self {
        Self { path: self.path.replace("{n}", &n.to_string()), ..self.clone() }
    }

    /// Returns the URL of a file of the same folder.
    fn sibling(&self, name: &str) -> Self {
        let folder = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
        Self { path: format!("{folder}{name}"), ..self.clone() }
    }

    fn request(&self) -> String {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: srs_bench\r\n\r\n", self.path, self.authority)
    }
}

/// Starts an HTTP client.
pub(super) fn spawn(number: u32, url: Url, behaviour: Behaviour, stats: Arc<Stats>) {
    let counted = stats.clone();
    let spawned = st::spawn("http", number.into(), move || {
        let mut started = false;
        if let Err(error) = run(&url, behaviour, &counted, &mut started) {
            counted.count_end(started, error);
        }
    });
    if let Err(error) = spawned {
        stats.count_end(false, error);
    }
}

fn run(url: &Url, behaviour: Behaviour, stats: &Stats, started: &mut bool) -> io::Result<()> {
    let stream = TcpStream::connect(url.address, CONNECT)?;
    stream.set_nodelay(true)?;
    add(&stats.connected, 1);
    let request = url.request();
    let mut last_segment = String::new();
    while !stats.is_stopped() {
        let started_at = Instant::now();
        let mut playlist = Vec::new();
        get(&stream, &request, stats, behaviour.follows_playlist.then_some(&mut playlist))?;
        if !*started {
            *started = true;
            add(&stats.started, 1);
        }
        if let Some(segment) = newest_segment(&playlist)
            && segment != last_segment
        {
            get(&stream, &url.sibling(segment).request(), stats, None)?;
            segment.clone_into(&mut last_segment);
        }
        let rest = behaviour.interval.saturating_sub(started_at.elapsed());
        if !rest.is_zero() {
            st::sleep(rest);
        }
    }
    Ok(())
}

/// Gets a file, with its content if there is a `body`.
fn get(stream: &TcpStream, request: &str, stats: &Stats, body: Option<&mut Vec<u8>>) -> io::Result<()> {
    let started_at = Instant::now();
    (&*stream).write_all(request.as_bytes())?;
    let status = read_response(stream, stats, body)?;
    if !(200..300).contains(&status) {
        return Err(io::Error::other(format!("the response status is {status}")));
    }
    add(&stats.messages, 1);
    stats.latency.add(started_at.elapsed().as_micros() as u64);
    Ok(())
}

/// Returns the last file of a playlist.
fn newest_segment(playlist: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(playlist).ok()?;
    text.lines().rfind(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Reads a response and returns its status.
fn read_response(stream: &TcpStream, stats: &Stats, mut body: Option<&mut Vec<u8>>) -> io::Result<u16> {
    let deadline = Instant::now() + RESPONSE_TIMEOUT;
    // The bytes of the head so far. Later only the length of the rest of the body matters.
    let mut head = Vec::new();
    let mut parsed: Option<(u16, u64)> = None;
    loop {
        let read = BUFFER.with_borrow_mut(|buffer| {
            let Some(n) = stream.try_read(buffer)? else { return Ok(None) };
            if n == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof));
            }
            add(&stats.bytes, n as u64);
            let mut received = &buffer[..n];
            if parsed.is_none() {
                let before = head.len();
                head.extend_from_slice(received);
                let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                    return if head.len() < MAX_HEAD { Ok(Some(false)) } else { Err(bad_head()) };
                };
                parsed = Some(read_head(&head[..end])?);
                received = &received[end + 4 - before..];
            }
            if let Some(body) = &mut body
                && body.len() < MAX_PLAYLIST
            {
                body.extend_from_slice(received);
            }
            let left = parsed.as_mut().map_or(0, |(_, left)| {
                *left = left.saturating_sub(received.len() as u64);
                *left
            });
            Ok(Some(left == 0))
        })?;
        match (read, parsed) {
            (Some(true), Some((status, _))) => return Ok(status),
            (Some(_), _) => stream.yield_if_busy(),
            (None, _) => {
                if stream.wait(Some(deadline)).timed_out {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

/// Parses the status and the length of the body.
fn read_head(head: &[u8]) -> io::Result<(u16, u64)> {
    let text = std::str::from_utf8(head).map_err(|_| bad_head())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(bad_head)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length.ok_or_else(bad_head)?))
}

fn bad_head() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a response without status or Content-Length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("http://127.0.0.1:8080/live/a.m3u8?b").unwrap();
        assert_eq!(url.address, "127.0.0.1:8080".parse().unwrap());
        assert!(url.request().starts_with("GET /live/a.m3u8?b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
        assert_eq!(url.sibling("a-7.ts").path, "/live/a-7.ts");
        assert_eq!(Url { path: "/live/s{n}.m3u8".into(), ..url }.numbered(7).path, "/live/s7.m3u8");
        assert_eq!(Url::parse("http://127.0.0.1").unwrap().path, "/");
        assert!(Url::parse("rtmp://127.0.0.1/live/a").is_err());
    }

    #[test]
    fn the_newest_segment_of_a_playlist() {
        let playlist = b"#EXTM3U\n#EXTINF:2.0,\na-1.ts\n#EXTINF:2.0,\na-2.ts\n\n#EXT-X-ENDLIST\n";
        assert_eq!((newest_segment(playlist), newest_segment(b"#EXTM3U\n")), (Some("a-2.ts"), None));
    }

    #[test]
    fn heads() {
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 12").unwrap(), (200, 12));
        assert!(read_head(b"HTTP/1.1 200 OK\r\nA: b").is_err());
        assert!(read_head(b"").is_err());
    }
}
