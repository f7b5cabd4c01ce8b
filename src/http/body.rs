//! Bodies of requests (RFC 9112, 6).

use super::chunked::ChunkedDecoder;
use super::refusal::{Refusal, refuse};
use super::status::Status;

/// Maximum size in bytes of a body that is read and discarded, for a request whose handler does not read it.
pub const MAX_DISCARDED: u64 = 16 * 1024;

/// The length of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// Content-Length, or 0 without it.
    Known(u64),
    /// The chunked transfer coding.
    Chunked,
}

impl BodyLength {
    /// Returns whether there is no body.
    pub fn is_empty(self) -> bool {
        self == Self::Known(0)
    }
}

/// The decoder of one body.
#[derive(Debug)]
pub struct BodyDecoder(Decoder);

#[derive(Debug)]
enum Decoder {
    /// Bytes left.
    Known(u64),
    Chunked(ChunkedDecoder),
}

impl BodyDecoder {
    /// Creates a decoder of a body of at most `max` bytes. Fails when the body is known to be longer.
    pub fn new(length: BodyLength, max: u64) -> Result<Self, Refusal> {
        match length {
            BodyLength::Known(length) if length > max => refuse(Status::ContentTooLarge, "the body is too large"),
            BodyLength::Known(length) => Ok(Self(Decoder::Known(length))),
            BodyLength::Chunked => Ok(Self(Decoder::Chunked(ChunkedDecoder::new(max)))),
        }
    }

    /// Returns whether the body is complete.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Decoder::Known(left) => *left == 0,
            Decoder::Chunked(decoder) => decoder.is_finished(),
        }
    }

    /// Appends the next bytes of the body to `body`, and returns how many bytes of `input` have been consumed. The
    /// others come again, with more behind them; behind a finished body, they are the next request. Fails when the
    /// chunked coding is invalid, or the body is too long.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        match &mut self.0 {
            Decoder::Known(left) => {
                let here = (*left).min(input.len() as u64);
                body.extend_from_slice(&input[..here as usize]);
                *left -= here;
                Ok(here as usize)
            }
            Decoder::Chunked(decoder) => decoder.decode(input, body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_length_says() {
        let (mut decoder, mut body) = (BodyDecoder::new(BodyLength::Known(5), 5).unwrap(), Vec::new());
        assert_eq!(decoder.decode(b"abc", &mut body), Ok(3));
        assert!(!decoder.is_finished());
        assert_eq!(decoder.decode(b"deGET", &mut body), Ok(2));
        assert!(decoder.is_finished() && body == b"abcde");
        assert!(BodyDecoder::new(BodyLength::Known(0), 0).unwrap().is_finished());
    }

    #[test]
    fn bodies_are_bounded() {
        let refused = |length, max| BodyDecoder::new(length, max).unwrap_err().status;
        assert_eq!(refused(BodyLength::Known(6), 5), Status::ContentTooLarge);
        assert_eq!(refused(BodyLength::Known(u64::MAX), 1 << 20), Status::ContentTooLarge);
        let mut chunked = BodyDecoder::new(BodyLength::Chunked, 5).unwrap();
        assert_eq!(chunked.decode(b"6\r\n", &mut Vec::new()).unwrap_err().status, Status::ContentTooLarge);
    }
}
