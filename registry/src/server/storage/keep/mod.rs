//! What the operator of a registry's folder does beside serving it.

pub(super) mod lock;
pub(super) mod reindex;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use reindex::{Kept, KeptManifest, KeptMove, KeptRepository};
pub use reindex::{Lost, Reindexed, reindex};
pub use verify::{Finding, Verified, Watching, verify};
