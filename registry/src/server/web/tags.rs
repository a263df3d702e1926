//! `/r/NAME`: the tags of a repository.

use super::{
    facts::Facts,
    frame::{self, Frame},
    repositories::host,
    route,
    visit::Visit,
    words,
};
use crate::{
    limits,
    server::{
        access::Action,
        error::ApiError,
        storage::{StorageError, TagFacts, Usage},
    },
};
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

/// What the page shows of a repository.
struct Shown {
    usage: Usage,
    rows: Vec<(TagFacts, Arc<Facts>)>,
    /// Whether rows are by time, and not by name.
    by_time: bool,
    /// How many fit the search.
    fit: usize,
    more: Option<String>,
}

pub(super) async fn get(visit: &Visit, name: String) -> Result<Response, ApiError> {
    let (wanted, from) = (visit.asked("q").to_owned(), visit.number("from"));
    let (shared, repository) = (Arc::clone(&visit.shared), name.clone());
    let last = visit.asked("last").to_owned();
    let shown = visit
        .look(move |storage| {
            // an unknown repository is an error here
            let usage = storage.usage(&repository)?;
            let by_time = usage.tags <= limits::WEB_TAGS as u64;
            let count = if by_time { limits::WEB_TAGS } else { limits::WEB_ROWS };
            let last = if by_time { String::new() } else { last };
            let mut tags = storage.tag_facts(&repository, &last, count as u64)?;
            let next = tags.last().filter(|_| !by_time && tags.len() == count).map(|tag| tag.tag.clone());
            tags.retain(|tag| tag.tag.contains(&wanted));
            let fit = tags.len();
            let mut more = next
                .map(|next| route::with_query(&route::tags(&repository), &[("q", &wanted), ("last", &next)]));
            if by_time {
                tags.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| b.tag.cmp(&a.tag)));
                let next = from + limits::WEB_ROWS;
                more = (fit > next).then(|| {
                    route::with_query(
                        &route::tags(&repository),
                        &[("q", &wanted), ("from", &next.to_string())],
                    )
                });
                tags = tags.into_iter().skip(from).take(limits::WEB_ROWS).collect();
            }
            let mut rows = Vec::with_capacity(tags.len());
            for tag in tags {
                let facts = match shared.pages.facts.of(storage, &repository, &tag.digest) {
                    Ok(facts) => facts,
                    // deleted meanwhile, or damaged
                    Err(StorageError::ManifestUnknown(_) | StorageError::Rot { .. }) => Arc::default(),
                    Err(error) => return Err(error),
                };
                rows.push((tag, facts));
            }
            Ok(Shown { usage, rows, by_time, fit, more })
        })
        .await?;
    let body = page(visit, &name, &shown);
    Ok(frame::show(visit, Frame::within(&name, &[], body)))
}

fn page(visit: &Visit, name: &str, shown: &Shown) -> Markup {
    let home = visit.visitor.home().map(|home| host(&home)).unwrap_or_default();
    let wanted = visit.asked("q");
    html! {
        div.head { h1 { (name) } (views(visit, name, "tags")) }
        p.facts {
            span { (words::things(shown.usage.tags, "tag", "tags")) }
            span { (words::things(shown.usage.manifests, "manifest", "manifests")) }
            span { (words::size(shown.usage.bytes)) " in all" }
            @if shown.usage.pulls > 0 { span { (words::things(shown.usage.pulls, "pull", "pulls")) } }
        }
        form.search role="search" action=(route::tags(name)) {
            label.hidden for="q" { "Search tags" }
            input id="q" type="search" name="q" value=(wanted) placeholder="Search tags" data-filter="list";
            button type="submit" { "Search" }
        }
        @if shown.rows.is_empty() {
            section.empty { h2 { @if wanted.is_empty() { "No tags" } @else { "No tag is called so" } } }
        } @else {
            table.rows {
                thead { tr {
                    th scope="col" { "Tag" }
                    th scope="col" { "Size" }
                    th scope="col" { "Platforms" }
                    th scope="col" { "Pushed" }
                    th scope="col" { "Pulls" }
                    th scope="col" { "Digest" }
                } }
                tbody id="list" { @for (tag, facts) in &shown.rows { (row(visit, name, &home, tag, facts)) } }
            }
            @if !shown.by_time { p.note { "There are too many tags to sort them by time: these are by name." } }
        }
        @if let Some(more) = &shown.more { nav.pages aria-label="Pages" { a rel="next" href=(more) { "More tags" } } }
        (compare_form(name, &shown.rows))
        @if shown.fit == 0 && shown.usage.manifests > 0 && wanted.is_empty() {
            p.note { "There are manifests without a tag; they are found by their digests." }
        }
    }
}

/// Links to what else there is of a repository.
pub(super) fn views(visit: &Visit, name: &str, here: &str) -> Markup {
    let link = |view: &str, path: String, words: &str| {
        html! { a href=(path) aria-current=[(view == here).then_some("page")] { (words) } }
    };
    let tags = route::tags(name);
    html! {
        nav.tabs aria-label="Repository" {
            (link("tags", tags.clone(), "Tags"))
            (link("history", format!("{tags}/_history"), "History"))
            (link("compare", format!("{tags}/_compare"), "Compare"))
            @if visit.visitor.may(Action::Delete, name) { (link("trash", format!("{tags}/_trash"), "Trash")) }
        }
    }
}

fn row(visit: &Visit, name: &str, home: &str, tag: &TagFacts, facts: &Facts) -> Markup {
    let pulled = tag.pulled.map(|at| format!("last pulled {}", words::ago(visit.now, at)));
    html! {
        tr data-row=(tag.tag) {
            th scope="row" {
                a.tag href=(route::image(name, &tag.tag)) { (tag.tag) }
                (words::copy(&format!("{home}/{name}:{}", tag.tag), "reference"))
            }
            td.number data-label="Size" { @if let Some(size) = facts.size_bytes { (words::size(size)) } @else { "–" } }
            td data-label="Platforms" {
                @if let Some(kind) = &facts.kind { span.chip.kind { (super::artifact::kind_words(kind)) } }
                @for platform in facts.platforms.iter().take(6) { span.chip { (platform) } " " }
                @let more = facts.more + facts.platforms.len().saturating_sub(6);
                @if more > 0 { span.dim { "and " (more) " more" } }
            }
            td data-label="Pushed" { (words::age(visit.now, tag.updated)) }
            td.number data-label="Pulls" title=[pulled] { @if tag.pulls > 0 || tag.pulled.is_some() { (words::count(tag.pulls)) } @else { "–" } }
            td data-label="Digest" { a href=(route::image(name, &tag.digest.to_string())) { code.digest { (words::short(&tag.digest)) } } }
        }
    }
}

/// Two tags to choose. Without it, who compares writes two tags by hand.
fn compare_form(name: &str, rows: &[(TagFacts, Arc<Facts>)]) -> Markup {
    if rows.len() < 2 {
        return html! {};
    }
    let select = |id: &str, label: &str, chosen: usize| {
        html! {
            label for=(id) { (label) }
            select id=(id) name=(id) {
                @for (at, (tag, _)) in rows.iter().enumerate() { option value=(tag.tag) selected[at == chosen] { (tag.tag) } }
            }
        }
    };
    html! {
        form.compare action={ (route::tags(name)) "/_compare" } {
            (select("from", "Compare", 1)) (select("to", "with", 0))
            button type="submit" { "Show what differs" }
        }
    }
}
