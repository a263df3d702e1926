//! `slipway builds rm`.

use super::history;
use crate::{app::Global, error::Failure, show};
use slipway_builder::history::State;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Forget all builds that have ended
    #[arg(short, long)]
    all: bool,
    /// Ids or their beginnings, `^N` for the one N before the last, or images' names
    #[arg(value_name = "BUILD", required_unless_present = "all", conflicts_with = "all")]
    builds: Vec<String>,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let history = history(global)?;
    let builds = match arguments.all {
        true => history.builds()?.into_iter().filter(|build| build.state() != State::Running).collect(),
        false => {
            arguments.builds.iter().map(|text| history.find(Some(text))).collect::<Result<Vec<_>, _>>()?
        }
    };
    for build in builds {
        history.remove(&build)?;
        show::say(&build.id)?;
    }
    Ok(0)
}
