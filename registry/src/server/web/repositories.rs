//! `/`: the repositories that the visitor may see.

use super::{
    frame::{self, Frame},
    route,
    visit::Visit,
    words,
};
use crate::{
    limits,
    server::{access::Action, error::ApiError, storage::Usage},
};
use axum::response::Response;
use maud::{Markup, html};

/// Names that the visitor sees, with `wanted` in them.
pub(super) struct Names {
    pub(super) names: Vec<String>,
    /// Whether there are more.
    pub(super) more: bool,
    /// Whether some were left out because the visitor may not see them.
    pub(super) hidden: bool,
    /// Whether the search ended before it had looked at all.
    pub(super) cut: bool,
}

/// Looks for at most `count` names after `last`.
pub(super) async fn names(visit: &Visit, wanted: &str, last: &str, count: usize) -> Result<Names, ApiError> {
    let wanted = wanted.to_lowercase();
    let (mut found, mut last, mut looked, mut hidden) = (Vec::new(), last.to_owned(), 0, false);
    let piece = limits::PAGE_ENTRIES_DEFAULT;
    loop {
        let after = last.clone();
        let names = visit.look(move |storage| storage.repositories(&after, piece as u64)).await?;
        let end = names.len() < piece;
        looked += names.len();
        if let Some(name) = names.last() {
            last.clone_from(name);
        }
        hidden |= names.iter().any(|name| !visit.visitor.sees(name));
        let seen = names.into_iter().filter(|name| name.contains(&wanted) && visit.visitor.sees(name));
        // one more than is shown tells whether there is a next page
        found.extend(seen.take(count + 1 - found.len()));
        let (more, cut) = (found.len() > count, !end && looked >= limits::WEB_NAMES);
        if end || more || cut {
            found.truncate(count);
            return Ok(Names { names: found, more, hidden, cut });
        }
    }
}

pub(super) async fn get(visit: &Visit) -> Result<Response, ApiError> {
    let (wanted, last) = (visit.asked("q"), visit.asked("last"));
    let Names { names, more, cut, .. } = names(visit, wanted, last, limits::WEB_ROWS).await?;
    let asked = names.clone();
    let usages: Vec<Usage> =
        visit.look(move |storage| asked.iter().map(|name| storage.usage(name)).collect()).await?;
    let next =
        names.last().filter(|_| more).map(|last| route::with_query("/", &[("q", wanted), ("last", last)]));
    let body = html! {
        div.head {
            h1 { "Repositories" }
            form.search role="search" action="/" {
                label.hidden for="q" { "Search repositories" }
                input id="q" type="search" name="q" value=(wanted) placeholder="Search repositories" data-filter="list";
                button type="submit" { "Search" }
            }
        }
        @if names.is_empty() { (empty(visit, wanted)) }
        @else {
            ul.cards id="list" {
                @for (name, usage) in names.iter().zip(&usages) { (card(visit, name, usage)) }
            }
        }
        @if cut { p.note { "The search looked at the first " (words::count(limits::WEB_NAMES as u64)) " names alone." } }
        @if !last.is_empty() || next.is_some() {
            nav.pages aria-label="Pages" {
                @if !last.is_empty() { a href=(route::with_query("/", &[("q", wanted)])) { "First page" } }
                @if let Some(next) = next { a rel="next" href=(next) { "Next page" } }
            }
        }
    };
    Ok(frame::show(visit, Frame { title: "Repositories".to_owned(), trail: Vec::new(), body }))
}

fn card(visit: &Visit, name: &str, usage: &Usage) -> Markup {
    let (folder, last) = name.rsplit_once('/').map_or(("", name), |(folder, last)| (folder, last));
    html! {
        li.card data-row=(name) {
            h2 {
                @if visit.visitor.may(Action::Pull, name) {
                    a href=(route::tags(name)) { @if !folder.is_empty() { span.dim { (folder) "/" } } (last) }
                } @else { (name) }
            }
            @if visit.visitor.may(Action::Pull, name) {
                p.facts {
                    span { (words::things(usage.tags, "tag", "tags")) }
                    span { (words::size(usage.bytes)) }
                    @if let Some(at) = usage.updated { span { "pushed " (words::age(visit.now, at)) } }
                    @if usage.pulls > 0 { span { (words::things(usage.pulls, "pull", "pulls")) } }
                }
            }
        }
    }
}

fn empty(visit: &Visit, wanted: &str) -> Markup {
    html! {
        section.empty {
            @if wanted.is_empty() {
                h2 { "Nothing is here yet" }
                p { "Push the first image:" }
                pre { code { "slipway push app " (visit.visitor.home().map_or_else(String::new, |home| host(&home))) "/team/app:1" } }
            } @else {
                h2 { "No repository is called so" }
                p { a href="/" { "Show all" } }
            }
        }
    }
}

/// The name that clients give the registry.
pub(super) fn host(home: &str) -> String {
    home.split_once("://").map_or(home, |(_, host)| host).to_owned()
}
