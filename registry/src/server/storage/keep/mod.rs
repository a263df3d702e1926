//! What the operator of a registry's folder does beside serving it.

mod adopt;
mod archive;
pub(super) mod backup;
mod carry;
pub(super) mod lock;
mod moving;
pub(super) mod reindex;
mod spread;
mod take;
#[cfg(test)]
mod tests;
mod verify;

pub use adopt::{Adopted, Means, Odd, Origin, Telling, Unfit, Why, adopt, adopt_into};
pub use archive::{archive, unarchive};
pub use backup::{By, Copied, backup, restore};
pub use moving::{Moved, Moving, Side, migrate};
pub(super) use reindex::{Kept, KeptManifest, KeptMove, KeptRepository};
pub use reindex::{Lost, Reindexed, reindex};
pub use verify::{Finding, Verified, Watching, verify, verify_shared};
