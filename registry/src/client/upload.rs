//! Uploading one blob: look, mount, or send; in one piece first, in chunks where the registry refuses that, and on
//! from where it broke off.

use super::{
    Inner,
    auth::{Action, Scope},
    body,
    error::ClientError,
    fetch::in_parallel,
    outgoing::{self, Sent},
    progress::{Event, Progress},
    push::{BlobReader, BlobSource},
    retry::Attempts,
    transport::{Ask, Endpoint, Payload},
};
use crate::{limits, protocol};
use reqwest::{
    Method, Response, Url,
    header::{self, HeaderMap, HeaderValue},
};
use slipway_oci::{Descriptor, Digest, Reference};
use std::{collections::BTreeSet, io};

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Present,
    Mounted,
    Uploaded,
}

/// One blob on its way.
struct Job<'a> {
    endpoint: Endpoint,
    scope: Scope,
    repository: &'a str,
    blob: &'a Descriptor,
    source: &'a dyn BlobSource,
    progress: &'a dyn Progress,
}

/// A source for who sends nothing.
struct Nothing;

impl BlobSource for Nothing {
    fn open(&self, _: &Digest) -> io::Result<Box<dyn BlobReader>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// An open upload session.
struct Session {
    location: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// The least that a chunk may have, where the registry says so.
    least_chunk: u64,
    /// Whether something was sent before: it may still be on its way in, so that more has to say where it belongs.
    resumed: bool,
}

/// How an upload began.
enum Begun {
    Mounted,
    Session(Session),
}

impl Inner {
    /// Brings one blob to a repository.
    pub(super) async fn push_blob(
        &self,
        target: &Reference,
        blob: &Descriptor,
        source: &dyn BlobSource,
        progress: &dyn Progress,
    ) -> Result<How, ClientError> {
        let endpoint = self.own_endpoint(target).await?;
        let mut scope = Scope::new(target.repository(), Action::Push);
        scope.mount_from =
            source.known_in(target.registry(), &blob.digest).filter(|from| from != target.repository());
        let job = Job { endpoint, scope, repository: target.repository(), blob, source, progress };
        let mut attempts = Attempts::new(&self.policy, blob.digest.to_string(), progress);
        let (mut session, mut chunked) = (None, false);
        loop {
            let before = session.as_ref().map_or(0, |session: &Session| session.offset);
            let error = match self.upload_once(&job, &mut session, chunked).await {
                Ok(how) => return Ok(how),
                Err(error) => error,
            };
            if !chunked && refuses_one_piece(&error) {
                (chunked, session) = (true, None);
                continue;
            }
            let lost = error.status() == Some(416);
            attempts.after(error).await?;
            session = match session {
                Some(session) => self.resume(&job, session, lost).await?,
                None => None,
            };
            if session.as_ref().map_or(0, |session| session.offset) >= before + limits::RESUME_PROGRESS_BYTES
            {
                attempts.achieved();
            }
        }
    }

    /// Those blobs that a repository lacks, each once and in order.
    pub(super) async fn lacking(
        &self,
        target: &Reference,
        blobs: &[Descriptor],
    ) -> Result<Vec<Descriptor>, ClientError> {
        let endpoint = self.own_endpoint(target).await?;
        let mut seen = BTreeSet::new();
        let blobs: Vec<&Descriptor> = blobs.iter().filter(|blob| seen.insert(&blob.digest)).collect();
        let there = in_parallel(self.parallel, blobs.iter().copied(), async |blob: &Descriptor| {
            let job = Job {
                endpoint: endpoint.clone(),
                scope: Scope::new(target.repository(), Action::Push),
                repository: target.repository(),
                blob,
                source: &Nothing,
                progress: &(),
            };
            let mut attempts = Attempts::new(&self.policy, blob.digest.to_string(), &());
            loop {
                match self.look(&job).await {
                    Ok(there) => return Ok(there),
                    Err(error) => attempts.after(error).await?,
                }
            }
        });
        let there = there.await?;
        Ok(blobs.into_iter().zip(there).filter(|(_, there)| !there).map(|(blob, _)| blob.clone()).collect())
    }

