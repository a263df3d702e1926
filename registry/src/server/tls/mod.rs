//! TLS of the server's own: certificate and key from PEM, replaced while the server runs.

mod present;

pub(super) use present::{Certificates, PROTOCOL};

use super::access::is_name;
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WantsServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::sync::{Arc, RwLock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_cert::{
    Certificate,
    der::{Decode, oid::ObjectIdentifier},
};

/// Certificate and key, ready for connections.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates are not PEM.
    #[error("the certificate's file has no certificate in PEM form")]
    NoCertificate,
    /// The key is not PEM.
    #[error("the key's file has no private key in PEM form")]
    NoKey,
    /// The authorities of clients are not PEM, or none.
    #[error("the file of clients' authorities has no certificate in PEM form that can vouch for others")]
    NoAuthority,
    /// The certificate for an authority's challenge cannot be made.
    #[error("no certificate for the authority's challenge can be made")]
    Challenge(#[source] rcgen::Error),
    /// They do not belong together, or are of a kind that is not known.
    #[error("certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    /// Reads a certificate with those that vouch for it, its key, and the authorities that vouch for clients, whose
    /// certificates then name users; a client need not have one.
    pub fn from_pem(certificates: &[u8], key: &[u8], clients: Option<&[u8]>) -> Result<Tls, TlsError> {
        let chain = certificates_of(certificates).ok_or(TlsError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let mut config = builder(clients)?.with_single_cert(chain, key).map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }

    /// The same with certificates that come and go.
    pub(super) fn renewed(certificates: Arc<Certificates>, clients: Option<&[u8]>) -> Result<Tls, TlsError> {
        let mut config = builder(clients)?.with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), PROTOCOL.to_vec()];
        Ok(Tls(Arc::new(config)))
    }
}

fn builder(clients: Option<&[u8]>) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    Ok(match clients {
        None => builder.with_no_client_auth(),
        Some(pem) => builder.with_client_cert_verifier(verifier(pem, provider)?),
    })
}

fn certificates_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

fn verifier(
    pem: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(pem).ok_or(TlsError::NoAuthority)? {
        roots.add(certificate).map_err(|_| TlsError::NoAuthority)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(|_| TlsError::NoAuthority)
}

/// The user that a verified certificate names: its subject's only common name, where that can be a name.
pub(super) fn user_of(stream: &TlsStream<TcpStream>) -> Option<String> {
    common_name(stream.get_ref().1.peer_certificates()?.first()?)
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let attributes = certificate.tbs_certificate().subject().iter();
    let mut names = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    // of two names nobody knows which one was meant
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    let text = std::str::from_utf8(name.value.value()).ok()?;
    is_name(text).then(|| text.to_owned())
}

/// RFC 5280, appendix A.1: `id-at-commonName`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// What new connections get; `None`: no TLS at all, which does not change while the server runs.
pub(super) struct CurrentTls(Option<RwLock<Tls>>);

impl CurrentTls {
    pub(super) fn new(tls: Option<Tls>) -> CurrentTls {
        CurrentTls(tls.map(RwLock::new))
    }

    pub(super) fn current(&self) -> Option<Tls> {
        self.0.as_ref().map(|tls| tls.read().expect("no panic happens while it is held").clone())
    }

    pub(super) fn replace(&self, new: Tls) {
        if let Some(tls) = &self.0 {
            *tls.write().expect("no panic happens while it is held") = new;
        }
    }
}

/// The first byte of a TLS connection: the record type of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// What Go's servers say to who speaks plain HTTP; clients know it.
const PLAIN: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Length: 48\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Shakes hands; `None` for who does not.
pub(super) async fn accept(tls: Tls, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let mut first = [0; 1];
    if stream.peek(&mut first).await.ok()? > 0 && first[0] != HANDSHAKE {
        stream.write_all(PLAIN).await.ok()?;
        // what was sent is taken, or its sender loses the answer to a reset
        let mut sent = [0; 4096];
        let _ = stream.shutdown().await;
        while stream.read(&mut sent).await.ok()? > 0 {}
        return None;
    }
    let mut stream = TlsAcceptor::from(tls.0).accept(stream).await.ok()?;
    if stream.get_ref().1.alpn_protocol() == Some(PROTOCOL) {
        // RFC 8737, section 3: the authority has seen what it wanted to
        let _ = stream.shutdown().await;
        return None;
    }
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_user() {
        let der = |pem: &[u8]| CertificateDer::from_pem_slice(pem).expect("a certificate");
        let client = der(include_bytes!("../../client/tests/tls/client.crt"));
        assert_eq!(common_name(&client).as_deref(), Some("client"));
        assert_eq!(common_name(&client[..40]), None);
        assert_eq!(common_name(b""), None);
    }

    #[test]
    fn certificates_and_keys_belong_together() {
        let (certificate, key) = (
            include_bytes!("../../client/tests/tls/leaf.crt").as_slice(),
            include_bytes!("../../client/tests/tls/server.key").as_slice(),
        );
        assert!(Tls::from_pem(certificate, key, None).is_ok());
        let root = include_bytes!("../../client/tests/tls/root.crt");
        assert!(Tls::from_pem(certificate, key, Some(root)).is_ok());
        let error = Tls::from_pem(certificate, key, Some(key)).expect_err("no authority").to_string();
        assert!(error.contains("authorities"), "{error}");
        for (certificate, key, expected) in [
            (b"".as_slice(), key, "no certificate"),
            (key, key, "no certificate"),
            (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".as_slice(), key, "no certificate"),
            (certificate, b"".as_slice(), "no private key"),
            (certificate, certificate, "no private key"),
            (certificate, include_bytes!("../../client/tests/tls/alone.key").as_slice(), "together"),
        ] {
            let error = Tls::from_pem(certificate, key, None).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            PLAIN.ends_with(b"\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") && PLAIN.len() > 48
        );
    }
}
