//! What either side of TLS is made from: certificates and keys in files, and the roots that the system trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {why}", .path.display())]
    Unreadable {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file has not in it what it should.
    #[error("{} holds no {what}; it must be a PEM file with a block \"-----BEGIN {block}-----\"", .path.display())]
    Missing {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the PEM block is called.
        block: &'static str,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("the certificate {} and the key {} cannot be used: {why}", .cert.display(), .key.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system trusts nobody.
    #[error("no certificate that this system trusts can be read{why}; is the package ca-certificates installed?")]
    NoRoots {
        /// What was tried.
        why: String,
    },
    /// The library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The server's side: a certificate and its key. Clones share it, so that a reload reaches all who have it.
#[derive(Clone)]
pub struct Acceptor(Arc<Mutex<Arc<ServerConfig>>>);

impl Acceptor {
    /// Reads the certificate, with those that lead from it to a root, and its key. Blocks the thread.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(cert: &Path, key: &Path) -> Result<Self, Error> {
        read(cert, key).map(|config| Self(Arc::new(Mutex::new(config))))
    }

    /// Reads both files again. Connections that there are keep what they have; when there is an error, so do those that come.
    /// Blocks the thread.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reload(&self, cert: &Path, key: &Path) -> Result<(), Error> {
        let config = read(cert, key)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    const CERTIFICATE: (&str, &str) = ("certificate", "CERTIFICATE");
    const KEY: (&str, &str) = ("key", "PRIVATE KEY");
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| pem_error(error, cert, CERTIFICATE))?;
    if chain.is_empty() {
        return Err(pem_error(pem::Error::NoItemsFound, cert, CERTIFICATE));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error(error, key, KEY))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| Error::Unusable { cert: cert.into(), key: key.into(), why: error.to_string() })?;
    Ok(Arc::new(config))
}

fn pem_error(error: pem::Error, path: &Path, (what, block): (&'static str, &'static str)) -> Error {
    match error {
        pem::Error::NoItemsFound => Error::Missing { what, path: path.into(), block },
        pem::Error::Io(error) => Error::Unreadable { what, path: path.into(), why: error.to_string() },
        other => Error::Unreadable { what, path: path.into(), why: format!("this is no PEM file: {other:?}") },
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The client's side: whom it trusts.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Trusts whom the system trusts. Blocks the thread: it reads the system's certificates.
    ///
    /// # Errors
    /// When there are none.
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

    /// Trusts the certificates in a PEM file. Blocks the thread.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trusting(path: &Path) -> Result<Self, Error> {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let all = all.map_err(|error| pem_error(error, path, ("certificate", "CERTIFICATE")))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(all);
        Self::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Trusts everybody: encrypted, but with whom is unknown. For a laboratory.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn trusting_everybody() -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let everybody = Arc::new(Everybody(provider()));
        Ok(Self(Arc::new(config.dangerous().with_custom_certificate_verifier(everybody).with_no_client_auth())))
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

/// Takes any certificate; the signatures by which its owner shows to have the key are verified all the same.
#[derive(Debug)]
struct Everybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Everybody {
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