    async fn upload_once(
        &self,
        job: &Job<'_>,
        session: &mut Option<Session>,
        chunked: bool,
    ) -> Result<How, ClientError> {
        let digest = &job.blob.digest;
        if session.is_none() {
            // also when an answer to a closing PUT was lost
            if self.look(job).await? {
                job.progress.event(&Event::Present { digest });
                return Ok(How::Present);
            }
            match self.begin(job).await? {
                Begun::Mounted => {
                    let from = job.scope.mount_from.as_deref().unwrap_or_default();
                    job.progress.event(&Event::Mounted { digest, from });
                    return Ok(How::Mounted);
                }
                Begun::Session(begun) => *session = Some(begun),
            }
            job.progress.event(&Event::Started { digest, size_bytes: job.blob.size_bytes });
        }
        self.transfer(job, session.as_mut().expect("a session was begun"), chunked).await?;
        job.progress.event(&Event::Finished { digest });
        Ok(How::Uploaded)
    }

    async fn ask(
        &self,
        job: &Job<'_>,
        method: Method,
        url: Url,
        payload: Payload,
        headers: HeaderMap,
    ) -> Result<Response, ClientError> {
        self.transport.send(&job.endpoint, Ask { method, url, headers, payload, scope: &job.scope }).await
    }

    /// Whether the repository has the blob.
    async fn look(&self, job: &Job<'_>) -> Result<bool, ClientError> {
        let url = job.endpoint.url(job.repository, &format!("blobs/{}", job.blob.digest));
        let response = self.ask(job, Method::HEAD, url, Payload::None, HeaderMap::new()).await?;
        match response.status().as_u16() {
            200 => Ok(true),
            // whatever else it says about a blob that it may not have, sending it will tell
            400..=499 if response.status().as_u16() != 429 => Ok(false),
            _ => Err(body::status_error("HEAD", response).await),
        }
    }

    /// Starts a session, or finds that mounting was enough.
    async fn begin(&self, job: &Job<'_>) -> Result<Begun, ClientError> {
        let mut url = job.endpoint.url(job.repository, "blobs/uploads/");
        if let Some(from) = &job.scope.mount_from {
            url.query_pairs_mut()
                .append_pair("mount", &job.blob.digest.to_string())
                .append_pair("from", from);
        }
        let response = self.ask(job, Method::POST, url, Payload::None, HeaderMap::new()).await?;
        match response.status().as_u16() {
            201 if job.scope.mount_from.is_some() => Ok(Begun::Mounted),
            202 => {
                let least = response.headers().get(protocol::CHUNK_MIN_LENGTH_HEADER);
                let least = least.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
                let location = location(job, &response)?;
                Ok(Begun::Session(Session {
                    location,
                    offset: 0,
                    least_chunk: least.unwrap_or(0),
                    resumed: false,
                }))
            }
            _ => Err(body::status_error("POST", response).await),
        }
    }

    /// Finds where a session goes on. `lost` says that the registry refused its offset: where it still names the same
    /// one (`0-0` does not tell no byte from one), only a new session helps.
    async fn resume(
        &self,
        job: &Job<'_>,
        session: Session,
        lost: bool,
    ) -> Result<Option<Session>, ClientError> {
        let refused = session.offset;
        let found = self.status(job, session).await?;
        Ok(found.filter(|session| !lost || session.offset != refused))
    }

    /// Asks how far a session is; `None` where it is gone.
    async fn status(&self, job: &Job<'_>, session: Session) -> Result<Option<Session>, ClientError> {
        let asked =
            self.ask(job, Method::GET, session.location.clone(), Payload::None, HeaderMap::new()).await;
        // not reached either: the next attempt begins anew, with its own share of patience
        let Ok(response) = asked else { return Ok(None) };
        if response.status().as_u16() != 204 {
            return Ok(None);
        }
        let range = response.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
        let last = range.and_then(|text| text.rsplit('-').next()).and_then(|text| text.parse::<u64>().ok());
        let offset = match last {
            None => return Ok(None),
            Some(0) => 0,
            Some(last) => last.saturating_add(1),
        };
        if offset > job.blob.size_bytes {
            return Ok(None);
        }
        let location = location(job, &response).unwrap_or(session.location);
        Ok(Some(Session { location, offset, resumed: true, ..session }))
    }

