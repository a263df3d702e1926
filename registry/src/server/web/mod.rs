//! The web page: what is stored, for people, made on the server.
//!
//! Everything that it shows was pushed by somebody. So: templates escape by themselves (`maud`; nothing here writes markup that is
//! not checked), whole documents are cleaned of characters that deceive ([`words::harmless`]), a strict policy lets a page load its own
//! stylesheet and script alone ([`frame`]), links are to the web or to pages of ours ([`words::value`], [`route`]). Who may see what
//! is decided as for the protocol, by [`super::access`], and what may not be seen reads as what is not there. Nothing is changed by
//! GET; forms show that they are ours ([`visit`]). Without its script every page works.

mod artifact;
mod asset;
mod compare;
mod config;
mod device;
mod document;
mod files;
mod frame;
mod history;
mod image;
mod layers;
mod login;
mod referrers;
mod repositories;
mod route;
mod tags;
mod trash;
mod tree;
mod usage;
mod visit;
mod words;

pub(super) use frame::{failed, guard};
pub(super) use route::Page;

use super::{
    access::{Action, Demand, Origin},
    call::Shared,
    change::Changed,
    error::ApiError,
    follow::Followed,
    kept::{facts, listing, read},
    reply,
    throttle::Whose,
};
use axum::{
    body::Body,
    http::{Method, request::Parts},
    response::Response,
};
use std::{net::IpAddr, sync::Arc};
use visit::Visit;

/// A request for a page.
pub(super) struct Asked {
    pub(super) page: Page,
    pub(super) head: Parts,
    pub(super) body: Body,
    pub(super) origin: Origin,
    /// From where, in full; the origin's address is as it is counted.
    pub(super) client: Option<IpAddr>,
}

/// What a page needs to be seen.
fn demand(page: &Page) -> Demand<'_> {
    match page {
        Page::Repositories | Page::Usage => Demand::Catalog,
        Page::Login | Page::Logout | Page::Device | Page::Asset(_) | Page::Nothing => Demand::Nothing,
        Page::Tags(name)
        | Page::Image(name, _)
        | Page::Files(name, _)
        | Page::Compare(name)
        | Page::History(name) => Demand::In(name, Action::Pull),
        Page::Trash(name) | Page::Undelete(name) => Demand::In(name, Action::Delete),
    }
}

/// Answers with a page. What the request changes is left in `change`.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
    followed: &mut Followed,
    change: &mut Option<Changed>,
) -> Result<Response, ApiError> {
    let page = asked.page.clone();
    let method = asked.head.method.clone();
    let posts = method == Method::POST;
    if !page.methods().split(", ").any(|one| one == method.as_str()) {
        return Err(ApiError::Method(method, page.methods()));
    }
    if let Page::Asset(name) = &page {
        return asset::get(name, method == Method::HEAD);
    }
    followed.repository = page.repository().map(str::to_owned);
    let demand = demand(&page);
    let mut visit = Visit::new(shared, asked, &demand).await?;
    followed.user.clone_from(visit.visitor.name());
    if let Some(user) = visit.visitor.name() {
        shared.throttle.request(Whose::User(user), &shared.policy.current().limits.user)?;
    }
    if demand != Demand::Nothing
        && let Err(refusal) = visit.visitor.demand(&demand)
    {
        return match refusal {
            // the same for what is there and what is not
            ApiError::Unauthorized { .. } if !posts && visit.visitor.name().is_none() => {
                Ok(frame::lead(&route::with_query("/login", &[("next", &visit.here())])))
            }
            other => Err(other),
        };
    }
    if posts {
        visit.read_form().await?;
        visit.expect_own_form().await?;
    }
    match page {
        Page::Repositories => repositories::get(&visit).await,
        Page::Usage => usage::get(&visit).await,
        Page::Login if posts => login::post(&visit).await,
        Page::Login => login::get(&visit),
        Page::Logout => Ok(login::leave(&visit)),
        Page::Device if posts => device::post(&visit).await,
        Page::Device => device::get(&visit),
        Page::Tags(name) => tags::get(&visit, name).await,
        Page::Image(name, reference) => image::get(&visit, name, &reference).await,
        Page::Files(name, reference) => files::get(&visit, name, &reference).await,
        Page::Compare(name) => compare::get(&visit, name).await,
        Page::History(name) => history::get(&visit, name).await,
        Page::Trash(name) => trash::get(&visit, name).await,
        Page::Undelete(name) => trash::undelete(&visit, name, change).await,
        Page::Asset(_) | Page::Nothing => Err(ApiError::PathUnknown),
    }
}
