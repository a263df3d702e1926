//! Fetching from plain addresses (`ADD https://…`): into the blob folder, capped, with what the reply says about it.

use super::{
    Inner, body,
    error::ClientError,
    progress::{Event, Progress},
    retry::Attempts,
    sink::{self, Sink},
    transport::{Kind, is_loopback, redirect_target},
};
use crate::limits;
use reqwest::{Response, StatusCode, Url, header};
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    blobs::{BlobSink, Blobs},
};
use std::time::SystemTime;

/// How an address is fetched.
#[derive(Clone, Debug, Default)]
pub struct UrlOptions {
    /// Most bytes that are taken; `None` for no cap of its own.
    pub most_bytes: Option<u64>,
    /// The digest that the content has to have.
    pub checksum: Option<Digest>,
    /// Entity tag of what is there already: unchanged content is not sent again.
    pub if_none_match: Option<String>,
}

/// What an address answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// What the caller has is current (`if_none_match`).
    NotModified,
    /// The content is in the blob folder.
    Content(UrlContent),
}

/// Content of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlContent {
    /// Its digest: of the checksum's algorithm where one was given, else SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Entity tag, as sent.
    pub etag: Option<String>,
    /// When it was last changed.
    pub last_modified: Option<SystemTime>,
    /// Media type, as sent.
    pub content_type: Option<String>,
}

impl Inner {
    pub(super) async fn fetch_url(
        &self,
        address: &str,
        into: &Blobs,
        options: &UrlOptions,
        progress: &dyn Progress,
    ) -> Result<Fetched, ClientError> {
        let url = web_address(address)?;
        let mut attempts = Attempts::new(&self.policy, address, progress);
        loop {
            match self.fetch_url_once(&url, into, options, progress).await {
                Err(error) => attempts.after(error).await?,
                fetched => return fetched,
            }
        }
    }

    /// Fetches what a descriptor describes from an address, verified as a blob of a registry is.
    pub(super) async fn fetch_from(
        &self,
        address: &str,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let url = web_address(address)?;
        let mut attempts = Attempts::new(&self.policy, address, progress);
        loop {
            match self.fetch_from_once(&url, descriptor, into, progress).await {
                Err(error) => attempts.after(error).await?,
                fetched => return fetched,
            }
        }
    }

    async fn fetch_from_once(
        &self,
        url: &Url,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let mut response = self.follow(url, &UrlOptions::default()).await?;
        let host = body::host_of(response.url());
        let (digest, expected) = (descriptor.digest.clone(), descriptor.size_bytes);
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(ClientError::NotFound { what: url.to_string() }),
            _ => return Err(body::status_error("GET", response).await),
        }
        let mut sink = Sink::new(into.writer(&digest)?);
        while let Some(piece) = sink::next(&host, &mut response).await? {
            let piece = piece.as_ref();
            let actual = sink.received() + piece.len() as u64;
            if actual > expected {
                return Err(ClientError::Size { host, digest, expected, actual });
            }
            sink.take(piece).await?;
            progress.event(&Event::Advanced { digest: &digest, done_bytes: actual, size_bytes: expected });
        }
        if sink.received() < expected {
            return Err(ClientError::Interrupted { host, source: None });
        }
        let writer = sink.finish().await?;
        let committed = tokio::task::spawn_blocking(move || writer.commit(Some((&digest, expected)))).await?;
        committed.map(drop).map_err(|error| match error {
            slipway_oci::blobs::BlobError::DigestMismatch { expected, actual } => {
                ClientError::Digest { host, expected, actual }
            }
            other => other.into(),
        })
    }

    async fn fetch_url_once(
        &self,
        url: &Url,
        into: &Blobs,
        options: &UrlOptions,
        progress: &dyn Progress,
    ) -> Result<Fetched, ClientError> {
        let mut response = self.follow(url, options).await?;
        if response.status() == StatusCode::NOT_MODIFIED && options.if_none_match.is_some() {
            return Ok(Fetched::NotModified);
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Err(ClientError::NotFound { what: url.to_string() });
        }
        if response.status() != StatusCode::OK {
            return Err(body::status_error("GET", response).await);
        }
        let host = body::host_of(response.url());
        let most = options.most_bytes.unwrap_or(u64::MAX);
        let large = || ClientError::Large { what: url.to_string(), most_bytes: most };
        let promised = response.content_length();
        if promised.is_some_and(|promised| promised > most) {
            return Err(large());
        }
        let mut content = describe(&response);
        let algorithm = options.checksum.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut sink = Sink::new(into.writer(algorithm)?);
        // an address has no digest before it was read: progress goes by that of its text
        let name = Digest::sha256(url.as_str().as_bytes());
        progress.event(&Event::Started { digest: &name, size_bytes: promised.unwrap_or(0) });
        while let Some(piece) = sink::next(&host, &mut response).await? {
            let piece = piece.as_ref();
            if sink.received() + piece.len() as u64 > most {
                return Err(large());
            }
            sink.take(piece).await?;
            let done_bytes = sink.received();
            progress.event(&Event::Advanced { digest: &name, done_bytes, size_bytes: promised.unwrap_or(0) });
        }
        let (expected, size) = (options.checksum.clone(), sink.received());
        let writer = sink.finish().await?;
        let committed =
            tokio::task::spawn_blocking(move || writer.commit(expected.as_ref().map(|d| (d, size))));
        (content.digest, content.size_bytes) = committed.await?.map_err(|error| match error {
            slipway_oci::blobs::BlobError::DigestMismatch { expected, actual } => {
                ClientError::Digest { host, expected, actual }
            }
            other => other.into(),
        })?;
        progress.event(&Event::Finished { digest: &name });
        Ok(Fetched::Content(content))
    }

    /// Follows redirects. There is no authentication here, hence nothing that could leak; names and passwords in the
    /// address itself are sent to its own host only, for a redirect's address does not contain them.
    async fn follow(&self, start: &Url, options: &UrlOptions) -> Result<Response, ClientError> {
        let mut url = start.clone();
        for _ in 0..=limits::REDIRECTS {
            let kind = match (url.scheme(), is_loopback(url.host_str().unwrap_or_default())) {
                ("https", _) => Kind::Secure,
                (_, true) => Kind::Loopback,
                _ => Kind::Plain,
            };
            let mut request = self.transport.http(kind, &url)?.get(url.clone());
            if let Some(tag) = &options.if_none_match {
                request = request.header(header::IF_NONE_MATCH, tag);
            }
            let host = body::host_of(&url);
            let response = request.send().await.map_err(|source| ClientError::unanswered(host, source))?;
            match redirect_target(&response)? {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(ClientError::Redirects { url: start.to_string() })
    }
}

/// An http or https address.
fn web_address(address: &str) -> Result<Url, ClientError> {
    let wrong = || ClientError::Address { url: address.chars().take(200).collect() };
    let url = Url::parse(address).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    Ok(url)
}

/// What the headers say; digest and size are filled in when the content is there.
fn describe(response: &Response) -> UrlContent {
    let text = |name: header::HeaderName| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let last_modified = text(header::LAST_MODIFIED).and_then(|text| httpdate::parse_http_date(&text).ok());
    UrlContent {
        digest: Digest::sha256(b""),
        size_bytes: 0,
        etag: text(header::ETAG),
        last_modified,
        content_type: text(header::CONTENT_TYPE),
    }
}
