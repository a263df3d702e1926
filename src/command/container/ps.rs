//! `slipway ps`.

use super::{filter::Filter, kept::Kept};
use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    show::{self, listing::Listing},
};
use serde_json::{Value, json};
use slipway_runtime::container::{
    config::Config,
    state::{Moment, State, Status},
};

/// List containers.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Those too that do not run
    #[arg(short, long)]
    all: bool,
    /// Only the youngest ones, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Only the youngest one, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show what they have written
    #[arg(short, long)]
    size: bool,
    /// Only containers with id=ID, name=PART, label=NAME[=VALUE], status=STATUS, exited=CODE or ancestor=IMAGE
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// `json`, `table`, a template for each line, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let filters = arguments.filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let app = App::open(global)?;
    let images = Images::new(&app.store, global)?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    let by_status = filters.iter().any(Filter::is_of_the_ended);
    let all = arguments.all || last.is_some() || by_status;
    let mut rows = Vec::new();
    for kept in Kept::all(&app)? {
        if rows.len() >= last.unwrap_or(usize::MAX) {
            break;
        }
        if !all && !kept.state.status.is_up() {
            continue;
        }
        if arguments.quiet && filters.is_empty() {
            rows.push(json!({ "ID": shown_id(&kept, arguments.no_trunc) }));
            continue;
        }
        // one that is damaged is listed all the same, or nobody could take it away
        match kept.config(&app) {
            Ok(config) => {
                if !Filter::all_take(&filters, &kept, &config, &images)? {
                    continue;
                }
                rows.push(row(&kept, Some(&config), arguments.no_trunc));
            }
            Err(failure) => {
                show::note(format_args!("warning: {}", failure.words()));
                rows.push(row(&kept, None, arguments.no_trunc));
            }
        }
        if arguments.size
            && let Some(row) = rows.last_mut()
        {
            let bytes = slipway_oci::file::disk_bytes(&kept.folder(&app).join("upper")).unwrap_or(0);
            row["Size"] = show::human(bytes).into();
        }
    }
    if arguments.quiet {
        rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(show::say)?;
        return Ok(0);
    }
    let mut columns = vec![
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ];
    if arguments.size {
        columns.push(("Size", "SIZE"));
    }
    let more = [
        ("Ports", "PORTS"),
        ("CreatedAt", "CREATED AT"),
        ("State", "STATE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("Size", "SIZE"),
        ("LocalVolumes", "LOCAL VOLUMES"),
    ];
    Listing { columns: &columns, more: &more, rows: &rows }.write(arguments.format.as_deref())?;
    Ok(0)
}

fn shown_id(kept: &Kept, whole: bool) -> String {
    if whole { kept.row.id.clone() } else { kept.row.id.chars().take(12).collect() }
}

/// A container in docker's words: the keys of `docker ps --format json`.
fn row(kept: &Kept, config: Option<&Config>, whole: bool) -> Value {
    let command: Vec<_> = config
        .map(|config| config.command.iter().map(|word| word.to_string_lossy()).collect())
        .unwrap_or_default();
    let mut command = command.join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    let labels: Vec<String> = config
        .map(|config| config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect())
        .unwrap_or_default();
    let mounts: Vec<_> = config
        .map(|config| config.binds.iter().map(|bind| bind.source.display().to_string()).collect())
        .unwrap_or_default();
    json!({
        "ID": shown_id(kept, whole),
        "Image": config.map(|config| config.image.as_str()).unwrap_or("<damaged>"),
        "Command": format!("\"{command}\""),
        "CreatedAt": show::time(Some(kept.row.created)),
        "RunningFor": show::since(Some(kept.row.created)),
        "State": kept.state.status.word(),
        "Status": status(&kept.state),
        "Names": kept.row.name,
        "Labels": labels.join(","),
        "Mounts": mounts.join(","),
        "Networks": config.map(|config| super::namespaces::word(&config.network)).unwrap_or_default(),
        "Ports": "",
        "Size": "N/A",
        "LocalVolumes": "0",
    })
}

/// Where a container is in its life, in docker's words.
fn status(state: &State) -> String {
    let ago = |moment: Option<Moment>| show::since(moment.map(Moment::seconds));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let since = ago(state.started);
            let since = since.trim_end_matches(" ago");
            format!("Up {}", if since == "a moment" { "less than a minute" } else { since })
        }
        Status::Restarting => format!("Restarting ({}) {}", state.exit_code, ago(state.finished)),
        Status::Exited => format!("Exited ({}) {}", state.exit_code, ago(state.finished)),
    }
}
