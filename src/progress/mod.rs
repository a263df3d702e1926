//! How a build is shown: for a terminal, as plain lines, as JSON, or not at all. To standard error, always, so that
//! standard output stays for results.

mod json;
mod plain;
mod terminal;

use slipway_builder::Progress;
use std::io::IsTerminal;

/// The value of `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// A terminal's style on a terminal, else plain lines.
    #[default]
    Auto,
    /// Lines that are rewritten in place.
    Tty,
    /// A line an event.
    Plain,
    /// A JSON object an event.
    Json,
    /// Nothing but failures.
    Quiet,
}

/// The progress of `style`.
pub(crate) fn of(style: Style) -> Box<dyn Progress + Send> {
    match style {
        Style::Auto if std::io::stderr().is_terminal() => Box::new(terminal::Terminal::default()),
        Style::Tty => Box::new(terminal::Terminal::default()),
        Style::Auto | Style::Plain => Box::new(plain::Plain::default()),
        Style::Json => Box::new(json::Json),
        Style::Quiet => Box::new(Quiet),
    }
}

struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: slipway_builder::Event<'_>) {}
}

/// Seconds with a sensible number of digits.
fn seconds(took: std::time::Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.2}s") } else { format!("{seconds:.1}s") }
}
