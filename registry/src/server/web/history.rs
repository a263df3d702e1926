//! `/r/NAME/_history`: where tags pointed, since when, and who moved them. Names and addresses of people are for who works on the
//! repository, not for everybody who may pull.

use super::{
    frame::{self, Frame},
    route, tags,
    visit::Visit,
    words,
};
use crate::{limits, server::error::ApiError, server::storage::TagEvent};
use axum::response::Response;
use maud::{Markup, html};
use slipway_oci::{Digest, reference::is_tag};

pub(super) async fn get(visit: &Visit, name: String) -> Result<Response, ApiError> {
    let tag = Some(visit.asked("tag")).filter(|tag| is_tag(tag)).map(str::to_owned);
    let before = visit.query.get("before").and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
    let (repository, asked) = (name.clone(), tag.clone());
    let count = limits::WEB_ROWS as u64;
    let events =
        visit.look(move |storage| storage.tag_history(&repository, asked.as_deref(), before, count)).await?;
    let path = format!("{}/_history", route::tags(&name));
    let next = events.last().filter(|_| events.len() == limits::WEB_ROWS).map(|last| {
        route::with_query(
            &path,
            &[("tag", tag.as_deref().unwrap_or_default()), ("before", &last.number.to_string())],
        )
    });
    let people = visit.works_on(&name);
    let body = html! {
        div.head {
            h1 { @if let Some(tag) = &tag { "Moves of " (tag) } @else { "Moves of tags" } }
            (tags::views(visit, &name, "history"))
        }
        form.search role="search" action=(path) {
            label.hidden for="tag" { "Tag" }
            input id="tag" type="search" name="tag" value=(tag.as_deref().unwrap_or_default()) placeholder="One tag";
            button type="submit" { "Show" }
        }
        @if events.is_empty() { section.empty { h2 { "No moves" } } }
        @else {
            table.rows {
                thead { tr {
                    th scope="col" { "Tag" } th scope="col" { "From" } th scope="col" { "To" }
                    th scope="col" { "When" } @if people { th scope="col" { "Who" } th scope="col" { "From where" } }
                } }
                tbody { @for event in &events { (row(visit, &name, event, people)) } }
            }
        }
        @if let Some(next) = next { nav.pages aria-label="Pages" { a rel="next" href=(next) { "Earlier moves" } } }
    };
    Ok(frame::show(visit, Frame::within(&name, &[("History", path)], body)))
}

fn row(visit: &Visit, name: &str, event: &TagEvent, people: bool) -> Markup {
    let place = |digest: &Option<Digest>, nothing: &str| {
        html! {
            @if let Some(digest) = digest { a href=(route::image(name, &digest.to_string())) { code.digest { (words::short(digest)) } } }
            @else { span.dim { (nothing) } }
        }
    };
    html! {
        tr {
            th scope="row" { a.tag href=(route::image(name, &event.tag)) { (event.tag) } }
            td data-label="From" { (place(&event.former, "new")) }
            td data-label="To" { (place(&event.digest, "deleted")) }
            td data-label="When" { (words::age(visit.now, event.change.at)) }
            @if people {
                td data-label="Who" { @if let Some(who) = &event.change.who { (words::text(who)) } @else { span.dim { "anyone" } } }
                td data-label="From where" { (words::text(event.change.origin.as_deref().unwrap_or("–"))) }
            }
        }
    }
}
