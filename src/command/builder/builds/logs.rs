//! `slipway builds logs`.

use super::{history, step, title};
use crate::{app::Global, error::Failure, show};
use slipway_builder::history::{BuildRecord, History, StepRecord};
use std::io::{BufRead, BufReader, Read};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// An id or its beginning, `^N` for the one N before the last, or an image's name [default: the last]
    #[arg(value_name = "BUILD")]
    build: Option<String>,
    /// The step: its number, or STAGE:NUMBER [default: all, each behind its title]
    #[arg(value_name = "STEP")]
    step: Option<String>,
}

/// Longest piece of a line that is handled at a time: a terminal is shown no more of one in a piece.
const PIECE_BYTES: u64 = 64 << 10;

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let history = history(global)?;
    let build = history.find(arguments.build.as_deref())?;
    match &arguments.step {
        Some(text) => print(&history, &build, step(&build, text)?, false)?,
        None => build.steps.iter().try_for_each(|step| print(&history, &build, step, true))?,
    }
    Ok(0)
}

/// Prints a step's log. A file or pipe gets what the command wrote; a terminal its colours and nothing else.
fn print(history: &History, build: &BuildRecord, step: &StepRecord, titled: bool) -> Result<(), Failure> {
    let Some(log) = history.log(build, step)? else { return Ok(()) };
    if titled {
        show::say(title(step))?;
    }
    let mut log = BufReader::new(log);
    let (mut piece, mut whole) = (Vec::new(), true);
    while log.by_ref().take(PIECE_BYTES).read_until(b'\n', &mut piece)? > 0 {
        if !show::say_output(&piece)? {
            return Ok(());
        }
        whole = piece.ends_with(b"\n");
        piece.clear();
    }
    // where the last line has no end, and more may follow
    if titled && !whole { show::say("") } else { Ok(()) }
}
