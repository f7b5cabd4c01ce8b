//! The chunked transfer coding (RFC 9112, 7.1).
//!
//! The decoder is strict, since two servers that disagree about the end of a body enable request smuggling: lines end with CR LF,
//! a size has digits only, and nothing stands between it and its extensions. Extensions and trailers are bounded and discarded.

use super::refusal::{Refusal, refuse};
use super::status::Status;

/// The end of a body of chunks, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Maximum number of digits of a chunk's size.
const MAX_DIGITS: usize = 16;

/// Maximum size of all extensions of a body together, in bytes.
const MAX_EXTENSIONS: usize = 1024;

/// Maximum size of all trailers of a body together, in bytes.
const MAX_TRAILERS: usize = 2048;

/// Returns the line before a chunk of `len` bytes, which must not be 0. The chunk is followed by CR LF.
pub fn chunk_start(len: usize) -> String {
    debug_assert!(len > 0, "an empty chunk would end the body");
    format!("{len:x}\r\n")
}

/// The decoder of one body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes that the body may still have.
    room: u64,
    extensions: usize,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Bytes left of the chunk.
    Data(u64),
    DataEnd,
    Trailers,
    Finished,
}

impl ChunkedDecoder {
    /// Creates a decoder of a body of at most `max` bytes.
    pub fn new(max: u64) -> Self {
        Self { state: State::Size, room: max, extensions: 0, trailers: 0 }
    }

    /// Returns whether the body is complete.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Appends the next bytes of the body to `body`, and returns how many bytes of `input` have been consumed. The
    /// others come again, with more behind them. Fails when the coding is invalid, or the body, its extensions or its
    /// trailers are too long.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Size => {
                    let Some(line) = line(rest, MAX_DIGITS + MAX_EXTENSIONS)? else { return Ok(at) };
                    self.read_size(line)?;
                    at += line.len() + 2;
                }
                State::Data(left) => {
                    let here = left.min(rest.len() as u64);
                    body.extend_from_slice(&rest[..here as usize]);
                    at += here as usize;
                    if here < left {
                        self.state = State::Data(left - here);
                        return Ok(at);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(at),
                    _ => return refuse(Status::BadRequest, "a chunk is longer than its size"),
                },
                State::Trailers => {
                    let Some(line) = line(rest, MAX_TRAILERS)? else { return Ok(at) };
                    self.read_trailer(line)?;
                    at += line.len() + 2;
                }
                State::Finished => return Ok(at),
            }
        }
    }

    fn read_size(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, extension) = line.split_at(end);
        let is_valid = (1..=MAX_DIGITS).contains(&digits.len()) && matches!(extension, [] | [b';', ..]);
        let size = std::str::from_utf8(digits).ok().filter(|_| is_valid);
        let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return refuse(Status::BadRequest, "invalid chunk size");
        };
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return refuse(Status::BadRequest, "the chunk extensions are too long");
        }
        if size > self.room {
            return refuse(Status::ContentTooLarge, "the body is too large");
        }
        self.room -= size;
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(())
    }

    fn read_trailer(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.is_empty() {
            self.state = State::Finished;
            return Ok(());
        }
        let name_len = line.iter().position(|&byte| byte == b':').unwrap_or(0);
        if name_len == 0 || !line[..name_len].iter().all(|&byte| is_token(byte)) {
            return refuse(Status::BadRequest, "invalid trailer");
        }
        self.trailers += line.len() + 2;
        if self.trailers > MAX_TRAILERS {
            return refuse(Status::HeadTooLarge, "the trailers are too long");
        }
        Ok(())
    }
}

/// Returns the line at the beginning of `input` without its CR LF; `None` if it is not complete.
fn line(input: &[u8], max: usize) -> Result<Option<&[u8]>, Refusal> {
    let Some(end) = input.iter().take(max + 2).position(|&byte| byte == b'\n') else {
        return if input.len() >= max + 2 {
            refuse(Status::HeadTooLarge, "a line of the body is too long")
        } else {
            Ok(None)
        };
    };
    let Some(line) = input[..end].strip_suffix(b"\r") else {
        return refuse(Status::BadRequest, "a line does not end with CR LF");
    };
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return refuse(Status::BadRequest, "a line has control characters");
    }
    Ok(Some(line))
}

