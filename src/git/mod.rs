//! Git repositories as contexts: checked out from afar, and the time of the commit that a context is at.
//!
//! - [`checkout`] asks the `git` program, which knows the user's credentials, proxies, submodules and partial clones as
//!   no library does. It gets an environment and a configuration of our own.
//! - [`commit`] reads the commit of a repository that lies beside or in a context. What a repository's configuration
//!   names (a pager, a signature checker, a file system monitor, a fetch by its own ssh command, hooks, filters) would be
//!   run by `git log`, so git is not asked there: the few files are read by [`object`].

mod checkout;
mod commit;
mod object;
mod url;
mod watch;

pub(crate) use checkout::checkout;
pub(crate) use commit::{head_at, head_in, time_at, time_in};
