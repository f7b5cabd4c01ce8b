//! Delayed acknowledgements by the kernel: one for two messages of a publisher.
//!
//! A publisher gets no answers to its messages, so Linux takes its connection for a transfer in one direction, and acknowledges each
//! message as soon as it is read: two thirds of the cost of reading it. Told to delay acknowledgements, it sends one with the second
//! message, or after 40 ms; after these 40 ms it no longer delays them. A publisher that itself delays small segments (Nagle's algorithm,
//! as ffmpeg does) waits for the acknowledgement of one message before it sends the next, so this costs it 40 ms each time.

use crate::st::net::TcpStream;

/// Messages between two checks: about a second of audio and video.
const CHECK_INTERVAL: u64 = 64;

/// When to check whether the kernel still delays acknowledgements.
#[derive(Debug, Default)]
pub(super) struct DelayedAcks {
    check_at: u64,
    /// Messages from the last check to the next.
    interval: u64,
}

impl DelayedAcks {
    /// Checks, if it is time after `messages` messages of the connection, and has acknowledgements delayed again. Each time in a row
    /// that this is needed, the next check comes after twice as many messages.
    pub(super) fn update(&mut self, messages: u64, stream: &TcpStream) {
        if messages >= self.check_at {
            self.check(messages, stream);
        }
    }

    #[cold]
    fn check(&mut self, messages: u64, stream: &TcpStream) {
        if stream.delays_acks() {
            self.interval = CHECK_INTERVAL;
        } else {
            // If the socket does not take the option, the only loss is processor time.
            let _ = stream.delay_acks();
            self.interval = self.interval.saturating_mul(2).max(CHECK_INTERVAL);
        }
        self.check_at = messages.saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;
    use std::time::Duration;

    use super::*;
    use crate::st;

    #[test]
    fn acknowledgements_that_do_not_stay_delayed_are_checked_less_and_less() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        st::run(move || {
            let stream = TcpStream::connect(address, Duration::from_secs(10)).unwrap();
            let (mut publisher, _) = listener.accept().unwrap();
            let (mut acks, mut checks) = (DelayedAcks::default(), Vec::new());
            for messages in 0..1000 {
                if messages == acks.check_at {
                    checks.push(messages);
                }
                acks.update(messages, &stream);
                if stream.delays_acks() {
                    publisher.write_all(b"alone").unwrap();
                    (&stream).read_exact(&mut [0; 5]).unwrap();
                    while stream.delays_acks() {
                        st::sleep(Duration::from_millis(10));
                    }
                }
            }
            assert_eq!((checks, acks.check_at), (vec![0, 64, 192, 448, 960], 1984));
            stream.delay_acks().unwrap();
            acks.update(1984, &stream);
            assert_eq!(acks.check_at, 1984 + CHECK_INTERVAL, "they have stayed delayed");
        })
        .unwrap();
    }
}
