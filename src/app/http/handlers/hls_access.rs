//! Signed URLs of HLS (`secret` of `security`), and sessions of its viewers: asked before the handlers that have the files.
//!
//! Players resolve the addresses of segments against that of the playlist, without its query. So a playlist is sent with the
//! signature or the session in each of its addresses.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::hls_sessions::{HlsSessions, SESSION, is_session, new_session};
use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::disk::{CHUNK, Disk};
use crate::app::http::exchange::Exchange;
use crate::app::http::response::Response;
use crate::app::http::router::Handler;
use crate::app::outputs::live_files::LiveFiles;
use crate::app::session::signed_url::{self, EXPIRES, SIGN, param, without_param};
use crate::config::{Action, Config, DEFAULT_VHOST, Vhost};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::http::uri::percent_encode;
use crate::memory::Category;
use crate::st;

const PLAYLIST_SUFFIX: &str = ".m3u8";
const SEGMENT_SUFFIX: &str = ".ts";

/// Content type of playlists (RFC 8216, 4).
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

pub(crate) struct HlsAccessHandler {
    ctx: Context,
    live_files: LiveFiles,
    sessions: HlsSessions,
    disk: Disk,
}

impl HlsAccessHandler {
    pub(crate) fn new(ctx: Context, live_files: LiveFiles) -> Self {
        Self { sessions: HlsSessions::new(ctx.clone()), ctx, live_files, disk: Disk::new() }
    }

    fn playlist_response(&self, playlist: &str, query: &str) -> Response {
        let body = self.ctx.memory.charge_bytes(Category::Http, with_query(playlist, query).into());
        Response::content(Status::Ok, PLAYLIST_TYPE, body)
    }

    /// Answers a request of a vhost whose viewers have sessions. A session that is not known, as after a restart of the
    /// server, is started again: its player cannot use a master playlist any more.
    fn serve_session(
        &self,
        request: &Request,
        file: &HlsFile,
        dir: &Path,
        exchange: &mut Exchange<'_, '_>,
    ) -> Option<Response> {
        let (query, viewers) = (request.query.as_str(), &self.ctx.viewers);
        let name = format!("{}/{}", file.vhost.name, file.stream);
        let session = param(query, SESSION).filter(|session| is_session(session));
        let known = session.and_then(|session| viewers.record_request(session, &name, st::now()));
        if !file.is_playlist {
            let (Some(session), Some(_)) = (session, known) else {
                return Some(Response::text(Status::Forbidden, "no session: load the playlist first"));
            };
            let size = self.live_files.get(&request.path).map_or(0, |file| file.metadata.len);
            viewers.count(session, size);
            return None;
        }
        if let Err(response) = exchange.admit_viewer() {
            return Some(*response);
        }
        if request.method != Method::Get {
            return Some(Response::content(Status::Ok, PLAYLIST_TYPE, Vec::new().into()));
        }
        let started = match (session, known) {
            (Some(session), Some(stream)) => Ok((session.to_owned(), stream)),
            // It has to leave, or it is that of another stream.
            (Some(session), None) if viewers.is_known(session) => {
                return Some(Response::text(Status::Forbidden, "the session has ended"));
            }
            _ => {
                let id = session.map(str::to_owned).or_else(new_session)?;
                self.sessions.start(&id, request, &file.vhost, &file.stream, exchange).map(|stream| (id, stream))
            }
        };
        let (id, stream) = match started {
            Ok(started) => started,
            Err(reason) => return Some(Response::text(Status::Forbidden, &reason.to_string())),
        };
        if session.is_none() {
            let file = request.path.rsplit('/').next().unwrap_or_default();
            let rest = without_param(query, SESSION);
            let rest = if rest.is_empty() { rest } else { format!("&{rest}") };
            let uri = format!("{}?{SESSION}={id}{rest}", percent_encode(file));
            let master = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n{uri}\n");
            let body = self.ctx.memory.charge_bytes(Category::Http, master.into());
            return Some(Response::content(Status::Ok, PLAYLIST_TYPE, body));
        }
        let path = request.path.strip_suffix(&format!("{}{PLAYLIST_SUFFIX}", file.stream))?;
        let path = format!("{path}{}/{}{PLAYLIST_SUFFIX}", stream.app, stream.stream);
        let Some(playlist) = self.playlist(&path, dir) else {
            return Some(Response::text(Status::NotFound, "the stream has no playlist yet"));
        };
        viewers.count(&id, playlist.len() as u64);
        Some(self.playlist_response(&playlist, &format!("{SESSION}={id}")))
    }

    fn playlist(&self, path: &str, dir: &Path) -> Option<String> {
        let body = match self.live_files.get(path) {
            Some(file) => file.body.clone(),
            None => {
                let file = self.disk.open(dir, path).ok()?;
                file.read(0..file.metadata.len.min(CHUNK)).ok()?
            }
        };
        Some(String::from_utf8_lossy(&body).into_owned())
    }
}

impl Handler for HlsAccessHandler {
    #[inline(never)] // Keeps its locals off the stack of a connection that sends a file.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        let Some(file) = HlsFile::find(&config, &request.path) else { return Ok(None) };
        if file.vhost.hls.sessions {
            return Ok(self.serve_session(request, &file, &config.http_server.dir, exchange));
        }
        let Some(secret) = &file.vhost.security.secret else { return Ok(None) };
        let query = request.query.as_str();
        let now = st::system_time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if let Err(error) = signed_url::verify(secret.expose(), Action::Play, &file.stream, query, now) {
            return Ok(Some(Response::text(Status::Forbidden, &error.to_string())));
        }
        if !file.is_playlist {
            return Ok(None);
        }
        if let Err(response) = exchange.admit_viewer() {
            return Ok(Some(*response));
        }
        let Some(playlist) = self.playlist(&request.path, &config.http_server.dir) else { return Ok(None) };
        let value = |name| param(query, name).unwrap_or_default();
        let query = format!("{EXPIRES}={}&{SIGN}={}", value(EXPIRES), value(SIGN));
        Ok(Some(self.playlist_response(&playlist, &query)))
    }
}

