//! `slipway du`.

use crate::{
    app::{App, Global},
    error::Failure,
    request::records::Filter,
    show::{self, listing::Listing, text},
};
use serde_json::{Value, json};
use slipway_oci::{
    spec::rfc3339,
    store::{Account, Record, RecordKind, Share},
};

/// Show what takes the store's room, and what can be had back
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show each image, result, cache and build too
    #[arg(short, long)]
    verbose: bool,
    /// Only what is so: `type=step`, `until=24h`, `id=BEGINNING`, `inuse`, `shared`, `private`
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// `json` (a record a line), `table`, a template for each record, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let filter = Filter::parse(&arguments.filters, show::now())?;
    let account = App::open(global)?.store.account()?;
    let chosen = account.records.iter().filter(|record| filter.takes(record));
    let format = if arguments.json { Some("json") } else { arguments.format.as_deref() };
    if format.is_some() {
        listing(&chosen.map(row).collect::<Vec<_>>(), format)?;
        return Ok(0);
    }
    let chosen: Vec<&Record> = chosen.collect();
    if arguments.verbose {
        list(chosen.iter().copied())?;
        show::say("")?;
    }
    if filter.is_everything() {
        totals(&account)?;
    } else {
        let sum = |bytes: fn(&Record) -> u64| show::human(chosen.iter().map(|record| bytes(record)).sum());
        show::say(format_args!(
            "{} of {} records: {}, of it {} shared; {} reclaimable",
            chosen.len(),
            account.records.len(),
            sum(|record| record.bytes),
            sum(|record| record.shared_bytes),
            sum(|record| record.reclaimable_bytes)
        ))?;
    }
    Ok(0)
}

/// Each kind, and all together.
fn totals(account: &Account) -> Result<(), Failure> {
    let mut all = Share::default();
    let mut rows = Vec::new();
    for kind in RecordKind::ALL {
        let share = account.total(kind);
        all.bytes += share.bytes;
        all.shared_bytes += share.shared_bytes;
        all.reclaimable_bytes += share.reclaimable_bytes;
        rows.push(total(words(kind), &share));
    }
    let mut sum = total("all", &all);
    for column in ["Count", "Active"] {
        sum[column] = json!("");
    }
    rows.push(sum);
    let columns = [
        ("Type", "TYPE"),
        ("Count", "TOTAL"),
        ("Active", "IN USE"),
        ("Size", "SIZE"),
        ("Shared", "SHARED"),
        ("Reclaimable", "RECLAIMABLE"),
    ];
    Listing { columns: &columns, more: &[], rows: &rows }.write(None)
}

fn total(name: &str, share: &Share) -> Value {
    json!({
        "Type": name,
        "Count": share.count.to_string(),
        "Active": share.active.to_string(),
        "Size": show::human(share.bytes),
        "Shared": show::human(share.shared_bytes),
        "Reclaimable": show::human(share.reclaimable_bytes),
    })
}

/// A kind in words.
fn words(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Image => "images",
        RecordKind::Step => "results of steps",
        RecordKind::Cache => "caches of RUN",
        RecordKind::Context => "known contexts",
        RecordKind::Build => "history of builds",
        RecordKind::Container => "containers",
        RecordKind::Loose => "left over",
        RecordKind::Own => "the store's own",
    }
}

/// A table of records.
pub(super) fn list<'a>(records: impl Iterator<Item = &'a Record>) -> Result<(), Failure> {
    listing(&records.map(row).collect::<Vec<_>>(), None)
}

fn listing(rows: &[Value], format: Option<&str>) -> Result<(), Failure> {
    let columns = [
        ("ID", "ID"),
        ("Type", "TYPE"),
        ("Size", "SIZE"),
        ("Shared", "SHARED"),
        ("Reclaimable", "RECLAIMABLE"),
        ("LastUsed", "LAST USED"),
        ("InUse", "IN USE"),
        ("Description", "DESCRIPTION"),
    ];
    let more = [
        ("Digest", "DIGEST"),
        ("Bytes", "BYTES"),
        ("SharedBytes", "SHARED BYTES"),
        ("ReclaimableBytes", "RECLAIMABLE BYTES"),
        ("LastUsedAt", "LAST USED AT"),
    ];
    Listing { columns: &columns, more: &more, rows }.write(format)
}

/// Most characters of a description in a table.
const SHOWN: usize = 60;

fn row(record: &Record) -> Value {
    let hex = record.id.split_once(':').map_or(record.id.as_str(), |(_, hex)| hex);
    // what recipes say may be anything
    let about = text::line(&record.about);
    json!({
        "ID": hex.chars().take(12).collect::<String>(),
        "Digest": record.id,
        "Type": record.kind.name(),
        "Size": show::human(record.bytes),
        "Bytes": record.bytes,
        "Shared": show::human(record.shared_bytes),
        "SharedBytes": record.shared_bytes,
        "Reclaimable": show::human(record.reclaimable_bytes),
        "ReclaimableBytes": record.reclaimable_bytes,
        "LastUsed": record.used.map_or_else(String::new, |used| show::since(Some(used))),
        "LastUsedAt": record.used.map_or_else(String::new, rfc3339::format),
        "InUse": if record.in_use { "yes" } else { "no" },
        "Description": match about.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &about[..end]),
            None => about,
        },
    })
}
