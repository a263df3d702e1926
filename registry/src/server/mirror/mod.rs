//! What is read of another registry: brought here when it is asked for, kept, and answered from here. Which registry that is, and how
//! it is asked, is `upstreams`'s.

pub(super) mod blob;
mod body;
mod errand;
mod fetch;
pub(super) mod lists;
pub(super) mod manifest;

use super::{trouble::Trouble, upstreams::At};
