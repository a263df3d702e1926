//! `slipway cache`: caches of `RUN --mount=type=cache`.

use crate::{
    app::{App, Global},
    cache::{self, mounts::is_named},
    error::Failure,
    images::Images,
    progress::{self, Style},
    request::{
        cache::{self as places, MOUNTS_BYTES, Mounts},
        size,
    },
    show::{self, listing::Listing, say, text},
};
use serde_json::json;
use slipway_oci::store::{CacheMount, Prune};

/// Look after caches of RUN --mount=type=cache: list them, remove them, carry them elsewhere
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List caches
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show what caches take of the disk, and all of them together
    Du(Ls),
    /// Remove caches
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Send caches to a registry or folder; of what is there already only what changed goes
    Export(Export),
    /// Take caches from a registry or folder, over those that are here; of what is here only what changed comes
    Import(Import),
}

#[derive(clap::Args)]
struct Ls {
    /// `json`, `table`, a template for each line, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(clap::Args)]
struct Rm {
    /// Remove all of them
    #[arg(short, long, conflicts_with = "caches")]
    all: bool,
    /// Ids as recipes have them, or beginnings of names
    #[arg(value_name = "CACHE", required_unless_present = "all")]
    caches: Vec<String>,
}

#[derive(clap::Args)]
struct Export {
    /// Most bytes of all of them together
    #[arg(long, value_name = "SIZE", value_parser = size::argument, default_value_t = MOUNTS_BYTES)]
    max: u64,
    /// Where they go: a name in a registry, a folder (`./FOLDER`), or what --cache-to takes
    #[arg(value_name = "PLACE")]
    place: String,
    /// Ids as recipes have them, or beginnings of names [default: all]
    #[arg(value_name = "CACHE")]
    caches: Vec<String>,
}

#[derive(clap::Args)]
struct Import {
    /// Where they are: a name in a registry, a folder (`./FOLDER`), or what --cache-from takes
    #[arg(value_name = "PLACE")]
    place: String,
    /// Ids as recipes have them, or beginnings of names [default: all]
    #[arg(value_name = "CACHE")]
    caches: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    match &arguments.command {
        Command::Ls(ls) => list(&app, ls, false),
        Command::Du(ls) => list(&app, ls, true),
        Command::Rm(rm) => remove(&app, rm),
        Command::Export(export) => send(&app, global, export),
        Command::Import(import) => take(&app, global, import),
    }
}

fn list(app: &App, ls: &Ls, sum: bool) -> Result<u8, Failure> {
    let mounts = app.store.cache_mounts()?;
    if ls.quiet {
        mounts.iter().try_for_each(|mount| say(&mount.name))?;
        return Ok(0);
    }
    let rows: Vec<_> = mounts.iter().map(row).collect();
    let columns = [
        ("Name", "NAME"),
        ("ID", "CACHE"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("LastUsed", "LAST USED"),
        ("InUse", "IN USE"),
    ];
    let more = [
        ("Digest", "WHOLE NAME"),
        ("Bytes", "BYTES"),
        ("From", "FROM"),
        ("Owner", "OWNER"),
        ("Mode", "MODE"),
    ];
    Listing { columns: &columns, more: &more, rows: &rows }.write(ls.format.as_deref())?;
    if sum && ls.format.is_none() {
        let bytes = mounts.iter().map(|mount| mount.bytes).sum();
        say(format_args!("\n{} caches, {}", mounts.len(), show::human(bytes)))?;
    }
    Ok(0)
}

fn row(mount: &CacheMount) -> serde_json::Value {
    let about = mount.about.clone().unwrap_or_default();
    json!({
        "Name": &mount.name[..12],
        "Digest": mount.name,
        "ID": text::line(&about.id),
        "Scope": text::line(&about.scope),
        "From": text::line(&about.from),
        "Owner": format!("{}:{}", about.uid, about.gid),
        "Mode": format!("{:o}", about.mode),
        "Size": show::human(mount.bytes),
        "Bytes": mount.bytes,
        "LastUsed": show::since(Some(mount.used)),
        "InUse": if mount.in_use { "yes" } else { "no" },
    })
}

fn remove(app: &App, rm: &Rm) -> Result<u8, Failure> {
    let known = app.store.cache_mounts()?;
    for words in &rm.caches {
        let one = std::slice::from_ref(words);
        if !known.iter().any(|mount| is_named(one, &mount.name, &mount.about.clone().unwrap_or_default())) {
            return Err(Failure::new(format!("there is no cache `{words}`"))
                .with_hint("`slipway cache ls` shows what there is"));
        }
    }
    // by the names of those that were meant, whole: a word may begin another one's
    let is_meant =
        |mount: &&CacheMount| is_named(&rm.caches, &mount.name, &mount.about.clone().unwrap_or_default());
    let only: Vec<String> = known.iter().filter(is_meant).map(|mount| mount.name.clone()).collect();
    if only.is_empty() {
        // none would mean all of them
        return Ok(0);
    }
    let pruned = app.store.prune(&Prune { mounts: true, only, ..Prune::default() })?;
    pruned.mounts.iter().try_for_each(|id| say(text::line(id)))?;
    if pruned.in_use > 0 {
        return Err(Failure::new(format!("{} of them are in use by a build, and stay", pruned.in_use)));
    }
    show::note(format_args!("freed {}", show::human(pruned.freed_bytes())));
    Ok(0)
}

/// A folder that is written as one, in the words of `--cache-to` and `--cache-from`.
fn place(text: &str, key: &str) -> String {
    match text.starts_with(['/', '.']) {
        true => format!("\"type=local\",\"{key}={}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn send(app: &App, global: &Global, export: &Export) -> Result<u8, Failure> {
    let to = places::to(&[place(&export.place, "dest")], &Default::default())?;
    let [to] = to.as_slice() else { return Err(Failure::usage("PLACE is empty")) };
    if to.place == places::Place::Inline {
        return Err(Failure::usage(
            "caches of RUN do not go with an image: name a registry's tag or a folder",
        ));
    }
    let mut names = std::collections::BTreeSet::new();
    for mount in app.store.cache_mounts()? {
        if is_named(&export.caches, &mount.name, &mount.about.clone().unwrap_or_default()) {
            names.insert(mount.name);
        }
    }
    if names.is_empty() {
        return Err(Failure::new("no cache is called so").with_hint("`slipway cache ls` shows what there is"));
    }
    let progress = progress::of(Style::default());
    let images = Images::new(&app.store, global)?.shown(&*progress);
    let mounts = Mounts { only: Vec::new(), scope: None, most_bytes: export.max };
    cache::write_caches(&images, to, &mounts, &names)?;
    Ok(0)
}

fn take(app: &App, global: &Global, import: &Import) -> Result<u8, Failure> {
    let from = places::from(&[place(&import.place, "src")])?;
    let [from] = from.as_slice() else { return Err(Failure::usage("PLACE is empty")) };
    let progress = progress::of(Style::default());
    let images = Images::new(&app.store, global)?.shown(&*progress);
    let imported = cache::import_caches(&images, from.clone(), &import.caches)?;
    if imported.is_empty() {
        return Err(Failure::new(format!("`{}` has no such cache", import.place)));
    }
    for one in imported {
        say(format_args!(
            "{}: {}, of which {} came",
            text::line(&one.id),
            show::human(one.size),
            show::human(one.bytes)
        ))?;
    }
    Ok(0)
}