struct HlsFile {
    vhost: Arc<Vhost>,
    /// `APP/STREAM`.
    stream: String,
    is_playlist: bool,
}

impl HlsFile {
    /// Returns what a path names, if it is a file of a vhost that asks for signatures or sessions.
    fn find(config: &Config, path: &str) -> Option<Self> {
        let is_playlist = path.ends_with(PLAYLIST_SUFFIX);
        if !is_playlist && !path.ends_with(SEGMENT_SUFFIX) {
            return None;
        }
        let is_restricted = |vhost: &&Arc<Vhost>| vhost.security.secret.is_some() || vhost.hls.sessions;
        // The default vhost has all paths in its directory that no other vhost has.
        let (default, others): (Vec<_>, Vec<_>) =
            config.vhosts.values().filter(is_restricted).partition(|vhost| vhost.name == DEFAULT_VHOST);
        others.into_iter().chain(default).find_map(|vhost| {
            let base = base_in_vhost(config, vhost, path)?;
            let stream = if is_playlist {
                base.strip_suffix(PLAYLIST_SUFFIX)?.to_owned()
            } else {
                // STREAM-N.ts; of another file below the directory, all is the name.
                let name = base.strip_suffix(SEGMENT_SUFFIX)?;
                let numbered = name.rsplit_once('-').filter(|(_, number)| number.bytes().all(|b| b.is_ascii_digit()));
                numbered.map_or(name, |(stream, _)| stream).to_owned()
            };
            Some(Self { vhost: vhost.clone(), stream, is_playlist })
        })
    }
}

/// Returns the part of a path behind the directory of a vhost, `APP/STREAM…`, if it lies there.
fn base_in_vhost(config: &Config, vhost: &Vhost, path: &str) -> Option<String> {
    // The directory of the files is usually the root of the web server; it can also lie below it.
    let below_root = vhost.hls.path.strip_prefix(&config.http_server.dir).ok().and_then(Path::to_str);
    let below = below_root.filter(|dir| !dir.is_empty()).and_then(|dir| path.strip_prefix(dir)?.strip_prefix('/'));
    let path = below.unwrap_or(path);
    let first = path.split('/').next().unwrap_or_default();
    if vhost.name == DEFAULT_VHOST {
        (!config.vhosts.contains_key(first)).then(|| path.to_owned())
    } else {
        path.strip_prefix(vhost.name.as_str())?.strip_prefix('/').map(str::to_owned)
    }
}

fn with_query(playlist: &str, query: &str) -> String {
    let mut text = String::with_capacity(playlist.len() * 2);
    for line in playlist.lines() {
        let uri = if line.starts_with('#') {
            // An attribute of a tag, such as EXT-X-MAP.
            line.find("URI=\"").and_then(|at| Some(at + 5..at + 5 + line[at + 5..].find('"')?))
        } else {
            (!line.trim().is_empty()).then(|| 0..line.trim_end().len())
        };
        match uri {
            Some(uri) => {
                let mark = if line[uri.clone()].contains('?') { '&' } else { '?' };
                text.extend([&line[..uri.end], mark.encode_utf8(&mut [0; 4]), query, &line[uri.end..]]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Option<(String, String)> {
        let text = "listen 1; http_server { dir ./html; } vhost __defaultVhost__ { security { secret a; } hls_path ./html; } \
                    vhost open.com { } vhost b.com { hls_path ./html/sub/hls; security { secret b; } }";
        let config = Config::parse("t", text).unwrap();
        HlsFile::find(&config, path).map(|file| (file.vhost.name.clone(), file.stream))
    }

    #[test]
    fn a_path_names_a_stream_of_a_vhost() {
        for (path, vhost, stream) in [
            ("live/cam.m3u8", DEFAULT_VHOST, "live/cam"),
            ("live/cam-7.ts", DEFAULT_VHOST, "live/cam"),
            ("live/cam-5-18446744073709551615.ts", DEFAULT_VHOST, "live/cam-5"),
            ("live/cam.ts", DEFAULT_VHOST, "live/cam"),
            ("live/cam-x.ts", DEFAULT_VHOST, "live/cam-x"),
            ("a/b/c/d.m3u8", DEFAULT_VHOST, "a/b/c/d"),
            ("b.com/live/cam-7.ts", "b.com", "live/cam"),
            ("sub/hls/b.com/live/cam.m3u8", "b.com", "live/cam"),
        ] {
            assert_eq!(find(path), Some((vhost.to_owned(), stream.to_owned())), "{path}");
        }
        for open in ["", "index.html", "live/cam.flv", "open.com/live/cam.m3u8", "open.com/live/cam-7.ts"] {
            assert_eq!(find(open), None, "{open}");
        }
    }

    #[test]
    fn each_address_of_a_playlist_gets_the_query() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"1@2\"\n#EXTINF:10.000,\ncam-1.ts\n\n\
                        #EXTINF:10.000, URI\na?b=c\r\n#EXT-X-KEY:URI=\"x";
        assert_eq!(
            with_query(playlist, "e=1&s=2"),
            "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4?e=1&s=2\",BYTERANGE=\"1@2\"\n#EXTINF:10.000,\ncam-1.ts?e=1&s=2\n\n\
             #EXTINF:10.000, URI\na?b=c&e=1&s=2\n#EXT-X-KEY:URI=\"x\n"
        );
    }
}
