//! A container's life: what an image's configuration means for it (its user, the files it is given, how it is stopped), and
//! what is kept of one that outlives its caller (what it is made from, what it came to, what it wrote).

pub mod config;
mod files;
pub mod identity;
pub mod init;
pub mod log;
pub mod monitor;
pub mod state;
pub mod stop;

pub use files::{Name, standard_files};
