//! Manifests: resolve, fetch, push, delete.

use super::{
    Inner,
    auth::{Action, Scope},
    body,
    error::ClientError,
    place::At,
    progress::Progress,
    referrers,
    retry::Attempts,
    transport::{Ask, Endpoint, Payload},
};
use crate::protocol;
use reqwest::{
    Method, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use slipway_oci::{
    Descriptor, Digest, Hasher, Reference, limits,
    spec::{Parsed, media_type},
};

/// A manifest's descriptor and bytes.
#[derive(Clone, Copy, Debug)]
pub struct ManifestBytes<'a> {
    /// Media type, digest and size.
    pub descriptor: &'a Descriptor,
    /// The bytes as they are stored.
    pub bytes: &'a [u8],
}

/// What has to hold for a tag to be moved (RFC 9110, section 13.1); a registry that does not look at it moves the tag all the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The tag stands for this.
    Is(Digest),
    /// There is no such tag.
    Absent,
}

impl Condition {
    fn header(&self) -> (HeaderName, HeaderValue) {
        match self {
            Condition::Is(digest) => {
                let tag = HeaderValue::from_str(&format!("\"{digest}\"")).expect("digests are ASCII");
                (header::IF_MATCH, tag)
            }
            Condition::Absent => (header::IF_NONE_MATCH, HeaderValue::from_static("*")),
        }
    }
}

fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let types = media_type::ACCEPTED.join(", ");
    headers.insert(header::ACCEPT, HeaderValue::from_str(&types).expect("media types are ASCII"));
    headers
}

