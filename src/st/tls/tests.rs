use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore};

use super::super::net::{TcpListener, TcpStream};
use super::super::{run, sleep, spawn};
use super::*;
use crate::memory::{Category, MemoryTracker};

const BOUND: Duration = Duration::from_secs(20);

/// Creates a self-signed certificate for `localhost` and 127.0.0.1, and its key.
fn certificate(folder: &Path, kind: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let options = "-x509 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    // Not a CA: rustls rejects one as a server certificate.
    let options = options.split(' ').chain(["-addext", "basicConstraints=critical,CA:FALSE", "-newkey"]);
    let mut openssl = Command::new("openssl");
    openssl.arg("req").args(options).args(kind.split(' '));
    let done = openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert).output();
    assert!(done.expect("openssl is here").status.success());
    (cert, key)
}

/// Returns a connector that trusts the certificates in a PEM file.
fn trusting(path: &Path) -> Connector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap));
    Connector::with_roots(roots).unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap(), BOUND).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

/// Returns both ends of a TLS connection, client first.
fn encrypted_pair(kind: &str) -> (TcpStream, TcpStream) {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), kind);
    let (acceptor, connector) = (Acceptor::load(&cert, &key).unwrap(), trusting(&cert));
    let (near, far) = pair();
    far.set_time_limit(Some(BOUND));
    near.set_time_limit(Some(BOUND));
    let server = far.clone();
    let accepted = spawn("server", 0, move || server.accept_tls(&acceptor).unwrap()).unwrap();
    near.connect_tls(&connector, "localhost").unwrap();
    accepted.join();
    assert!(near.is_encrypted() && far.is_encrypted());
    (near, far)
}

/// A client that builds its records itself.
struct Encrypter {
    stream: std::net::TcpStream,
    records: Box<dyn MessageEncrypter>,
    count: u64,
}

impl Encrypter {
    /// Returns a client and the server's end of its connection. The client connects on another thread, since it blocks.
    fn connect() -> (Self, TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(folder.path(), EC);
        let (acceptor, connector) = (Acceptor::load(&cert, &key).unwrap(), trusting(&cert));
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().unwrap();
        far.set_time_limit(Some(BOUND));
        let client = std::thread::spawn(move || {
            let mut config = (*connector.config()).clone();
            config.enable_secret_extraction = true;
            let mut tls = ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
            while tls.is_handshaking() || tls.wants_write() {
                tls.complete_io(&mut stream).unwrap();
            }
            let suite = tls.negotiated_cipher_suite().unwrap().tls13().unwrap();
            let (count, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
            let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
            else {
                panic!("unexpected cipher suite");
            };
            Self { stream, records: suite.aead_alg.encrypter(key, iv), count }
        });
        far.accept_tls(&acceptor).unwrap();
        (client.join().unwrap(), far)
    }

    /// Writes one record for each slice.
    fn write<'a>(&mut self, typ: ContentType, contents: impl IntoIterator<Item = &'a [u8]>) {
        let mut bytes = Vec::new();
        for content in contents {
            let message = OutboundPlainMessage {
                typ,
                version: ProtocolVersion::TLSv1_3,
                payload: OutboundChunks::Single(content),
            };
            bytes.extend(self.records.encrypt(message, self.count).unwrap().encode());
            self.count += 1;
        }
        self.stream.write_all(&bytes).unwrap();
    }
}

const EC: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";

#[test]
fn bytes_go_both_ways_whatever_the_key() {
    run(|| {
        for kind in [EC, "rsa:2048", "rsa:4096"] {
            let (near, far) = encrypted_pair(kind);
            (&near).write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            (&far).read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
            (&far).write_all(b"there").unwrap();
            (&near).read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"there");
        }
    })
    .unwrap();
}

