//! A response of HTTP-FLV, as messages.

use srs::codec::flv;
use srs::rtmp::message::{Message, MessageType};
use srs::rtmp::{self};

/// Longest head of a response.
const MAX_HEAD: usize = 16 * 1024;

/// Reader of a response.
pub(super) struct FlvReader {
    input: Vec<u8>,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Head,
    FileHeader,
    Tags,
}

impl FlvReader {
    pub(super) fn new() -> Self {
        Self { input: Vec::new(), stage: Stage::Head }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Returns the next message, if it is complete.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, rtmp::Error> {
        let mut rest = &self.input[..];
        let message = loop {
            match self.stage {
                Stage::Head => {
                    let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                        if rest.len() > MAX_HEAD {
                            return Err(invalid("the head of the response is too long"));
                        }
                        break None;
                    };
                    if !rest.starts_with(b"HTTP/1.1 200 ") {
                        let status = rest.split(|&byte| byte == b'\r').next().unwrap_or_default();
                        return Err(invalid(&String::from_utf8_lossy(status)));
                    }
                    // Chunks are not read: this server and those it is measured with can do without.
                    rest = &rest[end + 4..];
                    self.stage = Stage::FileHeader;
                }
                Stage::FileHeader => {
                    if flv::read_file_header(&mut rest).map_err(|error| invalid(&error.to_string()))?.is_none() {
                        break None;
                    }
                    self.stage = Stage::Tags;
                }
                Stage::Tags => {
                    let tag = flv::read_tag(&mut rest).map_err(|error| invalid(&error.to_string()))?;
                    let Some(flv::Tag { kind, timestamp, payload }) = tag else { break None };
                    let kind = match kind {
                        flv::TAG_AUDIO => MessageType::AUDIO,
                        flv::TAG_VIDEO => MessageType::VIDEO,
                        _ => MessageType::DATA,
                    };
                    break Some(Message { kind, timestamp, stream_id: 1, payload });
                }
            }
        };
        let read = self.input.len() - rest.len();
        self.input.drain(..read);
        Ok(message)
    }
}

fn invalid(text: &str) -> rtmp::Error {
    rtmp::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_in_pieces() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec();
        flv::write_header(&mut bytes, true, true);
        let tag = flv::Tag { kind: flv::TAG_VIDEO, timestamp: 7, payload: bytes::Bytes::from_static(b"x") };
        flv::write_tag(&mut bytes, &tag).unwrap();
        let mut reader = FlvReader::new();
        let mut messages = Vec::new();
        for byte in bytes {
            reader.feed(&[byte]);
            messages.extend(reader.next_message().unwrap());
        }
        assert_eq!(
            messages.iter().map(|message| (message.kind, message.timestamp)).collect::<Vec<_>>(),
            [(MessageType::VIDEO, 7)]
        );
        let mut refused = FlvReader::new();
        refused.feed(b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert!(refused.next_message().is_err());
    }
}
