//! A publishing client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use srs::codec::amf0::Object;
use srs::rtmp::{self, client::Client};
use srs::st::{self, net::TcpStream};

use super::media::Media;
use super::player::CONNECT;
use super::stats::{Stats, add};
use super::target::Target;

/// Starts a publisher. With `is_counted` its bytes and messages are counted: not in a measurement of players.
pub(super) fn spawn(number: u32, target: Target, media: Arc<Media>, is_counted: bool, stats: Arc<Stats>) {
    let counted = stats.clone();
    let spawned = st::spawn("publisher", number.into(), move || {
        let mut started = false;
        if let Err(error) = publish(&target, &media, is_counted, &counted, &mut started) {
            counted.count_end(started, error);
        }
    });
    if let Err(error) = spawned {
        stats.count_end(false, error);
    }
}

fn publish(
    target: &Target,
    media: &Media,
    is_counted: bool,
    stats: &Stats,
    started: &mut bool,
) -> Result<(), rtmp::Error> {
    let stream = TcpStream::connect(target.address, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_time_limit(Some(CONNECT));
    add(&stats.connected, 1);
    let mut client = Client::handshake(stream.clone(), false)?;
    client.connect(&target.app, &target.tc_url, &Object::new())?;
    let stream_id = client.publish(&target.stream)?;
    stream.set_time_limit(None);
    stream.set_write_timeout(Some(CONNECT));
    *started = true;
    add(&stats.started, 1);
    let started_at = Instant::now();
    let mut frames = 0;
    for (time, mut message) in media.messages(stream_id) {
        let due = started_at + Duration::from_millis(time);
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            st::sleep(early);
        }
        if stats.is_stopped() {
            break;
        }
        stats.send_delay.add(started_at.elapsed().saturating_sub(Duration::from_millis(time)).as_micros() as u64);
        media.stamp(&mut message, &mut frames);
        client.send(&message)?;
        if is_counted {
            add(&stats.bytes, message.payload.len() as u64);
            add(&stats.messages, 1);
        }
        // Acknowledgements and pings are ignored, but must not fill the socket.
        let mut buffer = [0; 512];
        while let Some(n) = stream.try_read(&mut buffer)? {
            if n == 0 {
                return Err(rtmp::Error::Closed);
            }
        }
    }
    client.unpublish(stream_id, &target.stream)
}
