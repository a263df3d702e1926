//! `/r/NAME/_files/REFERENCE`: the files of an image, or of one of its layers.

use super::{
    frame::{self, Frame},
    image::shown_reference,
    layers, read, route,
    tree::{Child, Item, Tree},
    usage,
    visit::Visit,
    words,
};
use crate::{limits, server::error::ApiError};
use axum::response::Response;
use maud::{Markup, html};
use slipway_oci::{
    Digest,
    layer::Kind,
    spec::{Manifest, Parsed},
};

/// Rows of one page of files.
const ROWS: usize = 300;

/// What is looked at.
struct Place<'a> {
    name: &'a str,
    reference: &'a str,
    layer: Option<Digest>,
    path: String,
    wanted: String,
    from: usize,
}

impl Place<'_> {
    fn link(&self, path: &str, wanted: &str, from: usize) -> String {
        let layer = self.layer.as_ref().map(Digest::to_string).unwrap_or_default();
        let from = if from > 0 { from.to_string() } else { String::new() };
        let files = route::files(self.name, self.reference);
        route::with_query(&files, &[("layer", &layer), ("path", path), ("q", wanted), ("from", &from)])
    }
}

/// An image that a reference names.
pub(super) async fn image(visit: &Visit, name: &str, reference: &str) -> Result<Box<Manifest>, ApiError> {
    let (repository, key) = (name.to_owned(), read::key(reference));
    let (_, parsed) = visit.look(move |storage| read::manifest(storage, &repository, &key)).await?;
    match parsed {
        Some(Parsed::Manifest(manifest)) => Ok(manifest),
        // files are those of one platform: its page leads here
        _ => Err(ApiError::PathUnknown),
    }
}

pub(super) async fn get(visit: &Visit, name: String, reference: &str) -> Result<Response, ApiError> {
    let manifest = image(visit, &name, reference).await?;
    let layer: Option<Digest> = match visit.asked("layer") {
        "" => None,
        text => Some(text.parse()?),
    };
    let digests: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    let wanted = match &layer {
        None => digests,
        Some(layer) if digests.contains(layer) => vec![layer.clone()],
        Some(_) => return Err(ApiError::PathUnknown),
    };
    let lists = layers::of(visit, &name, wanted).await?;
    let place = Place {
        name: &name,
        reference,
        path: visit.query.get("path").unwrap_or_default().trim_matches('/').to_owned(),
        wanted: visit.asked("q").to_owned(),
        from: visit.number("from"),
        layer,
    };
    let whole = place.layer.is_none();
    let tree = visit
        .look(move |_| {
            let mut lists = lists;
            Ok(match lists.pop() {
                Some(only) if !whole => Tree::layer(only),
                last => Tree::merged(lists.into_iter().chain(last).collect()),
            })
        })
        .await?;
    let body = page(&place, &tree);
    let image = (shown_reference(reference), route::image(&name, reference));
    let trail = [(image.0.as_str(), image.1), ("Files", place.link("", "", 0))];
    Ok(frame::show(visit, Frame::within(&name, &trail, body)))
}

fn page(place: &Place<'_>, tree: &Tree) -> Markup {
    let title = match &place.layer {
        Some(layer) => format!("Files of layer {}", words::short(layer)),
        None => "Files of the image".to_owned(),
    };
    html! {
        div.head {
            h1 { (title) }
            @if place.layer.is_some() { a.button href=(route::files(place.name, place.reference)) { "Files of the image" } }
        }
        form.search role="search" action=(route::files(place.name, place.reference)) {
            @if let Some(layer) = &place.layer { input type="hidden" name="layer" value=(layer); }
            label.hidden for="q" { "Search files" }
            input id="q" type="search" name="q" value=(place.wanted) placeholder="Search paths";
            button type="submit" { "Search" }
        }
        @for (at, list) in tree.layers().iter().enumerate() {
            @if let Some(cut) = &list.cut {
                p.alert { @if place.layer.is_some() { "The layer " } @else { "Layer " (at + 1) " " } (cut.words()) "." }
            }
        }
        @if place.wanted.is_empty() { (folder(place, tree)) } @else { (found(place, tree)) }
    }
}

/// The folder's place, each part a link.
fn trail(place: &Place<'_>) -> Markup {
    let parts: Vec<&str> = place.path.split('/').filter(|part| !part.is_empty()).collect();
    html! {
        p.path {
            a href=(place.link("", "", 0)) { "/" }
            @for (at, part) in parts.iter().enumerate() {
                @if at > 0 { span.dim { "/" } }
                a href=(place.link(&parts[..=at].join("/"), "", 0)) { (words::path(part.as_bytes())) }
            }
        }
    }
}

fn folder(place: &Place<'_>, tree: &Tree) -> Markup {
    let path = bytes_of(&place.path);
    let mut children = tree.children(&path);
    children.sort_by_key(|child| (!child.is_folder(), child.name));
    let bytes: u64 = children.iter().map(|child| child.bytes).fold(0, u64::saturating_add);
    let files: u64 = children.iter().map(|child| child.files).sum();
    let most = children.iter().map(|child| child.bytes).max().unwrap_or(0);
    let next = place.from + ROWS;
    html! {
        (trail(place))
        p.facts { span { (words::things(files, "file", "files")) } span { (words::size(bytes)) } }
        @if children.is_empty() { section.empty { h2 { "Nothing is here" } } }
        @else {
            table.rows.files {
                (head(place.layer.is_none()))
                tbody { @for child in children.iter().skip(place.from).take(ROWS) { (row(place, child, most)) } }
            }
        }
        @if children.len() > next {
            nav.pages aria-label="Pages" { a rel="next" href=(place.link(&place.path, "", next)) { "More of this folder" } }
        }
    }
}

