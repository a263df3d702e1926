//! Which certificate a connection is shown: the server's own, or the one that answers a challenge.

use super::TlsError;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

/// What the authority's connection speaks (RFC 8737, section 6.2).
pub(in crate::server) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Certificates, and answers to challenges, of the moment.
#[derive(Debug, Default)]
pub(in crate::server) struct Certificates {
    own: RwLock<Option<Arc<CertifiedKey>>>,
    /// By name.
    challenges: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
    /// Texts by token.
    tokens: RwLock<BTreeMap<String, String>>,
}

const HELD: &str = "no panic happens while it is held";

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(TlsError::Unusable)
}

impl Certificates {
    /// New connections are shown this one.
    pub(in crate::server) fn present(&self, chain: &str, key: &str) -> Result<(), TlsError> {
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::NoKey)?;
        *self.own.write().expect(HELD) = Some(Arc::new(certified(chain, key)?));
        Ok(())
    }

    /// Answers the challenge for a name over TLS: with a certificate that has the digest of the authorization in it (RFC 8737,
    /// section 3).
    pub(in crate::server) fn prove(&self, name: &str, digest: &[u8]) -> Result<(), TlsError> {
        let make = || {
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.distinguished_name = DistinguishedName::new();
            params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok((certificate.der().clone(), key.serialize_der()))
        };
        let (certificate, key) = make().map_err(TlsError::Challenge)?;
        let key = PrivateKeyDer::Pkcs8(key.into());
        let key = any_supported_type(&key).map_err(TlsError::Unusable)?;
        // rustls, which looks at others whether they fit, knows nothing of this one's critical extension
        let shown = CertifiedKey::new(vec![certificate], key);
        self.challenges.write().expect(HELD).insert(name.to_ascii_lowercase(), Arc::new(shown));
        Ok(())
    }

    /// Answers a challenge by HTTP.
    pub(in crate::server) fn say(&self, token: &str, text: &str) {
        self.tokens.write().expect(HELD).insert(token.to_owned(), text.to_owned());
    }

    /// What is said for a token.
    pub(in crate::server) fn said(&self, token: &str) -> Option<String> {
        self.tokens.read().expect(HELD).get(token).cloned()
    }

    /// Nobody asks any more.
    pub(in crate::server) fn end_challenges(&self) {
        self.challenges.write().expect(HELD).clear();
        self.tokens.write().expect(HELD).clear();
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.alpn().is_some_and(|mut all| all.any(|protocol| protocol == PROTOCOL));
        if !asked {
            return self.own.read().expect(HELD).clone();
        }
        // a challenge that is not under way is nobody's
        let name = hello.server_name()?.to_ascii_lowercase();
        self.challenges.read().expect(HELD).get(&name).cloned()
    }
}
