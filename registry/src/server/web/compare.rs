//! `/r/NAME/_compare`: what differs between two images: layers, configuration, files.

use super::{
    config, files,
    frame::{self, Frame},
    image::configuration,
    layers, route, tags,
    tree::{Item, Tree},
    visit::Visit,
    words,
};
use crate::server::error::ApiError;
use axum::response::Response;
use maud::{Markup, html};
use slipway_oci::{
    Descriptor, Digest, Platform,
    layer::Kind,
    spec::{ImageConfig, Manifest, Parsed},
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Rows of files that are shown.
const ROWS: usize = 500;

/// One of the two.
struct Side {
    manifest: Box<Manifest>,
    config: Option<ImageConfig>,
    tree: Tree,
}

/// What became of a path.
enum Change<'a> {
    Added(Item<'a>),
    Removed(Item<'a>),
    Changed(Item<'a>, Item<'a>),
}

pub(super) async fn get(visit: &Visit, name: String) -> Result<Response, ApiError> {
    let (from, to) = (visit.asked("from"), visit.asked("to"));
    let path = format!("{}/_compare", route::tags(&name));
    let form = html! {
        div.head { h1 { "Compare" } (tags::views(visit, &name, "compare")) }
        form.compare action=(path) {
            label for="from" { "From" } input id="from" name="from" value=(from) placeholder="tag or digest" required;
            label for="to" { "to" } input id="to" name="to" value=(to) placeholder="tag or digest" required;
            button type="submit" { "Show what differs" }
        }
    };
    let body = match (route::is_reference(from), route::is_reference(to)) {
        (true, true) => {
            let one = side(visit, &name, from, None).await?;
            let platform = one.config.as_ref().map(|config| config.platform.clone());
            let other = side(visit, &name, to, platform).await?;
            html! { (form) (layers(&one, &other)) (configurations(&one, &other)) (changes(&one, &other)) }
        }
        // an unknown repository is said to be one
        _ => {
            let repository = name.clone();
            visit.look(move |storage| storage.tags(&repository, "", 1)).await?;
            form
        }
    };
    Ok(frame::show(visit, Frame::within(&name, &[("Compare", path)], body)))
}

/// An image; of an index the one for `platform`, or the first one.
async fn side(
    visit: &Visit,
    name: &str,
    reference: &str,
    platform: Option<Platform>,
) -> Result<Side, ApiError> {
    let (repository, key) = (name.to_owned(), super::read::key(reference));
    let first = visit.look(move |storage| super::read::manifest(storage, &repository, &key)).await?.1;
    let reference = match first {
        Some(Parsed::Index(index)) => {
            let images = || index.manifests.iter().filter(|one| !super::facts::is_attestation(one));
            let fits = |one: &&Descriptor| platform.is_some() && one.platform == platform;
            let chosen = images().find(fits).or_else(|| images().next());
            chosen.ok_or(ApiError::PathUnknown)?.digest.to_string()
        }
        _ => reference.to_owned(),
    };
    let manifest = files::image(visit, name, &reference).await?;
    let digests: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    let lists = layers::of(visit, name, digests).await?;
    let repository = name.to_owned();
    visit
        .look(move |storage| {
            let config = configuration(storage, &repository, &manifest)?;
            Ok(Side { manifest, config, tree: Tree::merged(lists) })
        })
        .await
}

fn layers(one: &Side, other: &Side) -> Markup {
    let digests = |side: &Side| -> HashSet<Digest> {
        side.manifest.layers.iter().map(|layer| layer.digest.clone()).collect()
    };
    let (mine, theirs) = (digests(one), digests(other));
    let gone: Vec<_> = one.manifest.layers.iter().filter(|layer| !theirs.contains(&layer.digest)).collect();
    let new: Vec<_> = other.manifest.layers.iter().filter(|layer| !mine.contains(&layer.digest)).collect();
    let same = other.manifest.layers.len() - new.len();
    html! {
        section {
            h2 { "Layers" }
            p.facts { span { (words::things(same as u64, "layer", "layers")) " in both" } }
            @if !gone.is_empty() || !new.is_empty() {
                table.rows {
                    thead { tr { th scope="col" { "Layer" } th scope="col" { "Size" } } }
                    tbody {
                        @for layer in gone { tr { th scope="row" { span.chip.gone { "removed" } " " (words::digest(&layer.digest)) } td.number data-label="Size" { "−" (words::size(layer.size_bytes)) } } }
                        @for layer in new { tr { th scope="row" { span.chip.new { "added" } " " (words::digest(&layer.digest)) } td.number data-label="Size" { "+" (words::size(layer.size_bytes)) } } }
                    }
                }
            }
        }
    }
}

/// Every line of a configuration, by its name.
fn settings(side: &Side) -> BTreeMap<String, String> {
    let Some(config) = &side.config else { return BTreeMap::new() };
    let labels =
        config.config.labels.iter().flatten().map(|(name, value)| (format!("Label {name}"), value.clone()));
    let variables =
        config::variables(config).into_iter().map(|(name, value)| (format!("Variable {name}"), value));
    config::lines(config).into_iter().chain(variables).chain(labels).collect()
}

fn configurations(one: &Side, other: &Side) -> Markup {
    let (mine, theirs) = (settings(one), settings(other));
    let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let differ: Vec<_> = names.into_iter().filter(|name| mine.get(*name) != theirs.get(*name)).collect();
    let cell = |value: Option<&String>| html! { @match value { Some(value) => { (words::text(value)) } None => { span.dim { "–" } } } };
    html! {
        section {
            h2 { "Configuration" }
            @if differ.is_empty() { p.facts { span { "The same" } } }
            @else {
                table.rows {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Before" } th scope="col" { "After" } } }
                    tbody {
                        @for name in differ.iter().take(ROWS) {
                            tr {
                                th scope="row" { (words::text(name)) }
                                td.value data-label="Before" { (cell(mine.get(*name))) }
                                td.value data-label="After" { (cell(theirs.get(*name))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Both lists side by side: they are sorted.
fn differences<'a>(one: &'a Tree, other: &'a Tree) -> Vec<Change<'a>> {
    let (mut mine, mut theirs) = (one.items().peekable(), other.items().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (mine.peek(), theirs.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(b.path),
        };
        match order {
            std::cmp::Ordering::Less => changes.extend(mine.next().map(Change::Removed)),
            std::cmp::Ordering::Greater => changes.extend(theirs.next().map(Change::Added)),
            std::cmp::Ordering::Equal => {
                if let (Some(a), Some(b)) = (mine.next(), theirs.next())
                    && !is_same(&a, &b)
                {
                    changes.push(Change::Changed(a, b));
                }
            }
        }
    }
}

/// Times apart: a build that touches a file changes nothing by that.
fn is_same(a: &Item<'_>, b: &Item<'_>) -> bool {
    let facts = |item: &Item<'_>| {
        (item.row.kind, item.row.mode, item.row.uid, item.row.gid, item.row.size_bytes, item.row.content)
    };
    facts(a) == facts(b) && a.link == b.link
}

fn changes(one: &Side, other: &Side) -> Markup {
    let mut changes = differences(&one.tree, &other.tree);
    let bytes = |tree: &Tree| tree.items().map(|item| item.row.size_bytes).fold(0, u64::saturating_add);
    let (before, after) = (bytes(&one.tree), bytes(&other.tree));
    let count = changes.len();
    let number =
        |wanted: fn(&Change<'_>) -> bool| changes.iter().filter(|change| wanted(change)).count() as u64;
    let (added, removed) =
        (number(|one| matches!(one, Change::Added(_))), number(|one| matches!(one, Change::Removed(_))));
    // what weighs most first
    changes.sort_by_key(|change| std::cmp::Reverse(weight(change)));
    let cut = one.tree.layers().iter().chain(other.tree.layers()).any(|list| list.cut.is_some());
    html! {
        section {
            h2 { "Files" }
            @if cut { p.alert { "Not every layer could be read to its end: this is what is known." } }
            p.facts {
                span { (words::things(added, "path", "paths")) " added" }
                span { (words::count(removed)) " removed" }
                span { (words::count(count as u64 - added - removed)) " changed" }
                span { (words::size(before)) " → " (words::size(after)) }
            }
            @if count > 0 {
                table.rows {
                    thead { tr { th scope="col" { "Path" } th scope="col" { "Before" } th scope="col" { "After" } } }
                    tbody { @for change in changes.iter().take(ROWS) { (row(change)) } }
                }
            }
            @if count > ROWS { p.note { "The " (ROWS) " that weigh most are shown." } }
        }
    }
}

fn weight(change: &Change<'_>) -> u64 {
    match change {
        Change::Added(item) | Change::Removed(item) => item.row.size_bytes,
        Change::Changed(a, b) => a.row.size_bytes.max(b.row.size_bytes),
    }
}

fn row(change: &Change<'_>) -> Markup {
    let (class, word, before, after) = match change {
        Change::Added(item) => ("new", "added", None, Some(item)),
        Change::Removed(item) => ("gone", "removed", Some(item), None),
        Change::Changed(a, b) => ("", "changed", Some(a), Some(b)),
    };
    let path = after.or(before).map_or(&b""[..], |item| item.path);
    let cell = |item: Option<&Item<'_>>| {
        html! {
            @match item {
                None => { span.dim { "–" } }
                Some(item) if item.row.kind == Kind::File => { (words::size(item.row.size_bytes)) }
                Some(item) if item.row.kind == Kind::Symlink => { "→ " (words::path(item.link)) }
                Some(item) if item.row.kind == Kind::Directory => { "folder" }
                Some(_) => { "special" }
            }
        }
    };
    html! {
        tr {
            th scope="row" { span class={ "chip " (class) } { (word) } " " span.file { "/" (words::path(path)) } }
            td.value data-label="Before" { (cell(before)) }
            td.value data-label="After" { (cell(after)) }
        }
    }
}
