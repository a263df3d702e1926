//! `/r/NAME/_trash`: what was deleted and is not gone yet, for who may delete; who may push too takes it out again.

use super::{
    frame::{self, Frame},
    route, tags,
    visit::Visit,
    words,
};
use crate::{
    limits,
    server::{
        access::Action,
        change::Changed,
        error::{ApiError, Wanted},
        storage::{Candidate, Kind, StorageError},
    },
};
use axum::response::Response;
use maud::{Markup, html};
use slipway_oci::Digest;

pub(super) async fn get(visit: &Visit, name: String) -> Result<Response, ApiError> {
    let repository = name.clone();
    let (all, tagged) = visit
        .look(move |storage| {
            // an unknown repository is an error here
            let moves = storage.tag_history(&repository, None, i64::MAX, 1000)?;
            let trash = storage.trash(Some(&repository), 10_000)?;
            let manifests: Vec<_> =
                trash.into_iter().filter(|one| one.pointer.kind == Kind::Manifest).collect();
            Ok((manifests, moves))
        })
        .await?;
    let may = visit.visitor.may(Action::Push, &name) && !visit.shared.policy.current().read_only;
    let names = |digest: &Digest| -> Vec<String> {
        let mut names: Vec<_> = tagged
            .iter()
            .filter(|event| event.digest.is_none() && event.former.as_ref() == Some(digest))
            .map(|event| event.tag.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let rows = all.len().min(limits::WEB_ROWS);
    let body = html! {
        div.head { h1 { "Trash" } (tags::views(visit, &name, "trash")) }
        @if !visit.asked("back").is_empty() { p.done role="status" { "It is back, with the tags that were deleted with it, unless they are something else by now." } }
        @if all.is_empty() { section.empty { h2 { "The trash is empty" } } }
        @else {
            p.note { (words::things(all.len() as u64, "manifest", "manifests")) " that can be taken out again, with all that they need, until the trash is emptied." }
            table.rows {
                thead { tr {
                    th scope="col" { "Digest" } th scope="col" { "Was tagged" } th scope="col" { "Deleted" }
                    @if may { th scope="col" { span.hidden { "What can be done" } } }
                } }
                tbody { @for one in all.iter().rev().take(rows) { (row(visit, &name, one, &names(&one.pointer.digest), may)) } }
            }
            @if rows < all.len() { p.note { "The last " (rows) " are shown." } }
        }
    };
    Ok(frame::show(visit, Frame::within(&name, &[("Trash", format!("{}/_trash", route::tags(&name)))], body)))
}

fn row(visit: &Visit, name: &str, one: &Candidate, names: &[String], may: bool) -> Markup {
    html! {
        tr {
            th scope="row" { (words::digest(&one.pointer.digest)) }
            td data-label="Was tagged" {
                @if names.is_empty() { span.dim { "–" } }
                @for tag in names { span.chip { (tag) } " " }
            }
            td data-label="Deleted" { (words::age(visit.now, one.since)) }
            @if may {
                td {
                    form method="post" action={ (route::tags(name)) "/_undelete" } {
                        (visit.token())
                        input type="hidden" name="digest" value=(one.pointer.digest);
                        button type="submit" aria-label={ "Undelete " (words::short(&one.pointer.digest)) } { "Undelete" }
                    }
                }
            }
        }
    }
}

/// Takes a manifest out, for who may both delete and push: it undoes the one and is like the other.
pub(super) async fn undelete(
    visit: &Visit,
    name: String,
    change: &mut Option<Changed>,
) -> Result<Response, ApiError> {
    if !visit.visitor.may(Action::Push, &name) {
        return Err(ApiError::Denied { challenge: None, wanted: Wanted::default() });
    }
    if visit.shared.policy.current().read_only {
        return Err(ApiError::ReadOnly);
    }
    let digest: Digest = visit.field("digest").parse()?;
    let (repository, wanted) = (name.clone(), digest.clone());
    let author = visit.author();
    let found = visit.look(move |storage| storage.revive(&repository, &wanted, &author)).await?;
    if found.back.is_empty() {
        return Err(StorageError::ManifestUnknown(digest.to_string()).into());
    }
    *change = Some(Changed {
        action: "undelete",
        repository: name.clone(),
        tags: found.tags,
        digest: Some(digest.to_string()),
    });
    Ok(frame::lead(&format!("{}/_trash?back=1", route::tags(&name))))
}
