//! TLS of the server's own: certificate and key from PEM, replaced while the server runs.

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::{Arc, RwLock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

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
    /// They do not belong together, or are of a kind that is not known.
    #[error("certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    /// Reads a certificate with those that vouch for it, and its key.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate)?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }
}

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
    TlsAcceptor::from(tls.0).accept(stream).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_keys_belong_together() {
        let (certificate, key) = (
            include_bytes!("../client/tests/tls/leaf.crt").as_slice(),
            include_bytes!("../client/tests/tls/server.key").as_slice(),
        );
        assert!(Tls::from_pem(certificate, key).is_ok());
        for (certificate, key, expected) in [
            (b"".as_slice(), key, "no certificate"),
            (key, key, "no certificate"),
            (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".as_slice(), key, "no certificate"),
            (certificate, b"".as_slice(), "no private key"),
            (certificate, certificate, "no private key"),
            (certificate, include_bytes!("../client/tests/tls/alone.key").as_slice(), "together"),
        ] {
            let error = Tls::from_pem(certificate, key).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            PLAIN.ends_with(b"\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") && PLAIN.len() > 48
        );
    }
}
