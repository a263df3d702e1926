//! What the layers of an image hold, on its build's page: sizes, files that nobody sees, files that are there twice, what
//! package managers left.

use crate::{
    app::{App, Global},
    error::Failure,
    show::{human, text},
};
use maud::{Markup, html};
use slipway_builder::history::BuildRecord;
use slipway_oci::{
    Digest,
    layer::{Tree, Waste, waste},
};

/// Most rows of a table.
const ROWS: usize = 25;

/// A layer of the image.
pub(super) struct Row {
    diff_id: Digest,
    size_bytes: u64,
    files: usize,
}

/// What was found.
pub(super) struct Found {
    rows: Vec<Row>,
    waste: Waste,
}

/// Looks through the layers of an image in the store.
///
/// # Errors
/// When it is not there any more, or not whole.
pub(super) fn look(global: &Global, image: &Digest) -> Result<Found, Failure> {
    let app = App::open(global)?;
    let record = app.store.read_image(image)?;
    let (mut tree, mut tables, mut rows) = (Tree::default(), Vec::new(), Vec::new());
    for form in record.forms() {
        let table = app.store.toc(&form.diff_id, &tree)?;
        tree = tree.with(table.clone());
        rows.push(Row {
            diff_id: form.diff_id,
            size_bytes: form.descriptor.size_bytes,
            files: table.entries().len(),
        });
        tables.push(table);
    }
    let tables: Vec<_> = tables.iter().map(|table| &**table).collect();
    Ok(Found { rows, waste: waste(&tables) })
}

/// The section.
pub(super) fn section(build: &BuildRecord, found: &Found) -> Markup {
    let step = |layer: usize| {
        let row = found.rows.get(layer)?;
        build.steps.iter().find(|step| step.layer.as_ref().is_some_and(|layer| layer.diff_id == row.diff_id))
    };
    let made = |layer: usize| match step(layer) {
        Some(step) => html! { a href={ "#step" (step.number) } { "#" (step.number) } },
        None => html! { "the base" },
    };
    let path = |path: &[u8]| text::line(&format!("/{}", String::from_utf8_lossy(path)));
    let Waste { hidden, copies, left } = &found.waste;
    html! {
        h2 { "Layers" }
        table {
            tr { th.number { "layer" } th { "made by" } th.number { "size" } th.number { "paths" } th.number { "of which nobody sees" } }
            @for (number, row) in found.rows.iter().enumerate() {
                @let bytes: u64 = hidden.iter().filter(|one| one.layer == number).map(|one| one.size_bytes).sum();
                tr {
                    td.number { (number + 1) } td { (made(number)) } td.number { (human(row.size_bytes)) }
                    td.number { (row.files) } td.number { @if bytes > 0 { (human(bytes)) } }
                }
            }
        }
        @if !hidden.is_empty() {
            h2 { "Deleted or replaced later" }
            p { "These files are pulled by everybody and seen by nobody: delete them in the step that makes them." }
            table {
                tr { th { "path" } th.number { "size" } th { "made by" } th { "hidden by" } }
                @for one in hidden.iter().take(ROWS) {
                    tr {
                        td { code { (path(&one.path)) } } td.number { (human(one.size_bytes)) } td { (made(one.layer)) }
                        td { (made(one.by)) @if one.is_deleted { " (deleted)" } @else { " (replaced)" } }
                    }
                }
            }
            (more(hidden.len()))
        }
        @if !copies.is_empty() {
            h2 { "There more than once" }
            table {
                tr { th { "paths" } th.number { "size, each" } th.number { "times" } }
                @for one in copies.iter().take(ROWS) {
                    tr {
                        td { @for (_, place) in one.places.iter().take(4) { code { (path(place)) } " " } @if one.places.len() > 4 { "…" } }
                        td.number { (human(one.size_bytes)) } td.number { (one.places.len()) }
                    }
                }
            }
            (more(copies.len()))
        }
        @if !left.is_empty() {
            h2 { "Left by package managers" }
            p { "RUN --mount=type=cache keeps it for the next build and out of the image." }
            table {
                tr { th { "folder" } th { "made by" } th.number { "files" } th.number { "size" } }
                @for one in left {
                    tr { td { code { "/" (one.folder) } } td { (made(one.layer)) } td.number { (one.files) } td.number { (human(one.size_bytes)) } }
                }
            }
        }
    }
}

fn more(count: usize) -> Markup {
    html! { @if count > ROWS { p { "and " (count - ROWS) " more" } } }
}

/// What the check says of the recipe's lines that belong to a step.
pub(super) fn advice(build: &BuildRecord, line: u32) -> Markup {
    let next =
        build.steps.iter().map(|step| step.line).filter(|other| *other > line).min().unwrap_or(u32::MAX);
    let here = build.advice.iter().filter(|one| (line..next).contains(&one.line));
    html! {
        @for one in here { p.advice { "line " (one.line) ": " code { (one.rule) } " " (text::line(&one.message)) } }
    }
}
