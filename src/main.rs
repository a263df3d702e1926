//! `slipway`: builds container images from Dockerfiles, runs them, pushes, pulls and hosts them.
//!
//! This crate is the only one that talks to people: arguments, progress, words for errors, exit statuses. One file a
//! command ([`command`]); the work is done by the libraries.
#![forbid(unsafe_code)]
// lines for people go through `show`, which cleans them and survives a reader that went away; these macros do neither
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod app;
mod command;
mod error;
mod git;
mod images;
mod progress;
mod recipe;
mod service;
mod show;
mod signals;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = command::Cli::parse();
    match command::run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.status())
        }
    }
}
