//! `slipway df`.

use super::du;
use crate::{
    app::{App, Global},
    command,
    error::Failure,
    show::{self, template},
};
use slipway_oci::store::{RecordKind, Share};

/// Show what takes the store's room.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A template for each line, or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "verbose")]
    format: Option<String>,
    /// Show each image and each thing that builds have kept
    #[arg(short, long)]
    verbose: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    command::container::clear(&app)?;
    let account = app.store.account()?;
    // docker's word is for all that builds have kept, caches of RUN too
    let mut cache = account.total(RecordKind::Step);
    for kind in [RecordKind::Cache, RecordKind::Context] {
        let more = account.total(kind);
        if kind == RecordKind::Cache {
            cache.count += more.count;
            cache.active += more.active;
        }
        cache.bytes += more.bytes;
        cache.reclaimable_bytes += more.reclaimable_bytes;
    }
    let containers = account.total(RecordKind::Container);
    let rows =
        [("Images", account.total(RecordKind::Image)), ("Containers", containers), ("Build Cache", cache)];
    let Some(format) = &arguments.format else {
        show::say(format!(
            "{:<12} {:>8} {:>8} {:>9}   {}",
            "TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"
        ))?;
        for (kind, share) in rows {
            let (size, reclaimable) = (show::human(share.bytes), reclaimable(&share));
            let Share { count, active, .. } = share;
            show::say(format!("{kind:<12} {count:>8} {active:>8} {size:>9}   {reclaimable}"))?;
        }
        if arguments.verbose {
            show::say("")?;
            du::list(account.records.iter().filter(|record| record.kind != RecordKind::Build))?;
        }
        return Ok(0);
    };
    for (kind, share) in rows {
        let value = serde_json::json!({
            "Type": kind,
            "TotalCount": share.count.to_string(),
            "Active": share.active.to_string(),
            "Size": show::human(share.bytes),
            "Bytes": share.bytes,
            "Reclaimable": reclaimable(&share),
        });
        let line = if format == "json" { value.to_string() } else { template::render(format, &value)? };
        show::say(line)?;
    }
    Ok(0)
}

/// Bytes, and of how many it is: docker's form.
fn reclaimable(share: &Share) -> String {
    let part = (share.reclaimable_bytes * 100).checked_div(share.bytes).unwrap_or(0);
    format!("{} ({part}%)", show::human(share.reclaimable_bytes))
}