fn head(whole: bool) -> Markup {
    html! {
        thead { tr {
            th scope="col" { "Name" } th scope="col" { "Size" } th scope="col" { "Mode" } th scope="col" { "Owner" }
            th scope="col" { "Changed" } @if whole { th scope="col" { "Layer" } }
        } }
    }
}

fn row(place: &Place<'_>, child: &Child<'_>, most: u64) -> Markup {
    let name = words::path(child.name);
    let mut path = place.path.clone();
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(&text_of(child.name));
    html! {
        tr {
            th scope="row" {
                @if child.is_folder() { a.folder href=(place.link(&path, "", 0)) { (name) "/" } }
                @else { span.file { (name) } }
                @if let Some(item) = child.item { (target(&item)) }
            }
            td.bar data-label="Size" {
                @if child.files > 0 { (usage::bar(child.bytes, most)) span { (words::size(child.bytes)) } } @else { span.dim { "–" } }
            }
            @if let Some(item) = child.item { (facts(&item, place.layer.is_none())) } @else { td {} td {} td {} @if place.layer.is_none() { td {} } }
        }
    }
}

/// What a link leads to, or what the layer deletes.
fn target(item: &Item<'_>) -> Markup {
    html! {
        @match item.row.kind {
            Kind::Symlink => { span.dim { " → " (words::path(item.link)) } }
            Kind::Hardlink => { span.dim { " = /" (words::path(item.link)) } }
            Kind::Whiteout => { span.chip.gone { "deletes" } }
            Kind::CharDevice | Kind::BlockDevice => { span.chip { "device" } }
            Kind::Fifo => { span.chip { "pipe" } }
            Kind::Directory if item.row.opaque => { span.chip.gone { "replaces" } }
            _ => {}
        }
    }
}

fn facts(item: &Item<'_>, whole: bool) -> Markup {
    let deletes = item.row.kind == Kind::Whiteout;
    html! {
        td data-label="Mode" { @if !deletes { code { (mode(item)) } } }
        td data-label="Owner" { @if !deletes { (item.row.uid) ":" (item.row.gid) } }
        td data-label="Changed" { @if item.row.mtime > 0 { (words::moment(item.row.mtime)) } @else { span.dim { "–" } } }
        @if whole { td.number data-label="Layer" { (item.layer + 1) } }
    }
}

/// Permissions as `ls` writes them.
fn mode(item: &Item<'_>) -> String {
    let kind = match item.row.kind {
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Fifo => 'p',
        _ => '-',
    };
    let mode = item.row.mode;
    let mut text = String::from(kind);
    for (at, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> at;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn found(place: &Place<'_>, tree: &Tree) -> Markup {
    let wanted = place.wanted.to_lowercase();
    let fits = |item: &Item<'_>| String::from_utf8_lossy(item.path).to_lowercase().contains(&wanted);
    let mut items: Vec<Item<'_>> = tree.items().filter(fits).take(limits::WEB_IMAGE_PATHS).collect();
    let count = items.len();
    let next = place.from + ROWS;
    items = items.into_iter().skip(place.from).take(ROWS).collect();
    html! {
        p.facts { span { (words::things(count as u64, "path", "paths")) " with “" (place.wanted) "”" } }
        @if count > 0 {
            table.rows.files {
                (head(place.layer.is_none()))
                tbody {
                    @for item in &items {
                        tr {
                            th scope="row" {
                                @let parent = item.path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &item.path[..at]);
                                @let shown = if item.row.kind == Kind::Directory { item.path } else { parent };
                                a href=(place.link(&text_of(shown), "", 0)) { "/" (words::path(item.path)) }
                                (target(item))
                            }
                            td.number data-label="Size" { @if item.row.kind == Kind::File { (words::size(item.row.size_bytes)) } @else { span.dim { "–" } } }
                            (facts(item, place.layer.is_none()))
                        }
                    }
                }
            }
        }
        @if count > next {
            nav.pages aria-label="Pages" { a rel="next" href=(place.link("", &place.wanted, next)) { "More paths" } }
        }
    }
}

/// A path as it goes through an address: bytes that are no text are written `\xNN`, and a backslash twice.
fn text_of(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// The same back.
fn bytes_of(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = |two: &[u8]| std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, after) {
            (b'\\', [b'\\', more @ ..]) => {
                bytes.push(b'\\');
                rest = more;
            }
            (b'\\', [b'x', a, b, more @ ..]) if hex(&[*a, *b]).is_some() => {
                bytes.extend(hex(&[*a, *b]));
                rest = more;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_bytes_go_through_an_address() {
        for path in [&b"a/b"[..], b"\xff\xfe/x", b"back\\slash", b"\\x41", "é\n<b>".as_bytes(), b"", b"\\"] {
            assert_eq!(bytes_of(&text_of(path)), path, "{path:?}");
        }
    }
}
