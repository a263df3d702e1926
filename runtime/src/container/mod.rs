//! What an image's configuration means for a container: its user, the files it is given.

mod files;
pub mod identity;

pub use files::standard_files;
