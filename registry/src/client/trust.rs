//! Whom the client believes to be a registry, and how it shows itself.
//!
//! What counts, in this order:
//! 1. the first of the certificate folders that has one for the host, as docker and podman read them
//!    (<https://docs.docker.com/engine/security/certificates/>, containers-certs.d(5)): `HOST[:PORT]/*.crt` are
//!    authorities, `NAME.cert` with `NAME.key` is what the client shows;
//! 2. the extra authorities of [`super::ClientConfig::authorities`];
//! 3. the files of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the system's where neither is set.
//!
//! A certificate that is itself among them is believed even when it says that it is an authority's, as Go's clients
//! do: `openssl req -x509` makes such ones. Its name and dates must be right all the same.

use super::error::ClientError;
use crate::limits;
use reqwest::Url;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where certificates are looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// Authorities beside the system's.
    pub(super) authorities: Option<Authorities>,
    /// Folders with one for each registry, the first that has it counts.
    pub(super) folders: Vec<PathBuf>,
}

/// Certificate authorities that the caller brings. What the caller names may be a pipe, so it comes here as it was read.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Reads what a PEM file holds (RFC 7468); `path` is its name for messages.
    ///
    /// # Errors
    /// [`ClientError::Authorities`] when there is no certificate in it, or one that is broken.
    pub fn from_pem(path: &Path, pem: &[u8]) -> Result<Authorities, ClientError> {
        certificates_in(path, pem).map(Authorities)
    }
}

/// A chain and its key.
type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Trust {
    /// The folder that says how to speak TLS to the host of an address.
    pub(super) fn folder(&self, url: &Url) -> Option<PathBuf> {
        let names = folder_names(url);
        self.folders
            .iter()
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
            .find(|folder| folder.is_dir())
    }

    /// TLS for connections to hosts of one folder, or to all that have none. Without `verify` anybody is believed.
    pub(super) fn tls(
        &self,
        folder: Option<&Path>,
        verify: bool,
    ) -> Result<rustls::ClientConfig, ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match verify {
            true => Arc::new(Verifier::new(self.anchors(folder)?, Arc::clone(&provider))?),
            false => Arc::new(Anybody(Arc::clone(&provider))),
        };
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClientError::TlsSettings)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match folder.map(shown).transpose()?.flatten() {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(ClientError::TlsSettings)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn anchors(&self, folder: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let mut anchors = Vec::new();
        for file in folder.map(|folder| files(folder, "crt")).transpose()?.unwrap_or_default() {
            anchors.extend(certificates(&file)?);
        }
        if let Some(Authorities(own)) = &self.authorities {
            anchors.extend(own.iter().cloned());
        }
        // what the system has and cannot be read is not trusted; that is all
        anchors.extend(rustls_native_certs::load_native_certs().certs);
        Ok(anchors)
    }
}

/// TLS towards others than registries: by the authorities given, and by no others; by the system's where none are.
pub(crate) fn tls_of(authorities: Option<&Authorities>) -> Result<rustls::ClientConfig, ClientError> {
    let anchors = match authorities {
        Some(Authorities(own)) => own.clone(),
        None => rustls_native_certs::load_native_certs().certs,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(anchors, Arc::clone(&provider))?);
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::TlsSettings)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a host's folder may be called: with its port, and without where that is the usual one.
fn folder_names(url: &Url) -> Vec<String> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
    let mut names = vec![format!("{host}:{port}")];
    if url.port().is_none() {
        names.push(host.to_owned());
        if host == "registry-1.docker.io" {
            names.push(slipway_oci::reference::DEFAULT_REGISTRY.to_owned());
        }
    }
    names
}

fn unusable(path: &Path) -> impl Fn(io::Error) -> ClientError {
    let path = path.to_owned();
    move |source| ClientError::Authorities { path: path.clone(), source }
}

/// The files of a folder with an extension, by name.
fn files(folder: &Path, extension: &str) -> Result<BTreeSet<PathBuf>, ClientError> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unusable(folder))?.take(limits::CERTIFICATE_FILES) {
        let path = entry.map_err(unusable(folder))?.path();
        if path.extension().is_some_and(|own| own == extension) {
            found.insert(path);
        }
    }
    Ok(found)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = slipway_oci::file::read_capped(path, limits::AUTHORITIES_BYTES).map_err(unusable(path))?;
    certificates_in(path, &pem)
}

fn certificates_in(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let wrong = |what: String| unusable(path)(io::Error::new(io::ErrorKind::InvalidData, what));
    match read {
        Ok(read) if read.is_empty() => Err(wrong("there is no certificate in it".into())),
        Ok(read) => Ok(read),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// What the client shows to a host: `NAME.cert` with `NAME.key`, the first pair.
fn shown(folder: &Path) -> Result<Option<Shown>, ClientError> {
    let Some(certificate) = files(folder, "cert")?.into_iter().next() else { return Ok(None) };
    let path = certificate.with_extension("key");
    let pem = slipway_oci::file::read_capped(&path, limits::AUTHORITIES_BYTES).map_err(unusable(&path))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| unusable(&path)(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
    Ok(Some((certificates(&certificate)?, key)))
}

/// rustls' own verifier, and for certificates that are anchors themselves one more look.
#[derive(Debug)]
struct Verifier {
    anchors: Vec<CertificateDer<'static>>,
    usual: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(
        anchors: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, ClientError> {
        let mut roots = RootCertStore::empty();
        // a certificate of the system that rustls cannot read is not trusted
        let _ = roots.add_parsable_certificates(anchors.iter().cloned());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| ClientError::NoAuthorities)?;
        Ok(Verifier { anchors, usual })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match usual {
            // webpki looks at the dates before it looks at the kind, so they are right
            Err(rustls::Error::InvalidCertificate(error))
                if is_authority(&error) && self.anchors.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether all that is wrong with a server's certificate is that it is an authority's.
pub(super) fn is_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(inner)) = error else {
        return false;
    };
    matches!(inner.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Believes anybody, for hosts that the user called insecure.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