fn text(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The type of a reply without parameters, where it is one of a manifest.
fn manifest_type(response: &Response) -> Option<String> {
    let text = text(response, header::CONTENT_TYPE.as_str())?;
    let bare = text.split(';').next().unwrap_or_default().trim().to_owned();
    media_type::ACCEPTED.contains(&bare.as_str()).then_some(bare)
}

fn digest_header(response: &Response) -> Option<Digest> {
    text(response, protocol::CONTENT_DIGEST_HEADER)?.parse().ok()
}

impl Inner {
    async fn ask_manifest(
        &self,
        at: &At<'_>,
        method: Method,
        progress: &dyn Progress,
    ) -> Result<Response, ClientError> {
        let (endpoint, reference) = (&at.endpoint, at.reference);
        let scope = Scope::new(reference.repository(), Action::Pull);
        let url =
            endpoint.url(reference.repository(), &format!("manifests/{}", reference.manifest_reference()));
        let mut attempts = Attempts::new(at.policy, reference.to_string(), progress);
        loop {
            let (method, url) = (method.clone(), url.clone());
            let name = method.to_string();
            let headers = at.headers(accept());
            let ask = Ask { method, url, headers, payload: Payload::None, scope: &scope };
            let failure = match self.transport.send(endpoint, ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status().as_u16() == 404 => {
                    return Err(ClientError::NotFound { what: reference.to_string() });
                }
                Ok(response) => body::status_error(&name, response).await,
                Err(error) => error,
            };
            attempts.after(failure).await?;
        }
    }

    /// What a reference stands for, without its bytes where the registry allows.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Descriptor, ClientError> {
        self.ask_places(reference, progress, async |at: &At<'_>| self.resolve_at(at, progress).await).await
    }

    pub(super) async fn resolve_at(
        &self,
        at: &At<'_>,
        progress: &dyn Progress,
    ) -> Result<Descriptor, ClientError> {
        let (endpoint, reference) = (&at.endpoint, at.reference);
        let answered = match self.ask_manifest(at, Method::HEAD, progress).await {
            Ok(response) => {
                let size = text(&response, header::CONTENT_LENGTH.as_str())
                    .and_then(|text| text.parse::<u64>().ok());
                digest_header(&response).zip(manifest_type(&response)).zip(size)
            }
            // registries that do not take HEAD
            Err(error) if matches!(error.status(), Some(405 | 501)) => None,
            Err(error) => return Err(error),
        };
        match answered {
            Some(((digest, kind), size)) => {
                if let Some(expected) = reference.digest().filter(|expected| **expected != digest) {
                    return Err(ClientError::Digest {
                        host: endpoint.host(),
                        expected: expected.clone(),
                        actual: digest,
                    });
                }
                Ok(Descriptor::new(kind, digest, size))
            }
            None => Ok(self.manifest_at(at, progress).await?.0),
        }
    }

    /// Fetches and verifies a manifest.
    pub(super) async fn manifest(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(Descriptor, Vec<u8>), ClientError> {
        self.ask_places(reference, progress, async |at: &At<'_>| self.manifest_at(at, progress).await).await
    }

    pub(super) async fn manifest_at(
        &self,
        at: &At<'_>,
        progress: &dyn Progress,
    ) -> Result<(Descriptor, Vec<u8>), ClientError> {
        let (endpoint, reference) = (&at.endpoint, at.reference);
        let mut attempts = Attempts::new(at.policy, reference.to_string(), progress);
        loop {
            let response = self.ask_manifest(at, Method::GET, progress).await?;
            let (kind, promised) = (manifest_type(&response), digest_header(&response));
            let what = reference.to_string();
            match body::read_capped(&endpoint.host(), response, limits::MANIFEST_BYTES, &what).await {
                Ok(bytes) => return examine(endpoint, reference, kind, promised, bytes),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Puts a manifest under a tag or its digest. What has a subject is listed with it.
    pub(super) async fn put_manifest(
        &self,
        target: &Reference,
        name: &str,
        manifest: ManifestBytes<'_>,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        self.put_manifest_if(target, name, manifest, None, progress).await
    }

    /// The same, if the tag stands for what the caller thinks.
    pub(super) async fn put_manifest_if(
        &self,
        target: &Reference,
        name: &str,
        manifest: ManifestBytes<'_>,
        condition: Option<&Condition>,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let headers = self.send_manifest(target, name, manifest, condition, progress).await?;
        if referrers::is_listed(&headers) {
            return Ok(());
        }
        let Ok(parsed) = Parsed::from_bytes(manifest.bytes, Some(&manifest.descriptor.media_type)) else {
            return Ok(());
        };
        let subject = match &parsed {
            Parsed::Manifest(image) => image.subject.as_ref(),
            Parsed::Index(index) => index.subject.as_ref(),
        };
        match subject {
            Some(subject) => {
                let listed = referrers::listed(&manifest, &parsed);
                self.list_by_tag(target, &subject.digest, &listed, progress).await
            }
            None => Ok(()),
        }
    }

    /// Sends a manifest and answers the reply's headers.
    pub(super) async fn send_manifest(
        &self,
        target: &Reference,
        name: &str,
        manifest: ManifestBytes<'_>,
        condition: Option<&Condition>,
        progress: &dyn Progress,
    ) -> Result<HeaderMap, ClientError> {
        let endpoint = self.own_endpoint(target).await?;
        let scope = Scope::new(target.repository(), Action::Push);
        let digest = &manifest.descriptor.digest;
        let mut attempts = Attempts::new(&self.policy, digest.to_string(), progress);
        let mut is_repeated = false;
        loop {
            let mut headers = HeaderMap::new();
            let kind = HeaderValue::from_str(&manifest.descriptor.media_type);
            let wrong = |what| ClientError::Protocol { host: endpoint.host(), method: "PUT".into(), what };
            headers.insert(header::CONTENT_TYPE, kind.map_err(|_| wrong("the manifest's media type"))?);
            headers.extend(condition.map(Condition::header));
            let url = endpoint.url(target.repository(), &format!("manifests/{name}"));
            let payload = Payload::Bytes(manifest.bytes.to_vec());
            let ask = Ask { method: Method::PUT, url, headers, payload, scope: &scope };
            let failure = match self.transport.send(&endpoint, ask).await {
                Ok(response) if response.status().is_success() => {
                    // a registry that stores other bytes than it was sent
                    let stored =
                        digest_header(&response).filter(|stored| stored.algorithm() == digest.algorithm());
                    return match stored {
                        Some(actual) if actual != *digest => Err(ClientError::Digest {
                            host: endpoint.host(),
                            expected: digest.clone(),
                            actual,
                        }),
                        _ => Ok(response.headers().clone()),
                    };
                }
                Ok(response) if response.status() == StatusCode::PRECONDITION_FAILED => {
                    // an earlier attempt was taken, and its reply was lost
                    if is_repeated && digest_header(&response).as_ref() == Some(digest) {
                        return Ok(response.headers().clone());
                    }
                    return Err(ClientError::Changed { what: format!("{}:{name}", target.name()) });
                }
                Ok(response) => body::status_error("PUT", response).await,
                Err(error) => error,
            };
            attempts.after(failure).await?;
            is_repeated = true;
        }
    }

    /// Deletes a tag, a manifest or (by its path in the repository) a blob.
    pub(super) async fn delete(
        &self,
        reference: &Reference,
        path: &str,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let endpoint = self.own_endpoint(reference).await?;
        let scope = Scope::new(reference.repository(), Action::Delete);
        let mut attempts = Attempts::new(&self.policy, reference.to_string(), progress);
        loop {
            let url = endpoint.url(reference.repository(), path);
            let ask = Ask {
                method: Method::DELETE,
                url,
                headers: HeaderMap::new(),
                payload: Payload::None,
                scope: &scope,
            };
            let failure = match self.transport.send(&endpoint, ask).await {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if response.status().as_u16() == 404 => {
                    return Err(ClientError::NotFound { what: format!("{}/{path}", reference.name()) });
                }
                Ok(response) => body::status_error("DELETE", response).await,
                Err(error) => error,
            };
            attempts.after(failure).await?;
        }
    }
}

/// Verifies what came against what was asked for, what the reply promised, and itself.
fn examine(
    endpoint: &Endpoint,
    reference: &Reference,
    kind: Option<String>,
    promised: Option<Digest>,
    bytes: Vec<u8>,
) -> Result<(Descriptor, Vec<u8>), ClientError> {
    let expected = reference.digest().cloned().or(promised);
    let digest = match expected {
        Some(expected) => {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(&bytes);
            let actual = hasher.finish();
            if actual != expected {
                return Err(ClientError::Digest { host: endpoint.host(), expected, actual });
            }
            actual
        }
        None => Digest::sha256(&bytes),
    };
    let parsed = Parsed::from_bytes(&bytes, kind.as_deref())
        .map_err(|source| ClientError::Manifest { host: endpoint.host(), source })?;
    let kind = kind.unwrap_or_else(|| parsed.media_type().to_owned());
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    Ok((descriptor, bytes))
}
