//! What a request changed, read from what it asked for and how it was answered.

use super::{event::Change, follow::Followed, route::Route};
use crate::protocol;
use axum::{
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use std::time::SystemTime;

/// A change in words of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) action: &'static str,
    pub(super) repository: String,
    pub(super) tags: Vec<String>,
    pub(super) digest: Option<String>,
}

impl Changed {
    /// What `method` on `route` does where it succeeds; `None` for what changes nothing that stays.
    pub(super) fn expected(route: &Route, method: &Method) -> Option<Changed> {
        let of = |action, name: &str, reference: Option<&str>| {
            let digest = reference.filter(|text| text.contains(':')).map(str::to_owned);
            let tags = reference.filter(|text| !text.contains(':')).map(str::to_owned);
            Some(Changed { action, repository: name.to_owned(), tags: tags.into_iter().collect(), digest })
        };
        match (route, method.as_str()) {
            (Route::Manifest { name, reference }, "PUT") => of("push", name, Some(reference)),
            (Route::Manifest { name, reference }, "GET") => of("pull", name, Some(reference)),
            (Route::Manifest { name, reference }, "DELETE") => of("delete", name, Some(reference)),
            (Route::Blob { name, digest }, "DELETE") => of("blob-delete", name, Some(digest)),
            (Route::Upload { name, .. }, "PUT") => of("blob-push", name, None),
            (Route::Uploads { name }, "POST") => of("blob-mount", name, None),
            _ => None,
        }
    }

    /// The same, if the answer says that it was done, with what the answer knows.
    pub(super) fn done(mut self, response: &Response, mounts: bool) -> Option<Changed> {
        let done = match self.action {
            "push" | "blob-push" | "blob-mount" => StatusCode::CREATED,
            "pull" => StatusCode::OK,
            // of the web page, which leads on
            "undelete" => StatusCode::SEE_OTHER,
            _ => StatusCode::ACCEPTED,
        };
        if response.status() != done {
            return None;
        }
        if self.action == "blob-mount" && !mounts {
            // a whole blob in one request
            self.action = "blob-push";
        }
        let text = |headers: &HeaderMap, name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        self.digest = text(response.headers(), protocol::CONTENT_DIGEST_HEADER).or(self.digest);
        if let Some(tags) = text(response.headers(), protocol::TAG_HEADER) {
            self.tags.extend(tags.split(", ").map(str::to_owned));
        }
        Some(self)
    }

    /// As it is told.
    pub(super) fn told<'a>(&'a self, by: &'a Followed) -> Change<'a> {
        Change {
            time: SystemTime::now(),
            action: self.action,
            repository: &self.repository,
            tags: &self.tags,
            digest: self.digest.as_deref(),
            user: by.user.as_deref(),
            client: by.client,
            agent: by.agent.as_deref(),
        }
    }
}
