//! Set-up and chores, in Rust: `cargo xtask demo | test | build | bench`.
//!
//! Needs nothing but the standard library and `serde_json`, so that it compiles in a second on a machine that has
//! nothing yet. Everything it makes lies under `target/`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

mod base;
mod bench;
mod binary;
mod demo;
mod house;
mod machine;
mod process;
mod registry;
mod test;
mod user;

use std::process::ExitCode;

/// A chore that failed, in words for the person who called it.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Turns an error and what was tried into a [`Failure`].
pub(crate) fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure(format!("{what}: {error}"))
}

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo                 from nothing to a running, served image on a real Debian base
  test [FILTER] [--shapes] [--cluster] [--instants N]
                       what CI runs: set-up, fmt, clippy, unit and end-to-end tests; with --shapes all that
                       reaches layers in each of their shapes; with --cluster all that speaks to a registry on
                       each pair of engines, and long histories of faults; N moments for each kind of kill -9
  build                the static release binary, at target/release/slipway
  bench [--rounds N] [--files N] [--without-buildah] [--only builds|shapes|pulls]
                       medians and ratios, under target/bench
  bench registry [--rounds N] [--only reads|rights|uploads|pages|pushes|mirrors|collection]
                       the same of the server
  bench cluster [--rounds N] [--only reads|cold|uploads|pushes|pages]
                       the same of replicas over PostgreSQL and versitygw";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let result = match arguments.first().map(String::as_str) {
        Some("demo") => demo::run_all(),
        Some("test") => test::run_all(rest),
        Some("build") => binary::report(),
        Some("bench") => bench::run_all(rest),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
