//! A registry as the server's mirrors ask it: one origin, within [`Bounds`], asynchronous, and each thing asked for once. Who tries
//! again, and when, is decided there.

use super::{
    Authorities, ClientConfig, ClientError, Credential, Inner, Proxies,
    auth::{Action, Scope},
    body,
    bounds::Bounds,
    fetch,
    place::At,
    retry::Policy,
    tags,
    transport::{Ask, Endpoint, Payload, Transport},
};
use reqwest::{
    Method, Response, Url,
    header::{self, HeaderMap, HeaderValue},
};
use slipway_oci::{Descriptor, Digest, Reference};
use std::{sync::Arc, time::Duration};

/// What there is to know of a registry that is mirrored.
pub(crate) struct UpstreamConfig {
    /// `scheme://host[:port]/`.
    pub(crate) base: Url,
    pub(crate) bounds: Bounds,
    pub(crate) credential: Option<Credential>,
    pub(crate) authorities: Option<Authorities>,
    pub(crate) proxies: Proxies,
}

/// A registry that is mirrored.
pub(crate) struct Upstream {
    inner: Inner,
    endpoint: Endpoint,
    once: Policy,
}

/// One request to it, or a few that belong together.
pub(crate) struct Asked<'a> {
    upstream: &'a Upstream,
    trace: Option<HeaderValue>,
}

/// Bytes of a blob on their way.
pub(crate) struct Part {
    pub(crate) response: Response,
    /// Bytes at the beginning that are known already.
    pub(crate) skip: u64,
    /// The whole blob's size, where the registry says it.
    pub(crate) size_bytes: Option<u64>,
}

/// A page of tags, and the query of the next one.
pub(crate) struct TagsPage {
    pub(crate) tags: Vec<String>,
    pub(crate) next: Option<Vec<(String, String)>>,
}

impl Upstream {
    /// Nothing is asked before it is needed.
    pub(crate) fn new(config: UpstreamConfig) -> Upstream {
        let endpoint = Endpoint::named(config.base);
        let (registry, credential) = (endpoint.registry.clone(), config.credential);
        let credentials = credential.map(|credential| -> super::Credentials {
            Arc::new(move |asked, _| Ok((asked == registry).then(|| credential.clone())))
        });
        let settings = ClientConfig {
            credentials,
            authorities: config.authorities,
            proxies: config.proxies,
            retries: 0,
            ..ClientConfig::default()
        };
        let transport = Transport::new(&settings).within(&endpoint.base, config.bounds);
        let once = || Policy::new(0, Duration::ZERO);
        let inner = Inner {
            transport,
            routes: settings.routes,
            settled: std::sync::Mutex::default(),
            policy: once(),
            impatient: once(),
            parallel: 1,
            foreign_layers: false,
        };
        Upstream { inner, endpoint, once: once() }
    }

    /// Host and port, for people.
    pub(crate) fn host(&self) -> String {
        self.endpoint.host()
    }

    /// Its host, and its port.
    pub(crate) fn address(&self) -> (&str, u16) {
        let base = &self.endpoint.base;
        (base.host_str().unwrap_or_default(), base.port_or_known_default().unwrap_or_default())
    }

    /// To ask it something, within a trace where there is its `traceparent`.
    pub(crate) fn asked(&self, trace: Option<HeaderValue>) -> Asked<'_> {
        Asked { upstream: self, trace }
    }
}

impl Asked<'_> {
    fn reference(
        &self,
        repository: &str,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<Reference, ClientError> {
        let reference = Reference::new(&self.upstream.endpoint.registry, repository, tag, digest.cloned());
        // what no reference can name is nowhere
        reference.map_err(|_| ClientError::NotFound { what: repository.to_owned() })
    }

    fn at<'a>(&'a self, reference: &'a Reference) -> At<'a> {
        let Upstream { endpoint, once, .. } = self.upstream;
        At { endpoint: endpoint.clone(), reference, policy: once, trace: self.trace.as_ref() }
    }

    /// What a tag stands for.
    pub(crate) async fn resolve(&self, repository: &str, tag: &str) -> Result<Descriptor, ClientError> {
        let reference = self.reference(repository, Some(tag), None)?;
        self.upstream.inner.resolve_at(&self.at(&reference), &()).await
    }

    /// A manifest by tag or digest, verified.
    pub(crate) async fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<(Descriptor, Vec<u8>), ClientError> {
        let reference = self.reference(repository, tag, digest)?;
        self.upstream.inner.manifest_at(&self.at(&reference), &()).await
    }

    async fn ask_blob(
        &self,
        method: Method,
        repository: &str,
        digest: &Digest,
        headers: HeaderMap,
    ) -> Result<Response, ClientError> {
        let Upstream { endpoint, inner, .. } = self.upstream;
        let reference = self.reference(repository, None, Some(digest))?;
        let headers = self.at(&reference).headers(headers);
        let scope = Scope::new(repository, Action::Pull);
        let url = endpoint.url(repository, &format!("blobs/{digest}"));
        let name = method.to_string();
        let ask = Ask { method, url, headers, payload: Payload::None, scope: &scope };
        let response = inner.transport.send(endpoint, ask).await?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            404 => Err(ClientError::NotFound { what: digest.to_string() }),
            _ => Err(body::status_error(&name, response).await),
        }
    }

    /// The size of a blob; `None` where the registry has it and does not say.
    pub(crate) async fn blob_size(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, ClientError> {
        let response = self.ask_blob(Method::HEAD, repository, digest, HeaderMap::new()).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|text| text.parse().ok()))
    }

    /// A blob's bytes from `start` on, not verified.
    pub(crate) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        start: u64,
    ) -> Result<Part, ClientError> {
        let mut headers = HeaderMap::new();
        if start > 0 {
            let range = HeaderValue::from_str(&format!("bytes={start}-")).expect("digits are ASCII");
            headers.insert(header::RANGE, range);
        }
        let response = self.ask_blob(Method::GET, repository, digest, headers).await?;
        if response.status().as_u16() == 200 {
            let size_bytes = response.content_length();
            return Ok(Part { response, skip: start, size_bytes });
        }
        if start == 0 || fetch::first_of(&response) != Some(start) {
            let what = "a part of the blob that was not asked for";
            return Err(ClientError::Protocol { host: self.upstream.host(), method: "GET".into(), what });
        }
        let size_bytes = response.content_length().map(|rest| start.saturating_add(rest));
        Ok(Part { response, skip: 0, size_bytes })
    }

    /// A page of tags; `query` goes as it is.
    pub(crate) async fn tags(
        &self,
        repository: &str,
        query: &[(String, String)],
    ) -> Result<TagsPage, ClientError> {
        let reference = self.reference(repository, None, None)?;
        let mut url = self.upstream.endpoint.url(repository, "tags/list");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let page = self.upstream.inner.page(&self.at(&reference), url, HeaderMap::new(), &()).await?;
        let page = page.ok_or_else(|| ClientError::NotFound { what: repository.to_owned() })?;
        let next = page.next.map(|url| url.query_pairs().into_owned().collect());
        Ok(TagsPage { tags: tags::of_page(&self.upstream.endpoint, &page.bytes)?, next })
    }

    /// What is attached to a manifest.
    pub(crate) async fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let reference = self.reference(repository, None, Some(subject))?;
        self.upstream.inner.referrers_at(&self.at(&reference), subject, artifact_type, &()).await
    }
}
