//! What an image's configuration means for a container: its user, the files it is given, how it is stopped.

mod files;
pub mod identity;
pub mod init;
pub mod stop;

pub use files::{Name, standard_files};
