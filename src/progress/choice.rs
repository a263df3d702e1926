//! What commands let their callers choose of how work is shown.

use super::{Show, Style, of};

/// `--quiet` and `--progress`, of commands that move or read much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Choice {
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
}

impl Choice {
    /// The way to show work that was chosen.
    pub(crate) fn show(self) -> Box<dyn Show> {
        of(if self.quiet { Style::Quiet } else { self.progress })
    }
}
