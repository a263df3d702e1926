//! Somebody who looks at a page.

use super::{Asked, Page, route};
use crate::{
    limits,
    server::{
        access::{Action, Demand, Visitor},
        body::{self, Incoming},
        call::{Shared, blocking},
        entry::{enter_page, form_token, is_form_token},
        error::ApiError,
        query::Query,
        storage::{Author, Storage, StorageError, now_seconds},
    },
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, header},
};
use maud::{Markup, html};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// One request, by somebody who may see the page.
pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) visitor: Visitor,
    /// Whether a session of the page shows who it is.
    pub(super) session: bool,
    /// Whether the browser is reached over TLS.
    pub(super) secure: bool,
    pub(super) query: Query,
    /// The moment that ages are told from.
    pub(super) now: i64,
    page: Page,
    method: Method,
    headers: HeaderMap,
    uri_query: String,
    host: Option<String>,
    body: Mutex<Option<Body>>,
    client: Option<IpAddr>,
    form: Vec<(String, String)>,
    token: String,
}

impl Visit {
    pub(super) async fn new(
        shared: &Arc<Shared>,
        asked: Asked,
        demand: &Demand<'_>,
    ) -> Result<Visit, ApiError> {
        let Asked { page, head, body, origin, client } = asked;
        let uri_query = head.uri.query().unwrap_or_default().to_owned();
        let query = Query::parse(Some(&uri_query))?;
        let (secure, host) = (origin.secure, origin.host.clone());
        let secure = secure || shared.access.current().is_reached_by_tls();
        let cookies = cookies(&head.headers, secure);
        let (visitor, session) = enter_page(shared, origin, &head.headers, &cookies, demand).await?;
        let token = form_token(shared, &visitor).await?;
        Ok(Visit {
            shared: Arc::clone(shared),
            visitor,
            session,
            secure,
            query,
            now: now_seconds(),
            page,
            method: head.method,
            uri_query,
            host,
            headers: head.headers,
            body: Mutex::new(Some(body)),
            client,
            form: Vec::new(),
            token,
        })
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Whether this is the form to log in.
    pub(super) fn is_at_login(&self) -> bool {
        self.page == Page::Login
    }

    /// Whether the visitor changes things in a repository, and may know who else does.
    pub(super) fn works_on(&self, repository: &str) -> bool {
        [Action::Push, Action::Overwrite, Action::Delete].iter().any(|one| self.visitor.may(*one, repository))
    }

    /// The page with what was asked for, for who comes back to it.
    pub(super) fn here(&self) -> String {
        match &self.page {
            Page::Login => String::new(),
            page if self.uri_query.is_empty() => page.to_string(),
            page => route::onward(&format!("{page}?{}", self.uri_query)),
        }
    }

    /// What was asked for, without what surrounds it.
    pub(super) fn asked(&self, name: &str) -> &str {
        self.query.get(name).unwrap_or_default().trim()
    }

    /// A number that was asked for; 0 where it is none.
    pub(super) fn number(&self, name: &str) -> usize {
        self.query.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// A field of the form.
    pub(super) fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// What a form of this page brings along.
    pub(super) fn token(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.token); }
    }

    /// Who changes something by this request, for what remembers it.
    pub(super) fn author(&self) -> Author {
        Author { who: self.visitor.name().clone(), origin: self.client.map(|client| client.to_string()) }
    }

    /// Looks something up off the async threads.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let wait = Arc::clone(&self.shared.pages.looks).acquire_owned();
        let turn = tokio::time::timeout(limits::WEB_WAIT, wait).await.map_err(|_| ApiError::Busy)?;
        let turn = turn.expect("the semaphore is never closed");
        let storage = Arc::clone(&self.shared.storage);
        blocking(move || {
            let found = work(&storage);
            // held until the work is done, whether or not the browser still waits
            drop(turn);
            found
        })
        .await
    }

    pub(super) async fn read_form(&mut self) -> Result<(), ApiError> {
        let body = self.body.lock().expect("no panic happens while it is held").take();
        let Some(body) = body else { return Ok(()) };
        let length = self.text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let bytes = body::small(Incoming::new(&self.shared, body), length, limits::FORM_BYTES).await?;
        self.form = form_urlencoded::parse(&bytes).into_owned().collect();
        Ok(())
    }

    /// Refuses a form that is not one of our pages': another site made the browser send it (CSRF). The token is what counts; what
    /// browsers say about where a form comes from is asked besides.
    pub(super) async fn expect_own_form(&self) -> Result<(), ApiError> {
        let site = self.text(HeaderName::from_static("sec-fetch-site"));
        let origin =
            self.text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
        let own = match (site, origin) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => self.host.as_deref() == Some(origin),
            // no browser
            (None, None) => true,
        };
        if own && is_form_token(&self.shared, &self.visitor, self.field("token")).await? {
            return Ok(());
        }
        Err(ApiError::TokenRequest(
            "the form was not sent from this page, or it is too old: open the page again",
        ))
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The name of the cookie with the session. Over TLS browsers vouch that it comes from this host by TLS (RFC 6265bis, "Cookie Name
/// Prefixes").
pub(super) fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-slipway" } else { "slipway" }
}

/// Values of the session's cookie: of several of one name, some may be another's.
fn cookies(headers: &HeaderMap, secure: bool) -> Vec<&str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == cookie_name(secure)).map(|(_, value)| value).take(2).collect()
}