    /// Sends what is missing and closes the session.
    async fn transfer(&self, job: &Job<'_>, session: &mut Session, chunked: bool) -> Result<(), ClientError> {
        let size = job.blob.size_bytes;
        if !session.resumed && !chunked {
            return self.close(job, session, size).await;
        }
        while session.offset < size {
            let rest = size - session.offset;
            let most = limits::CHUNK_BYTES.max(session.least_chunk);
            self.chunk(job, session, if chunked { rest.min(most) } else { rest }).await?;
        }
        self.close(job, session, 0).await
    }

    async fn chunk(&self, job: &Job<'_>, session: &mut Session, length: u64) -> Result<(), ClientError> {
        let range = format!("{}-{}", session.offset, session.offset + length - 1);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits are ASCII"));
        let response = self
            .stream(job, Method::PATCH, session.location.clone(), headers, session.offset, length)
            .await?;
        if response.status().as_u16() != 202 {
            return Err(body::status_error("PATCH", response).await);
        }
        session.location = location(job, &response)?;
        session.offset += length;
        Ok(())
    }

    /// Closes a session with the first `length` bytes of the blob, or with nothing.
    async fn close(&self, job: &Job<'_>, session: &Session, length: u64) -> Result<(), ClientError> {
        let mut url = session.location.clone();
        url.query_pairs_mut().append_pair("digest", &job.blob.digest.to_string());
        let response = self.stream(job, Method::PUT, url, HeaderMap::new(), 0, length).await?;
        match response.status().as_u16() {
            201 | 204 => Ok(()),
            _ => Err(body::status_error("PUT", response).await),
        }
    }

    /// Sends a part of the blob and tells how it gets on.
    async fn stream(
        &self,
        job: &Job<'_>,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        offset: u64,
        length: u64,
    ) -> Result<Response, ClientError> {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(protocol::OCTET_STREAM));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if length == 0 {
            return self.ask(job, method, url, Payload::None, headers).await;
        }
        let digest = &job.blob.digest;
        let failed = |source| ClientError::Source { digest: digest.clone(), source };
        let reader = job.source.open(digest).map_err(failed)?;
        let (body, mut sent) = outgoing::body(reader, offset, length);
        let asked = self.ask(job, method, url, Payload::Once(body), headers);
        tokio::pin!(asked);
        let (mut done_bytes, mut broken) = (offset, None);
        let size_bytes = job.blob.size_bytes;
        let response = loop {
            tokio::select! {
                response = &mut asked => break response,
                Some(step) = sent.recv() => match step {
                    Sent::Bytes(count) => {
                        done_bytes += count;
                        job.progress.event(&Event::Advanced { digest, done_bytes, size_bytes });
                    }
                    Sent::Failed(error) => broken = Some(error),
                },
            }
        };
        while let Ok(step) = sent.try_recv() {
            if let Sent::Failed(error) = step {
                broken = Some(error);
            }
        }
        // a local failure looks like a broken connection from there; trying again would not help
        match broken {
            Some(error) => Err(failed(error)),
            None => response,
        }
    }
}

/// Where a session goes on; may be relative.
fn location(job: &Job<'_>, response: &Response) -> Result<Url, ClientError> {
    let wrong = |what| ClientError::Protocol { host: job.endpoint.host(), method: "an upload".into(), what };
    let text = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| wrong("no `Location` of the session"))?;
    let url = response.url().join(text).map_err(|_| wrong("the session's `Location` is no address"))?;
    if response.url().scheme() == "https" && url.scheme() != "https" || !url.has_host() {
        return Err(ClientError::Downgrade { url: url.to_string() });
    }
    Ok(url)
}

/// Registries and proxies that want chunks: method or length not allowed, body too large, not implemented.
fn refuses_one_piece(error: &ClientError) -> bool {
    match error {
        ClientError::Status { method, status, .. } => {
            method == "PUT" && matches!(status, 405 | 411 | 413 | 415 | 501)
        }
        _ => false,
    }
}
