//! `slipway`: builds container images from Dockerfiles, runs them, pushes, pulls and hosts them.
//!
//! This crate is the only one that talks to people: arguments, progress, words for errors, exit statuses. One file a
//! command ([`command`]); the work is done by the libraries.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))]
// tables of cases are as long as they are
// lines for people go through `show`, which cleans them and survives a reader that went away; these macros do neither
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod app;
mod bake;
mod cache;
mod children;
mod command;
mod credentials;
mod error;
mod exchange;
mod front;
mod git;
mod images;
mod indexes;
mod leave;
mod manual;
mod nearby;
mod packages;
mod progress;
mod recipe;
mod registries;
mod remedy;
mod remote;
mod request;
mod service;
mod settings;
mod show;
mod signals;
mod trust;

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

fn main() -> ExitCode {
    // before any thread, and for the container's init too
    if let Err(error) = slipway_runtime::signals::begin() {
        return ended(Err(error::Failure::from(error)));
    }
    if let Some(outcome) = slipway_runtime::init::run(std::env::args_os()) {
        return ended(outcome.map_err(error::Failure::from));
    }
    if let Some(status) = slipway_runtime::bare::run(std::env::args_os()) {
        return ExitCode::from(status);
    }
    if let Some(task) = slipway_runtime::container::monitor::run(std::env::args_os()) {
        return ended(task.map_err(error::Failure::from).and_then(command::container::monitor::run));
    }
    if let Some(status) = leave::run(std::env::args_os()) {
        return ExitCode::from(status);
    }
    if let Some(outcome) = manual::complete::answer(std::env::args_os()) {
        return ended(outcome);
    }
    app::protect_early(std::env::args_os().collect());
    let cli = command::Cli::command();
    let variable = |name: &str| std::env::var(name).ok();
    let line =
        match front::read_program(std::env::args_os().collect(), &cli, &variable, &|path| path.exists()) {
            Ok(line) => line,
            Err(failure) => return ended(Err(failure)),
        };
    if let Some(group) = line.group() {
        return ended(show::say(manual::group(group)).map(|()| 0));
    }
    let read = line.reader(cli, &is_empty).try_get_matches_from(line.arguments());
    let arguments = match read.and_then(|matches| command::Cli::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(_) => return misread(&line),
    };
    let outcome = command::run(arguments);
    // afterwards: a command that makes containers begins the program again before its work
    for note in line.notes() {
        show::note(format_args!("note: {note}"));
    }
    ended(outcome)
}

/// Whether a variable is set to nothing, which says as little as one that is not set.
fn is_empty(name: &std::ffi::OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Answers a line that is no work: one that asks for help, or one that is wrong.
fn misread(line: &front::Line) -> ExitCode {
    let Err(error) = manual::definition().try_get_matches_from(line.arguments()) else {
        // the two descriptions are one but for what they show
        return ended(Err(error::Failure::usage("the command line cannot be read")));
    };
    if !error.use_stderr() {
        return ended(show::say(error.render().to_string().trim_end()).map(|()| 0));
    }
    // nowhere to say that it cannot be said
    let _ = error.print();
    ExitCode::from(line.usage_status())
}

fn ended(outcome: Result<u8, error::Failure>) -> ExitCode {
    outcome.map_or_else(
        |failure| {
            failure.print();
            ExitCode::from(failure.status())
        },
        ExitCode::from,
    )
}
