//! Which containers a command is about: those that are named, and those that flags choose.

use super::{filter::Filter, kept::Kept, name};
use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    service::input,
    show,
};
use slipway_oci::store::StoreError;
use std::path::PathBuf;

/// The most that a file with an id may have.
const ID_FILE_BYTES: u64 = 4096;

/// The containers that a command is about.
#[derive(clap::Args)]
pub(super) struct Selection {
    /// All that it can be done to
    #[arg(short, long)]
    all: bool,
    /// The youngest
    #[arg(short, long)]
    latest: bool,
    /// Those with id=ID, name=PART, label=NAME[=VALUE], status=STATUS, exited=CODE or ancestor=IMAGE
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// The one whose id is in a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Pass over what is not there
    #[arg(short, long)]
    ignore: bool,
    /// The containers: names or ids
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "filters", "cidfile"])]
    containers: Vec<String>,
}

impl Selection {
    /// The same, but what is not there is passed over.
    pub(super) fn ignoring(&self, ignore: bool) -> (&Selection, bool) {
        (self, self.ignore || ignore)
    }
}

/// Does something to each container of a selection, and says which; one that fails does not keep the others from it. `fits` says
/// which of all it can be done to.
pub(super) fn each(
    app: &App,
    global: &Global,
    (selection, ignore): (&Selection, bool),
    fits: impl Fn(&Kept) -> bool,
    mut deed: impl FnMut(&mut Kept) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut named = selection.containers.clone();
    for path in &selection.cidfile {
        let text = input::read("--cidfile", path, ID_FILE_BYTES)?;
        let text = String::from_utf8_lossy(&text);
        named.push(
            name::check(text.trim())
                .map_err(|failure| failure.about(format!("--cidfile: `{}`", path.display())))?,
        );
    }
    named.extend(chosen(app, global, selection, fits)?);
    let mut status = 0;
    for text in &named {
        let done = match Kept::find(app, text) {
            Err(_) if ignore && is_missing(app, text) => continue,
            found => found.and_then(|mut kept| deed(&mut kept)),
        };
        match done {
            Ok(()) => show::say(text)?,
            Err(failure) => {
                failure.print();
                status = 1;
            }
        }
    }
    Ok(status)
}

fn is_missing(app: &App, text: &str) -> bool {
    matches!(app.store.container(text), Err(StoreError::NoContainer(_)))
}

/// The names of those that flags choose.
fn chosen(
    app: &App,
    global: &Global,
    selection: &Selection,
    fits: impl Fn(&Kept) -> bool,
) -> Result<Vec<String>, Failure> {
    let parse = |text: &String| Filter::parse(text);
    let filters = selection.filters.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if !selection.all && !selection.latest && filters.is_empty() {
        return Ok(Vec::new());
    }
    let images = Images::new(&app.store, global)?;
    let mut names = Vec::new();
    for kept in Kept::all(app)? {
        // one that is damaged is no container that a filter knows
        let takes = match kept.config(app) {
            Ok(config) => Filter::all_take(&filters, &kept, &config, &images)?,
            Err(_) => filters.is_empty(),
        };
        if takes && fits(&kept) {
            names.push(kept.row.name);
        }
        if selection.latest && !names.is_empty() {
            break;
        }
    }
    Ok(names)
}
