//! The attacker's side of TLS, and the certificate of the servers.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::scratch::Scratch;
use crate::common::server::free_port;
use crate::common::wire::Transport;

type Session = StreamOwned<ClientConnection, TcpStream>;

impl Transport for Session {
    fn set_read_timeout(&self, limit: Duration) {
        self.sock.set_read_timeout(Some(limit)).expect("a socket option");
    }
}

/// Returns certificate and key, the same for all rigs, so that one client configuration trusts them all.
fn certificate() -> &'static (Vec<u8>, Vec<u8>) {
    static FILES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let options = "req -x509 -nodes -days 2 -subj /CN=localhost -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
                       -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
        let mut openssl = Command::new("openssl");
        openssl.args(options.split_whitespace()).arg("-keyout").arg(&key).arg("-out").arg(&cert);
        assert!(openssl.output().expect("openssl is here").status.success());
        (std::fs::read(cert).expect("a certificate"), std::fs::read(key).expect("a key"))
    })
}

/// Writes the certificate, adds an `rtmps` block with the directives `more` to `root`, and returns its port.
pub(crate) fn configure(scratch: &Scratch, root: &mut String, more: &str) -> u16 {
    let (cert, key) = (scratch.file("cert.pem"), scratch.file("key.pem"));
    std::fs::write(&cert, &certificate().0).expect("a file in the scratch folder");
    std::fs::write(&key, &certificate().1).expect("a file in the scratch folder");
    let port = free_port();
    write!(
        root,
        "rtmps {{ enabled on; listen 127.0.0.1:{port}; cert {}; key {}; {more} }}",
        cert.display(),
        key.display()
    )
    .expect("memory");
    port
}

/// Returns a complete ClientHello.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    new_session().write_tls(&mut hello).expect("memory");
    hello
}

/// Performs the TLS handshake; `None` if it fails.
pub(crate) fn wrap(socket: TcpStream) -> Option<Session> {
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut stream = StreamOwned::new(new_session(), socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    Some(stream)
}

fn new_session() -> ClientConnection {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([CertificateDer::from_pem_slice(&certificate().0).expect("PEM")]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
    });
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(config.clone(), name).expect("a complete configuration")
}
