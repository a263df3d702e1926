//! Where an issuer's keys come from: its discovery document and the set of keys that it names, or a set that the configuration
//! names.
//!
//! Only what the configuration names is dialled: its issuer's origin, or the address of `jwks=`. A document that names keys
//! elsewhere is refused, and so is every redirect: neither a lying issuer nor a token leads anywhere else (SSRF).

use super::{
    issuer::{Issuer, KeySource, address},
    jwk::{KeySet, KeySetError},
};
use crate::{
    client::{Authorities, ClientError, Proxies, beside},
    limits,
};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, no TLS, or too slow.
    #[error("`{url}` does not answer")]
    Unanswered {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Another status than 200.
    #[error("`{url}` answered {status}; a redirect is not followed")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// A body without an end.
    #[error("`{url}` answered with more than {} bytes", limits::ISSUER_BYTES)]
    Large {
        /// What was asked.
        url: String,
    },
    /// No discovery document.
    #[error("`{url}` is no discovery document with `issuer` and `jwks_uri`")]
    Discovery {
        /// What was asked.
        url: String,
    },
    /// A document of somebody else.
    #[error("`{url}` says that it is the issuer of another URL")]
    OtherIssuer {
        /// What was asked.
        url: String,
    },
    /// Keys in another place.
    #[error("`{url}` names keys on another host: name their address in the configuration, as `jwks=`")]
    Elsewhere {
        /// What was asked.
        url: String,
    },
    /// No keys.
    #[error("the keys of `{url}` cannot be used: {source}")]
    Keys {
        /// What was asked.
        url: String,
        /// Why.
        source: KeySetError,
    },
}

/// Connections to one issuer.
pub(super) struct Fetcher {
    http: reqwest::Client,
    issuer: String,
    keys: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    /// `None` where the keys do not come by the network.
    pub(super) fn new(
        issuer: &Issuer,
        authorities: Option<&Authorities>,
        proxies: &Proxies,
    ) -> Result<Option<Fetcher>, ClientError> {
        let keys = match &issuer.keys {
            KeySource::File(_) => return Ok(None),
            KeySource::Discovered => None,
            KeySource::At(url) => Some(url.clone()),
        };
        let plain = keys.as_deref().unwrap_or(&issuer.url).starts_with("http:");
        let http = beside(authorities, proxies, plain, limits::ISSUER_TIME)?;
        Ok(Some(Fetcher { http, issuer: issuer.url.clone(), keys }))
    }

    /// Asks for the keys.
    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        let url = match &self.keys {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let bytes = self.get(&url).await?;
        KeySet::parse(&bytes).map_err(|source| FetchError::Keys { url, source })
    }

    async fn discover(&self) -> Result<String, FetchError> {
        // OpenID Connect Discovery 1.0, section 4.1: a slash at the end goes
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let bytes = self.get(&url).await?;
        let Ok(found) = serde_json::from_slice::<Discovery>(&bytes) else {
            return Err(FetchError::Discovery { url });
        };
        // section 4.3: to the byte
        if found.issuer != self.issuer {
            return Err(FetchError::OtherIssuer { url });
        }
        let origin = |url: &Url| url.origin();
        match (address(&found.jwks_uri), address(&self.issuer)) {
            (Ok(keys), Ok(own)) if origin(&keys) == origin(&own) => Ok(found.jwks_uri),
            _ => Err(FetchError::Elsewhere { url }),
        }
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let unanswered = |source| FetchError::Unanswered { url: url.to_owned(), source };
        let request = self.http.get(url).header("accept", "application/json");
        let mut response = request.send().await.map_err(unanswered)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_owned(), status: response.status() });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unanswered)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > limits::ISSUER_BYTES {
                return Err(FetchError::Large { url: url.to_owned() });
            }
        }
        Ok(bytes)
    }
}
