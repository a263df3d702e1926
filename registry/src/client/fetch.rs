//! Fetching blobs: streamed, verified for size and digest while they stream, resumed where they broke off.

use super::{
    Inner,
    auth::{Action, Scope},
    body,
    error::ClientError,
    place::At,
    progress::{Event, Progress},
    retry::{Attempts, Policy},
    sink::{self, Sink},
    transport::{Ask, Endpoint, Payload},
};
use crate::limits;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{
    Method, Response,
    header::{self, HeaderMap, HeaderValue},
};
use slipway_oci::{
    Descriptor, Reference,
    blobs::{BlobError, BlobSink},
};
use std::collections::BTreeSet;

/// One blob to be fetched.
struct Job<'a> {
    endpoint: &'a Endpoint,
    scope: Scope,
    repository: &'a str,
    descriptor: &'a Descriptor,
    progress: &'a dyn Progress,
    policy: &'a Policy,
}

impl Inner {
    /// Fetches every blob that is not there yet, several at a time. The first failure ends it.
    pub(super) async fn fetch_blobs(
        &self,
        repository: &Reference,
        descriptors: &[Descriptor],
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let mut seen = BTreeSet::new();
        let wanted: Vec<_> = descriptors.iter().filter(|wanted| seen.insert(&wanted.digest)).collect();
        let bytes = wanted.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size_bytes));
        let most = slipway_oci::unpacking::most_bytes();
        if bytes > most {
            return Err(ClientError::TooMuch {
                bytes,
                source: slipway_oci::unpacking::TooMuch::Bytes { most },
            });
        }
        stream::iter(wanted.into_iter().map(Ok))
            .try_for_each_concurrent(self.parallel, |descriptor| {
                self.fetch_blob(repository, descriptor, into, progress)
            })
            .await
    }

    /// Fetches one blob, unless it is there.
    pub(super) async fn fetch_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let digest = &descriptor.digest;
        if into.size(digest)? == Some(descriptor.size_bytes) {
            progress.event(&Event::Present { digest });
            return Ok(());
        }
        progress.event(&Event::Started { digest, size_bytes: descriptor.size_bytes });
        // tag or digest of the image say nothing about its blobs, which mirrors have by digest
        let named = repository.with_digest(digest.clone());
        let fetched = self.ask_places(&named, progress, async |at: &At<'_>| {
            self.fetch_at(at, descriptor, into, progress).await
        });
        match fetched.await {
            Err(ClientError::NotFound { .. }) if !descriptor.urls.is_empty() => {
                self.fetch_foreign(descriptor, into, progress).await?;
            }
            other => other?,
        }
        progress.event(&Event::Finished { digest });
        Ok(())
    }

    /// A layer that its registry has not, but says where it lives: fetched from there, where that is allowed.
    async fn fetch_foreign(
        &self,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let (digest, urls) = (&descriptor.digest, &descriptor.urls);
        if !self.foreign_layers {
            let url = urls.iter().take(limits::FOREIGN_PLACES).cloned().collect::<Vec<_>>().join(", ");
            return Err(ClientError::Foreign { digest: digest.clone(), url });
        }
        let mut failure = None;
        for url in urls.iter().take(limits::FOREIGN_PLACES) {
            match self.fetch_from(url, descriptor, into, progress).await {
                Ok(()) => return Ok(()),
                // this machine's own trouble is the same wherever the bytes come from
                Err(error @ ClientError::Blob(_)) => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.expect("there is an address at least"))
    }

    async fn fetch_at(
        &self,
        at: &At<'_>,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let repository = at.reference.repository();
        let (endpoint, scope) = (&at.endpoint, Scope::new(repository, Action::Pull));
        let job = Job { endpoint, scope, repository, descriptor, progress, policy: at.policy };
        let resumed = match self.receive(&job, into).await {
            // a piece that another server behind the same name sent may be to blame: once more, from the start
            Err(Failure { error: ClientError::Blob(BlobError::DigestMismatch { .. }), resumed: true }) => {
                self.receive(&job, into).await
            }
            other => other,
        };
        resumed.map_err(|failure| job.in_words(failure.error))
    }

    async fn receive(&self, job: &Job<'_>, into: &dyn BlobSink) -> Result<(), Failure> {
        let whole = |error: ClientError| Failure { error, resumed: false };
        let writer = into.writer(&job.descriptor.digest).map_err(|error| whole(error.into()))?;
        let mut sink = Sink::new(writer);
        let mut attempts = Attempts::new(job.policy, job.descriptor.digest.to_string(), job.progress);
        let mut resumed = false;
        loop {
            let before = sink.received();
            let Err(error) = self.fetch_once(job, &mut sink).await else { break };
            if sink.received() - before >= limits::RESUME_PROGRESS_BYTES {
                attempts.achieved();
            }
            attempts.after(error).await.map_err(whole)?;
            resumed |= sink.received() > 0;
        }
        let writer = sink.finish().await.map_err(whole)?;
        let (digest, size) = (job.descriptor.digest.clone(), job.descriptor.size_bytes);
        let committed = tokio::task::spawn_blocking(move || writer.commit(Some((&digest, size)))).await;
        match committed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure { error: error.into(), resumed }),
            Err(error) => Err(whole(error.into())),
        }
    }

    /// One request, from where the sink is to the end.
    async fn fetch_once(&self, job: &Job<'_>, sink: &mut Sink) -> Result<(), ClientError> {
        let (size, start) = (job.descriptor.size_bytes, sink.received());
        if start == size && size > 0 {
            return Ok(());
        }
        let mut response = self.ask_blob(job, start).await?;
        let mut skip = job.placed(&response, start)?;
        let host = job.endpoint.host();
        while let Some(piece) = sink::next(&host, &mut response).await? {
            let piece = piece.as_ref();
            // a registry that does not know ranges sends all of it again
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let fresh = &piece[known as usize..];
            if sink.received() + fresh.len() as u64 > size {
                return Err(job.wrong_size(sink.received() + fresh.len() as u64));
            }
            sink.take(fresh).await?;
            let done_bytes = sink.received();
            job.progress.event(&Event::Advanced {
                digest: &job.descriptor.digest,
                done_bytes,
                size_bytes: size,
            });
        }
        if sink.received() < size {
            return Err(ClientError::Interrupted { host, source: None });
        }
        Ok(())
    }

    async fn ask_blob(&self, job: &Job<'_>, start: u64) -> Result<Response, ClientError> {
        let mut headers = HeaderMap::new();
        if start > 0 {
            let range = HeaderValue::from_str(&format!("bytes={start}-")).expect("digits are ASCII");
            headers.insert(header::RANGE, range);
        }
        let url = job.endpoint.url(job.repository, &format!("blobs/{}", job.descriptor.digest));
        let ask = Ask { method: Method::GET, url, headers, payload: Payload::None, scope: &job.scope };
        let response = self.transport.send(job.endpoint, ask).await?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            404 => Err(ClientError::NotFound { what: job.descriptor.digest.to_string() }),
            _ => Err(body::status_error("GET", response).await),
        }
    }
}