/// A player's writes do not block, and its waits send the rest.
#[test]
fn what_a_write_has_left_follows_by_itself() {
    run(|| {
        let (near, far) = encrypted_pair(EC);
        far.set_unsent_limit(16 * 1024).unwrap();
        let memory = MemoryTracker::default();
        far.count_unsent(|| memory.charge(Category::Tls));
        let sent: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let reader = spawn("reader", 0, move || {
            let mut got = vec![0; expected.len()];
            // After a pause, so that the writer finds no room.
            sleep(Duration::from_millis(50));
            (&near).read_exact(&mut got).unwrap();
            assert!(got == expected);
        })
        .unwrap();
        let mut rest = &sent[..];
        let (mut refused, mut most_unsent) = (0, 0);
        while !rest.is_empty() {
            let n = far.try_write(&rest[..rest.len().min(100_000)]).unwrap();
            rest = &rest[n..];
            if n == 0 {
                refused += 1;
                most_unsent = most_unsent.max(memory.total());
                far.wait(Some(Instant::now() + BOUND));
            }
        }
        assert!(refused > 0, "the socket was never full");
        assert!((1..=64 * 1024).contains(&most_unsent), "{most_unsent}");
        // The rest is encrypted and waits for room.
        while !reader.is_finished() {
            far.wait(Some(Instant::now() + Duration::from_millis(100)));
        }
        assert_eq!(memory.total(), 0, "all is sent");
    })
    .unwrap();
}

#[test]
fn a_flush_and_an_end_leave_nothing_behind() {
    run(|| {
        let (near, far) = encrypted_pair(EC);
        let reader = spawn("reader", 0, move || {
            let mut got = Vec::new();
            (&near).read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), 3_000_000);
        })
        .unwrap();
        (&far).write_all(&[5; 3_000_000]).unwrap();
        (&far).flush().unwrap();
        far.shutdown_write();
        reader.join();
    })
    .unwrap();
}

#[test]
fn the_first_record_after_the_handshake_has_what_is_written() {
    run(|| {
        let (mut client, far) = Encrypter::connect();
        (&far).write_all(b"x").unwrap();
        (&far).flush().unwrap();
        let mut header = [0; 5];
        client.stream.set_read_timeout(Some(BOUND)).unwrap();
        client.stream.read_exact(&mut header).unwrap();
        // One byte, the type of the content, and the tag (RFC 8446, section 5.2); a ticket is longer.
        assert_eq!(u16::from_be_bytes([header[3], header[4]]), 1 + 1 + 16);
    })
    .unwrap();
}

