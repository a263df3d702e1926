//! `slipway registry`: what the operator of a registry needs beside `serve`.

use super::{
    adopt, backup, check, delete, explain, gc, htpasswd, migrate, reindex, retain, tag_history, token, trash,
    undelete, usage, verify,
};
use crate::{app::Global, error::Failure};

/// Look after a registry of your own.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Take over what docker-registry keeps in its folder
    Adopt(adopt::Arguments),
    /// Copy a registry as it is now, while it may be served
    Backup(backup::Arguments),
    /// Check a registry's configuration
    Check(check::Arguments),
    /// Delete tags, manifests and blobs by a registry's folder
    Delete(delete::Arguments),
    /// Show whether a user may do something, and which rule says so
    Explain(explain::Arguments),
    /// Take away what nothing needs
    Gc(gc::Arguments),
    /// Make a line of an htpasswd file for a user
    Htpasswd(htpasswd::Arguments),
    /// Move a registry into what replicas share, or out of it, while it is served
    Migrate(migrate::Arguments),
    /// Make a registry's database again from what lies beside it
    Reindex(reindex::Arguments),
    /// Bring a backup of a registry back
    Restore(backup::RestoreArguments),
    /// Take away what `retention` no longer keeps
    Retain(retain::Arguments),
    /// Point a tag at what it pointed at before
    Rollback(tag_history::RollbackArguments),
    /// List where a tag pointed, when, and who moved it
    TagHistory(tag_history::Arguments),
    /// Make a token for a user, and the line of the configuration that takes it
    Token(token::Arguments),
    /// List what was deleted and is still there
    Trash(trash::Arguments),
    /// Bring a deleted tag or manifest back
    Undelete(undelete::Arguments),
    /// List how much each repository has
    Usage(usage::Arguments),
    /// Read everything that a registry stores, and say what is damaged, missing or needless
    Verify(verify::Arguments),
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Adopt(arguments) => adopt::run(global, arguments),
        Command::Backup(arguments) => backup::run(global, arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Delete(arguments) => delete::run(global, arguments),
        Command::Gc(arguments) => gc::run(global, arguments),
        Command::Usage(arguments) => usage::run(global, arguments),
        Command::Retain(arguments) => retain::run(global, arguments),
        Command::Rollback(arguments) => tag_history::rollback(global, arguments),
        Command::TagHistory(arguments) => tag_history::run(global, arguments),
        Command::Trash(arguments) => trash::run(global, arguments),
        Command::Undelete(arguments) => undelete::run(global, arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Htpasswd(arguments) => htpasswd::run(arguments),
        Command::Migrate(arguments) => migrate::run(global, arguments),
        Command::Reindex(arguments) => reindex::run(global, arguments),
        Command::Restore(arguments) => backup::restore(global, arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Verify(arguments) => verify::run(global, arguments),
    }
}
