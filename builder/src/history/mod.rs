//! What builds were: kept for whoever asks later what was done, what it cost, what it said, and why it was done again.
//!
//! ```text
//! builds/<milliseconds since 1970>-<id>/   one build that carried something out or failed
//!     record      a JSON object a line: the build, then each step as it ends, then how it all ended
//!     <n>.log     what the command of step n wrote: its beginning and its end, where it is long
//!     <n>.files   what the COPY or ADD of step n selected: a line a path
//! ```
//!
//! **Nothing waits for it.** Nothing is synced, no database is asked, and a build of what is there writes nothing at all:
//! the folder is made when the first step is carried out. What cannot be written is left out; no build fails for it.
//!
//! **Who is alive** holds `flock(2)` on its record. A record without an end that nobody holds is of a build that was killed.
//! A line that was cut short is passed over.
//!
//! **Bounds.** A log has [`STEP_LOG_BYTES`](crate::limits::STEP_LOG_BYTES), all builds together
//! [`HISTORY_BUILDS`](crate::limits::HISTORY_BUILDS) and [`HISTORY_BYTES`](crate::limits::HISTORY_BYTES): the oldest go.
//!
//! **Secrets.** Values of build secrets are masked wherever a command or an error repeats them ([`mask`]).

mod kept;
mod log;
mod mask;
mod record;
mod recorder;

pub use kept::{History, HistoryError};
pub(crate) use log::StepLog;
pub(crate) use mask::Masks;
pub use record::{
    Advice, BaseRecord, BuildRecord, CommandRecord, Ended, LayerRecord, State, StepOutcome, StepRecord,
};
pub(crate) use recorder::Recorder;
