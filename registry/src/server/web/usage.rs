//! `/usage`: who has how much.

use super::{
    frame::{self, Frame},
    repositories, route,
    visit::Visit,
    words,
};
use crate::{
    limits,
    server::{
        access::Action,
        error::ApiError,
        filled,
        quota::NEAR,
        share,
        storage::{Bound, Measure, Scope, Usage, Used},
    },
};
use axum::response::Response;
use maud::html;

pub(super) async fn get(visit: &Visit) -> Result<Response, ApiError> {
    let found = repositories::names(visit, "", "", limits::WEB_USAGES).await?;
    let names: Vec<String> =
        found.names.into_iter().filter(|name| visit.visitor.may(Action::Pull, name)).collect();
    let mut rows: Vec<(String, Usage)> = visit
        .look(move |storage| {
            names.into_iter().map(|name| storage.usage(&name).map(|usage| (name, usage))).collect()
        })
        .await?;
    rows.sort_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then_with(|| a.cmp(b)));
    let most = rows.first().map_or(0, |(_, usage)| usage.bytes).max(1);
    // what nobody else has tells what others have: for who sees everything (as mounts, which ask for a right to the source)
    let alone = visit.visitor.sees_all()
        || (!found.hidden
            && !found.more
            && rows.iter().all(|(name, _)| visit.visitor.may(Action::Delete, name)));
    let own: u64 = rows.iter().map(|(_, usage)| usage.own_bytes).sum();
    let quotas = quotas(visit, !found.hidden && !found.more).await?;
    let (count, from) = (rows.len(), visit.number("from"));
    let next = from + limits::WEB_ROWS;
    let body = html! {
        div.head { h1 { "Usage" } }
        p.facts {
            span { (words::things(count as u64, "repository", "repositories")) }
            @if alone { span { (words::size(own)) " that one repository alone has" } }
        }
        @if found.more { p.note { "There are more repositories than are summed up here." } }
        (quota_rows(&quotas))
        @if rows.is_empty() && !quotas.is_empty() { p.note { "No repository has an image yet." } }
        @else if rows.is_empty() { section.empty { h2 { "Nothing is here yet" } } }
        @else {
            table.rows {
                thead { tr {
                    th scope="col" { "Repository" } th scope="col" { "Bytes" } @if alone { th scope="col" { "Its alone" } }
                    th scope="col" { "Trash" } th scope="col" { "Tags" } th scope="col" { "Manifests" }
                } }
                tbody {
                    @for (name, usage) in rows.iter().skip(from).take(limits::WEB_ROWS) {
                        tr {
                            th scope="row" { a href=(route::tags(name)) { (name) } }
                            td.bar data-label="Bytes" { (bar(usage.bytes, most)) span { (words::size(usage.bytes)) } }
                            @if alone { td.number data-label="Its alone" { (words::size(usage.own_bytes)) } }
                            td.number data-label="Trash" { @if usage.trash_bytes > 0 { (words::size(usage.trash_bytes)) } @else { "–" } }
                            td.number data-label="Tags" { (words::count(usage.tags)) }
                            td.number data-label="Manifests" { (words::count(usage.manifests)) }
                        }
                    }
                }
            }
            p.note { "What several repositories have is stored once, and counted for each." }
        }
        @if count > next { nav.pages aria-label="Pages" { a rel="next" href={ "/usage?from=" (next) } { "Next page" } } }
    };
    Ok(frame::show(visit, Frame { title: "Usage".to_owned(), trail: Vec::new(), body }))
}

/// What quotas are about and the visitor may know, the fullest first. `nothing_hidden`: they see every repository.
async fn quotas(visit: &Visit, nothing_hidden: bool) -> Result<Vec<(Bound, Used)>, ApiError> {
    let quotas = visit.shared.policy.current().quotas.clone();
    if quotas.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = visit.look(move |storage| filled(&quotas, storage)).await?;
    let everything = nothing_hidden || visit.visitor.sees_all();
    rows.retain(|(bound, _)| match &bound.scope {
        Scope::Repository(name) => visit.visitor.may(Action::Pull, name),
        // what a namespace has tells of all that lies in it
        Scope::Namespace(_) => everything,
    });
    let full = |(bound, used): &(Bound, Used)| {
        bound.measures().map(|(measure, most)| share(used.of(measure), most)).fold(0.0, f64::max)
    };
    rows.sort_by(|a, b| full(b).total_cmp(&full(a)).then_with(|| a.0.scope.cmp(&b.0.scope)));
    rows.truncate(limits::WEB_ROWS);
    Ok(rows)
}

fn quota_rows(rows: &[(Bound, Used)]) -> maud::Markup {
    let amount = |(measure, most): (Measure, u64), number: u64| match measure {
        Measure::Bytes => words::size_of(number, most),
        Measure::Tags => words::things(number, "tag", "tags"),
    };
    html! {
        @if !rows.is_empty() {
            table.rows.quotas {
                thead { tr {
                    th scope="col" { "Quota of" } th scope="col" { "Used" } th scope="col" { "Of" } th scope="col" { "Share" }
                } }
                tbody {
                    @for (bound, used) in rows {
                        @for (measure, most) in bound.measures() {
                            @let share = share(used.of(measure), most);
                            @let fullness = if share >= 1.0 { Some("full") } else if share >= NEAR { Some("near") } else { None };
                            tr class=[fullness] {
                                th scope="row" {
                                    @match &bound.scope {
                                        Scope::Repository(name) => a href=(route::tags(name)) { (name) },
                                        Scope::Namespace(name) if name.is_empty() => "the registry",
                                        Scope::Namespace(name) => { (name) "/…" },
                                    }
                                }
                                td.bar data-label="Used" { (bar(used.of(measure), most)) span { (amount((measure, most), used.of(measure))) } }
                                td.number data-label="Of" { (amount((measure, most), most)) }
                                // no colour says anything that words do not
                                td.number data-label="Share" {
                                    (format!("{:.0} %", (share * 100.0).floor()))
                                    @match fullness {
                                        Some("full") => span.chip.gone { "full" },
                                        Some(_) => span.chip.warn { "nearly full" },
                                        None => {}
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A part of the most. No style is written into pages, so that it is a drawing.
pub(super) fn bar(bytes: u64, most: u64) -> maud::Markup {
    let width = (bytes as f64 / most.max(1) as f64 * 100.0).clamp(0.0, 100.0);
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.under width="100" height="6" {}
            rect.over width=(format!("{width:.2}")) height="6" {}
        }
    }
}