/// One record has more data than a read takes, and the socket has no more.
#[test]
fn what_is_decrypted_is_read_before_anybody_waits() {
    run(|| {
        let (near, far) = encrypted_pair(EC);
        (&near).write_all(&[9; 10_000]).unwrap();
        let mut buffer = [0; 1000];
        for _ in 0..10 {
            (&far).read_exact(&mut buffer).unwrap();
        }
        far.set_time_limit(Some(Duration::from_millis(20)));
        assert_eq!((&far).read(&mut buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
    })
    .unwrap();
}

#[test]
fn records_without_content_are_passed_over_but_not_for_ever() {
    run(|| {
        let (mut near, far) = Encrypter::connect();
        near.write(ContentType::ApplicationData, [&[][..]; 30]);
        near.write(ContentType::ApplicationData, [&b"hello"[..]]);
        let mut buffer = [0; 5];
        assert_eq!((&far).read(&mut buffer).unwrap(), 5);
        // A message of the TLS protocol itself, of 60,000 bytes: `rustls` would wait for its end.
        near.write(ContentType::Handshake, [&[24, 0, 0xea, 0x60][..]]);
        near.write(ContentType::Handshake, [&[0; 1000][..]; 40]);
        let error = (&far).read(&mut buffer).unwrap_err();
        assert!(error.to_string().contains("without payload"), "{error}");
    })
    .unwrap();
}

#[test]
fn records_with_next_to_nothing_in_them_are_overhead_and_full_ones_are_not() {
    run(|| {
        let (mut near, far) = Encrypter::connect();
        near.write(ContentType::ApplicationData, [&[1][..]; 2000]);
        let mut buffer = [0; 16_000];
        (&far).read_exact(&mut buffer[..2000]).unwrap();
        assert_eq!(far.try_read(&mut buffer).unwrap(), None);
        assert!((44_000..46_000).contains(&far.tls_overhead()), "{}", far.tls_overhead());
        for _ in 0..200 {
            near.write(ContentType::ApplicationData, [&buffer[..]]);
            (&far).read_exact(&mut buffer).unwrap();
        }
        assert!(far.tls_overhead() < 70_000, "{}", far.tls_overhead());
    })
    .unwrap();
}

#[test]
fn who_is_not_trusted_is_told_and_who_is_not_asked_is_trusted() {
    run(|| {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(folder.path(), EC);
        let acceptor = Acceptor::load(&cert, &key).unwrap();
        let everybody = Connector::without_verification().unwrap();
        let trusted = trusting(&cert);
        let none = tempfile::tempdir().unwrap();
        let (other, _) = certificate(none.path(), EC);
        let untrusted = trusting(&other);
        for (connector, name, good) in [
            (&everybody, "example.com", true),
            (&trusted, "127.0.0.1", true),
            (&trusted, "example.com", false),
            (&untrusted, "localhost", false),
        ] {
            let (near, far) = pair();
            let (server, acceptor) = (far.clone(), acceptor.clone());
            let accepted = spawn("server", 0, move || {
                let result = server.accept_tls(&acceptor).and_then(|()| (&server).read(&mut [0]));
                assert_eq!(result.is_err(), !good, "{result:?}");
            })
            .unwrap();
            let result = near.connect_tls(connector, name);
            assert_eq!(result.is_ok(), good, "{name}: {result:?}");
            near.shutdown_write();
            accepted.join();
        }
    })
    .unwrap();
}

#[test]
fn the_first_byte_tells_tls_from_rtmp_and_is_not_taken() {
    run(|| {
        let (near, far) = pair();
        (&near).write_all(&[0x16, 3]).unwrap();
        assert_eq!(far.peek_byte().unwrap(), Some(0x16));
        let mut buffer = [0; 2];
        (&far).read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, [0x16, 3]);
        drop(near);
        assert_eq!(far.peek_byte().unwrap(), None);
    })
    .unwrap();
}

#[test]
fn what_is_no_tls_is_an_error_and_ends_at_once() {
    run(|| {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(folder.path(), EC);
        let acceptor = Acceptor::load(&cert, &key).unwrap();
        for bytes in [&[3; 1537][..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff]] {
            let (near, far) = pair();
            (&near).write_all(bytes).unwrap();
            near.shutdown_write();
            far.set_time_limit(Some(BOUND));
            let error = far.accept_tls(&acceptor).unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        }
    })
    .unwrap();
}

#[test]
fn a_greeting_without_end_is_not_kept() {
    run(|| {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(folder.path(), EC);
        let acceptor = Acceptor::load(&cert, &key).unwrap();
        let (near, far) = pair();
        // A ClientHello of 65,000 bytes, in records of 1000.
        let first = [&[0x16, 3, 1, 0, 4, 1, 0, 0xfd, 0xe8][..]].concat();
        let record = [&[0x16, 3, 1, 3, 0xe8][..], &[3; 1000]].concat();
        (&near).write_all(&[first, record.repeat(20)].concat()).unwrap();
        far.set_time_limit(Some(Duration::from_secs(5)));
        let error = far.accept_tls(&acceptor).unwrap_err();
        assert!(error.to_string().contains("incomplete after 16384 bytes"), "{error}");
    })
    .unwrap();
}

#[test]
fn who_waits_for_its_turn_gives_up_when_a_read_would() {
    run(|| {
        let (_near, far) = pair();
        far.check_limits().unwrap();
        far.interrupt();
        assert_eq!(far.check_limits().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(far.resume());
        far.set_time_limit(Some(BOUND));
        far.check_limits().unwrap();
        far.set_time_limit(Some(Duration::ZERO));
        assert_eq!(far.check_limits().unwrap_err().kind(), io::ErrorKind::TimedOut);
    })
    .unwrap();
}

#[test]
fn files_that_are_wrong_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), EC);
    let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
    std::fs::write(&empty, "nothing\n").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n").unwrap();
    let other = tempfile::tempdir().unwrap();
    let (_, other_key) = certificate(other.path(), EC);
    for (cert, key, said) in [
        (&missing, &key, "cannot read the certificate"),
        (&cert, &missing, "cannot read the key"),
        (&empty, &key, "contains no certificate"),
        (&cert, &empty, "contains no key"),
        (&cert, &cert, "contains no key"),
        (&broken, &key, "cannot read the certificate"),
        (&cert, &other_key, "cannot be used"),
    ] {
        let error = Acceptor::load(cert, key).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    Acceptor::load(&cert, &key).unwrap();
}
