//! TLS configuration: certificates and keys in files, and the root certificates of the system.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// The reason why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {why}", .path.display())]
    Unreadable {
        /// "certificate" or "key".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error text.
        why: String,
    },
    /// A file does not contain the certificate or the key.
    #[error("{} contains no {what}: it must be a PEM file with a block \"-----BEGIN {block}-----\"", .path.display())]
    Missing {
        /// "certificate" or "key".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Name of the PEM block.
        block: &'static str,
    },
    /// Certificate and key do not belong together, or their type is unknown.
    #[error("the certificate {} and the key {} cannot be used: {why}", .cert.display(), .key.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// The error text.
        why: String,
    },
    /// The system has no root certificates.
    #[error("cannot read the root certificates of the system{why}: install the package ca-certificates")]
    NoRoots {
        /// The error texts.
        why: String,
    },
    /// `rustls` reports an error.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS configuration of a server: a certificate and its key. Clones share it.
#[derive(Clone)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Reads the certificate, with its chain, and its key. Blocks the thread.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, Error> {
        read(cert, key).map(|config| Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, Error> {
    const CERTIFICATE: (&str, &str) = ("certificate", "CERTIFICATE");
    const KEY: (&str, &str) = ("key", "PRIVATE KEY");
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| pem_error(error, cert, CERTIFICATE))?;
    if chain.is_empty() {
        return Err(pem_error(pem::Error::NoItemsFound, cert, CERTIFICATE));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error(error, key, KEY))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| Error::Unusable { cert: cert.into(), key: key.into(), why: error.to_string() })?;
    // A client acknowledges tickets late, as it does not answer them, and until then the kernel holds back what follows (Nagle's
    // algorithm): each client waited 42 ms for S0, S1 and S2 of RTMP. Clients of RTMP do not resume sessions.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn pem_error(error: pem::Error, path: &Path, (what, block): (&'static str, &'static str)) -> Error {
    match error {
        pem::Error::NoItemsFound => Error::Missing { what, path: path.into(), block },
        pem::Error::Io(error) => Error::Unreadable { what, path: path.into(), why: error.to_string() },
        other => Error::Unreadable { what, path: path.into(), why: format!("not a PEM file: {other:?}") },
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// TLS configuration of a client: the certificates that it trusts.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Trusts the root certificates of the system. Blocks the thread: it reads them. Errors: [`Error::NoRoots`].
    pub fn system() -> Result<Self, Error> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.iter().map(|error| format!(": {error}")).collect();
            return Err(Error::NoRoots { why });
        }
        Self::with_roots(roots)
    }

    pub(super) fn with_roots(roots: RootCertStore) -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Accepts any certificate: the connection is encrypted, but the server is not authenticated. For test setups.
    /// Errors: [`Error::Tls`].
    pub fn without_verification() -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let verifier = Arc::new(NoVerification(provider()));
        Ok(Self(Arc::new(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// A verifier that accepts any certificate, but checks the signatures that prove possession of its key.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
