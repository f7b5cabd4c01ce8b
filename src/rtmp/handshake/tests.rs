use std::io;
use std::os::unix::net::UnixStream;
use std::thread;

use super::super::Error as RtmpError;
use super::*;

fn shake_hands(complex: bool) -> (Form, Form) {
    let (mut server, mut client) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || accept(&mut server).unwrap());
    let form = connect(&mut client, complex).unwrap();
    (server.join().unwrap(), form)
}

#[test]
fn simple() {
    assert_eq!(shake_hands(false), (Form::Simple, Form::Simple));
}

#[test]
#[cfg(feature = "ssl")]
fn complex() {
    for _ in 0..20 {
        assert_eq!(shake_hands(true), (Form::Complex(1), Form::Complex(1)));
    }
}

#[test]
fn the_simple_reply_echoes_c1() {
    let mut c1 = vec![7; SIZE];
    c1[4..8].fill(0);
    let (reply, form) = reply_to(&c1).unwrap();
    assert_eq!(form, Form::Simple);
    assert_eq!(reply[0], 3);
    assert_eq!(reply[5..9], [0; 4], "the version field of a simple S1");
    assert_eq!(&reply[1 + SIZE..], c1);
}

#[test]
#[cfg(feature = "ssl")]
fn both_schemas_get_a_reply_of_the_same_schema() {
    for schema in [digest::Schema::KeyFirst, digest::Schema::DigestFirst] {
        for _ in 0..20 {
            let mut c1 = vec![0; SIZE];
            getrandom::fill(&mut c1).unwrap();
            digest::sign_c1_as(&mut c1, schema);
            let (_, c1_digest) = digest::verify_c1(&c1).unwrap();
            let (reply, form) = reply_to(&c1).unwrap();
            assert_eq!(form, Form::Complex(schema.number()));
            let (s1, s2) = reply[1..].split_at(SIZE);
            assert_eq!(digest::verify_s1(s1).unwrap().0, schema);
            assert!(digest::is_signed_reply(s2, true, &c1_digest));
            let (c2, _) = digest::sign_c2(s1).unwrap().unwrap();
            assert!(digest::is_signed_reply(&c2, false, &digest::verify_s1(s1).unwrap().1));
        }
    }
}

#[test]
#[cfg(feature = "ssl")]
fn a_digest_with_one_wrong_byte_gets_the_simple_reply() {
    let mut c1 = vec![9; SIZE];
    digest::sign_c1_as(&mut c1, digest::Schema::DigestFirst);
    c1[SIZE - 1] ^= 1;
    assert_eq!(reply_to(&c1).unwrap().1, Form::Simple);
}

/// A client with fixed input that records the replies.
struct Script<'a> {
    input: &'a [u8],
    replies: Vec<u8>,
}

impl<'a> Script<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { input, replies: Vec::new() }
    }
}

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte at a time: the slowest client.
        let n = self.input.len().min(buffer.len()).min(1);
        buffer[..n].copy_from_slice(&self.input[..n]);
        self.input = &self.input[n..];
        Ok(n)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn other_protocols_are_named_from_their_first_byte() {
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
        (&[0x16, 0x03, 0x01, 0x02, 0x00], "TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (&[0x06], "RTMPE"),
        (&[0xff], "unknown protocol (first byte 0xff"),
    ] {
        let mut script = Script::new(bytes);
        let error = accept(&mut script).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(script.replies.is_empty(), "the server sends nothing");
    }
}

#[test]
fn a_handshake_truncated_anywhere_ends_as_closed() {
    let mut c0_c1_c2 = vec![0; 1 + 2 * SIZE];
    c0_c1_c2[0] = 3;
    for at in [0, 1, 2, 700, 1536, 1537, 1538, 3072] {
        assert!(matches!(accept(&mut Script::new(&c0_c1_c2[..at])), Err(RtmpError::Closed)), "truncated at {at}");
    }
    let mut script = Script::new(&c0_c1_c2);
    assert_eq!(accept(&mut script).unwrap(), Form::Simple);
    assert_eq!(script.replies.len(), 1 + 2 * SIZE);
}
