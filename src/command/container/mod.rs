//! Commands on containers.
//!
//! A container that is kept has a row in the store and a folder ([`kept`]): what it is made from (`config.json`), what it has
//! written (`upper`), its log, and its lock, which its monitor holds while it lives ([`monitor`]).
//!
//! ```text
//! flags ── wanted ──> Config (kept) ── spec ──> SandboxSpec ── launch ──> a running container
//!           create                     at each start                       run: in the foreground
//!                                                                          start, run -d: its monitor's
//! ```

pub(crate) mod create;
mod filter;
mod flags;
pub(crate) mod inspect;
mod kept;
pub(crate) mod kill;
mod launch;
pub(crate) mod logs;
pub(crate) mod monitor;
mod name;
mod namespaces;
mod options;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
mod security;
mod selection;
mod spec;
pub(crate) mod start;
pub(crate) mod stop;
mod stopping;
pub(crate) mod wait;
mod wanted;

/// Clears what monitors that were killed have left, for commands that take away what no container needs.
pub(crate) fn clear(app: &crate::app::App) -> Result<(), crate::error::Failure> {
    kept::Kept::clear(app)
}