/// A failed transfer, and whether its bytes came in more than one reply.
struct Failure {
    error: ClientError,
    resumed: bool,
}

impl Job<'_> {
    /// Checks that a reply begins where it was asked to; answers how many bytes of it are known already.
    fn placed(&self, response: &Response, start: u64) -> Result<u64, ClientError> {
        let size = self.descriptor.size_bytes;
        if response.status().as_u16() == 200 {
            // a wrong size shows before the first byte is read
            return match response.content_length() {
                Some(actual) if actual != size => Err(self.wrong_size(actual)),
                _ => Ok(start),
            };
        }
        if first_of(response) != Some(start) {
            let what = "a part of the blob that was not asked for";
            return Err(ClientError::Protocol { host: self.endpoint.host(), method: "GET".into(), what });
        }
        Ok(0)
    }

    fn wrong_size(&self, actual: u64) -> ClientError {
        ClientError::Size {
            host: self.endpoint.host(),
            digest: self.descriptor.digest.clone(),
            expected: self.descriptor.size_bytes,
            actual,
        }
    }

    /// Says whose bytes were wrong.
    fn in_words(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Blob(BlobError::DigestMismatch { expected, actual }) => {
                ClientError::Digest { host: self.endpoint.host(), expected, actual }
            }
            other => other,
        }
    }
}

/// Where the part begins that a reply says it is (RFC 9110, section 14.4).
pub(super) fn first_of(response: &Response) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Runs `work` over `items`, `parallel` at a time, and keeps the results in order.
pub(super) async fn in_parallel<I, T, F: Future<Output = Result<T, ClientError>>>(
    parallel: usize,
    items: impl IntoIterator<Item = I>,
    work: impl FnMut(I) -> F,
) -> Result<Vec<T>, ClientError> {
    stream::iter(items.into_iter().map(work)).buffered(parallel).try_collect().await
}
