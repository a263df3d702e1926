//! The tags of a repository.

use super::{
    Inner,
    auth::{Action, Scope},
    body,
    error::ClientError,
    place::At,
    progress::Progress,
    retry::Attempts,
    transport::{Ask, Endpoint, Payload},
};
use crate::limits;
use reqwest::{
    Method, Response, Url,
    header::{self, HeaderMap},
};
use serde::Deserialize;
use slipway_oci::{Reference, reference::is_tag};

/// A page of a list as it came.
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    pub(super) headers: HeaderMap,
    /// Where the list goes on.
    pub(super) next: Option<Url>,
}

#[derive(Deserialize)]
struct List {
    /// `null` in some registries where there is none.
    tags: Option<Vec<String>>,
}

impl Inner {
    pub(super) async fn tags(
        &self,
        repository: &Reference,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, ClientError> {
        self.ask_places(repository, progress, async |at: &At<'_>| self.tags_at(at, progress).await).await
    }

    async fn tags_at(&self, at: &At<'_>, progress: &dyn Progress) -> Result<Vec<String>, ClientError> {
        let (endpoint, repository) = (&at.endpoint, at.reference);
        let mut url = endpoint.url(repository.repository(), "tags/list");
        url.query_pairs_mut().append_pair("n", &limits::PAGE_ENTRIES_DEFAULT.to_string());
        let mut tags = Vec::new();
        for _ in 0..limits::PAGES {
            let page = self.page(at, url, HeaderMap::new(), progress).await?;
            let Page { bytes, next, .. } =
                page.ok_or_else(|| ClientError::NotFound { what: repository.name() })?;
            tags.extend(of_page(endpoint, &bytes)?);
            if tags.len() > limits::TAGS {
                let what = "more tags than are taken";
                return Err(ClientError::Protocol { host: endpoint.host(), method: "GET".into(), what });
            }
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        let what = "pages of tags without end";
        Err(ClientError::Protocol { host: endpoint.host(), method: "GET".into(), what })
    }

    /// One page of a list; `None` where the registry has no such thing.
    pub(super) async fn page(
        &self,
        at: &At<'_>,
        url: Url,
        headers: HeaderMap,
        progress: &dyn Progress,
    ) -> Result<Option<Page>, ClientError> {
        let (endpoint, repository) = (&at.endpoint, at.reference);
        let scope = Scope::new(repository.repository(), Action::Pull);
        let mut attempts = Attempts::new(at.policy, repository.name(), progress);
        loop {
            let (headers, payload) = (at.headers(headers.clone()), Payload::None);
            let ask = Ask { method: Method::GET, url: url.clone(), headers, payload, scope: &scope };
            let failure = match self.transport.send(endpoint, ask).await {
                Ok(response) if response.status().is_success() => {
                    let (next, headers) = (next_page(endpoint, &response), response.headers().clone());
                    match body::read_capped(&endpoint.host(), response, limits::REPLY_BYTES, "a list").await {
                        Ok(bytes) => return Ok(Some(Page { bytes, headers, next })),
                        Err(error) => error,
                    }
                }
                Ok(response) if response.status().as_u16() == 404 => return Ok(None),
                Ok(response) => body::status_error("GET", response).await,
                Err(error) => error,
            };
            attempts.after(failure).await?;
        }
    }
}

/// The tags of a page; what is no tag cannot be asked for either.
pub(super) fn of_page(endpoint: &Endpoint, bytes: &[u8]) -> Result<Vec<String>, ClientError> {
    Ok(parse(endpoint, bytes)?.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)).collect())
}

fn parse(endpoint: &Endpoint, bytes: &[u8]) -> Result<List, ClientError> {
    let what = "a list of tags that is not valid";
    serde_json::from_slice(bytes).map_err(|_| ClientError::Protocol {
        host: endpoint.host(),
        method: "GET".into(),
        what,
    })
}

/// The address in `Link: <…>; rel="next"`, on the registry itself.
fn next_page(endpoint: &Endpoint, response: &Response) -> Option<Url> {
    let text = response.headers().get(header::LINK)?.to_str().ok()?;
    let (target, parameters) = text.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    let url = response.url().join(target).ok()?;
    (url.origin() == endpoint.base.origin()).then_some(url)
}