/// Returns whether `byte` may be part of a field's name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;

    /// A body, and the bytes after it.
    type Decoded = (Vec<u8>, Vec<u8>);

    /// Decodes a body whose bytes arrive in pieces of `piece` bytes.
    fn decode(bytes: &[u8], piece: usize) -> Result<Option<Decoded>, Status> {
        let (mut decoder, mut body, mut input) = (ChunkedDecoder::new(MAX), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            let consumed = decoder.decode(&input, &mut body).map_err(|refusal| refusal.status)?;
            input.drain(..consumed);
        }
        Ok(decoder.is_finished().then_some((body, input)))
    }

    #[test]
    fn chunks_at_every_split() {
        let bytes =
            b"4\r\nWiki\r\n6;a=\"b\";c\r\npedia \r\n0E\r\nin \r\n\r\nchunks.\r\n000\r\nTrailer-A: b\r\nC:\r\n\r\nGET /";
        for piece in 1..=bytes.len() {
            let (body, rest) = decode(bytes, piece).unwrap().unwrap();
            assert_eq!((&body[..], &rest[..]), (&b"Wikipedia in \r\n\r\nchunks."[..], &b"GET /"[..]), "{piece}");
        }
        for end in 0..bytes.len() - 5 {
            assert_eq!(decode(&bytes[..end], 7), Ok(None), "{end}");
        }
    }

    #[test]
    fn encoded_chunks_are_decoded() {
        let text = [chunk_start(26).as_bytes(), &[b'x'; 26], b"\r\n", LAST_CHUNK].concat();
        assert!(text.starts_with(b"1a\r\n"));
        assert_eq!(decode(&text, 5), Ok(Some((vec![b'x'; 26], Vec::new()))));
    }

    #[test]
    fn what_two_servers_could_read_in_two_ways_is_refused() {
        for bytes in [
            "\r\n",
            ";a\r\n",
            "g\r\n",
            "0x1\r\n",
            "+1\r\n",
            "-1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 ;a\r\n",
            "1\n",
            "1\r\r\n",
            "1;a\nb\r\n",
            "1;a\rb\r\n",
            "1;a\0\r\n",
            "00000000000000001\r\n",
            "fffffffffffffffff\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na0\r\n",
            "1\r\na\rx",
            "0\r\n folded\r\n",
            "0\r\nA b: c\r\n",
            "0\r\nA : c\r\n",
            "0\r\n: c\r\n",
            "0\r\nA\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\rC: d\r\n",
            "0\r\n\n",
        ] {
            for piece in [1, 100] {
                assert_eq!(decode(bytes.as_bytes(), piece), Err(Status::BadRequest), "{bytes:?}");
            }
        }
    }

    #[test]
    fn every_part_is_bounded() {
        for (bytes, status) in [
            ("ffffffffffffffff\r\n".to_owned(), Status::ContentTooLarge),
            ("65\r\n".to_owned(), Status::ContentTooLarge),
            (format!("32\r\n{}\r\n33\r\n", "x".repeat(50)), Status::ContentTooLarge),
            (format!("1;{}", "x".repeat(2000)), Status::HeadTooLarge),
            (format!("1;{}\r\na\r\n", "x".repeat(300)).repeat(4), Status::BadRequest),
            (format!("0\r\nA: {}", "x".repeat(3000)), Status::HeadTooLarge),
            (format!("0\r\n{}", format!("A: {}\r\n", "x".repeat(50)).repeat(40)), Status::HeadTooLarge),
        ] {
            assert_eq!(decode(bytes.as_bytes(), 100), Err(status), "{bytes}");
        }
        assert!(decode(format!("64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)).as_bytes(), 7).unwrap().is_some());
    }
}
