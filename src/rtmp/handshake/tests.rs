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
fn the_simple_answer_is_the_greeting_again() {
    let mut c1 = vec![7; SIZE];
    c1[4..8].fill(0);
    let (reply, form) = answer(&c1).unwrap();
    assert_eq!(form, Form::Simple);
    assert_eq!(reply[0], 3);
    assert_eq!(reply[5..9], [0; 4], "the version field of a simple S1");
    assert_eq!(&reply[1 + SIZE..], c1);
}

#[test]
#[cfg(feature = "ssl")]
fn both_schemas_are_answered_in_kind() {
    for schema in [digest::Schema::KeyFirst, digest::Schema::DigestFirst] {
        for _ in 0..20 {
            let mut c1 = vec![0; SIZE];
            getrandom::fill(&mut c1).unwrap();
            digest::sign_c1_as(&mut c1, schema);
            let (_, c1_digest) = digest::verify_c1(&c1).unwrap();
            let (reply, form) = answer(&c1).unwrap();
            assert_eq!(form, Form::Complex(schema.number()));
            let (s1, s2) = reply[1..].split_at(SIZE);
            assert_eq!(digest::verify_s1(s1).unwrap().0, schema);
            assert!(digest::answers(s2, true, &c1_digest));
            let (c2, _) = digest::sign_c2(s1).unwrap().unwrap();
            assert!(digest::answers(&c2, false, &digest::verify_s1(s1).unwrap().1));
        }
    }
}

#[test]
#[cfg(feature = "ssl")]
fn a_digest_with_one_wrong_byte_gets_the_simple_answer() {
    let mut c1 = vec![9; SIZE];
    digest::sign_c1_as(&mut c1, digest::Schema::DigestFirst);
    c1[SIZE - 1] ^= 1;
    assert_eq!(answer(&c1).unwrap().1, Form::Simple);
}

/// What a client sends, and a place for what it would get.
struct Script<'a>(&'a [u8], Vec<u8>);

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte at a time: the slowest client.
        let n = self.0.len().min(buffer.len()).min(1);
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
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
        (&[0xff], "version 255"),
    ] {
        let mut script = Script(bytes, Vec::new());
        let error = accept(&mut script).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(script.1.is_empty(), "nothing is said to it");
    }
}

#[test]
fn a_greeting_cut_anywhere_ends_as_closed() {
    let mut greeting = vec![0; 1 + 2 * SIZE];
    greeting[0] = 3;
    for at in [0, 1, 2, 700, 1536, 1537, 1538, 3072] {
        assert!(matches!(accept(&mut Script(&greeting[..at], Vec::new())), Err(RtmpError::Closed)), "cut at {at}");
    }
    let mut script = Script(&greeting, Vec::new());
    assert_eq!(accept(&mut script).unwrap(), Form::Simple);
    assert_eq!(script.1.len(), 1 + 2 * SIZE);
}
