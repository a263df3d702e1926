//! What the operator of a registry's folder does beside serving it.

mod adopt;
mod archive;
pub(super) mod backup;
pub(super) mod lock;
mod moving;
pub(super) mod reindex;
mod spread;
mod take;
#[cfg(test)]
mod tests;
mod verify;

pub use adopt::{Adopted, Means, Odd, Telling, Unfit, Why, adopt};
pub use archive::{archive, unarchive};
pub use backup::{By, Copied, backup, restore};
pub use moving::{Moved, Moving, Side, migrate};
pub(super) use reindex::{Kept, KeptManifest, KeptMove, KeptRepository};
pub use reindex::{Lost, Reindexed, reindex};
pub use verify::{Finding, Verified, Watching, verify, verify_shared};
