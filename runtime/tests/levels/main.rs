//! What a sandbox is and keeps, at every level at which one can be made.
//!
//! A case is a function and is written once. It runs in a process of its own (this program again), which first becomes
//! what the level is: root, a user with subordinate ids, a user with one id. Where the tests are not root's they run at
//! the level that their own user reaches. What differs between levels a case asks of [`support::level`]; one that cannot
//! be at a level has the reason in its table.

#[path = "../support/mod.rs"]
mod support;

/// A table of cases by the names of their functions, each with the levels at which it cannot be and why.
macro_rules! cases {
    ($($name:ident $(, not at $level:ident: $reason:literal)*;)*) => {
        &[$($crate::Case {
            name: stringify!($name),
            run: $name,
            left_out: &[$(($crate::support::Level::$level, $reason)),*],
        }),*]
    };
}

mod attack;
mod gate;
mod neighbour;
mod processes;
mod runner;
mod sandbox;
mod sockets;
mod view;

use std::process::ExitCode;

use support::Level;

/// A case.
pub(crate) struct Case {
    name: &'static str,
    run: fn(),
    /// The levels at which there is nothing to try, and why.
    left_out: &'static [(Level, &'static str)],
}

/// All cases, by their files.
const TABLES: [(&str, &[Case]); 7] = [
    ("attack", attack::CASES),
    ("gate", gate::CASES),
    ("neighbour", neighbour::CASES),
    ("processes", processes::CASES),
    ("sandbox", sandbox::CASES),
    ("sockets", sockets::CASES),
    ("view", view::CASES),
];

fn main() -> ExitCode {
    // a background job of a shell would ignore the interrupts that are tried here
    slipway_runtime::signals::begin().unwrap();
    if let Some(outcome) = slipway_runtime::init::run(std::env::args_os()) {
        return ExitCode::from(outcome.unwrap());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["case", name, level] => runner::one(name, level),
        ["inner", "live", rest @ ..] => gate::live(rest),
        ["inner", "stand", level, folder] => neighbour::stand(level, folder),
        ["inner", "attack", subject, rest @ ..] => neighbour::attack(subject, rest),
        ["inner", "sleep", rest @ ..] => processes::sleep(rest),
        ["inner", "count", rest @ ..] => processes::count(rest),
        ["inner", "peek", _, parent, covered] => processes::peek(parent, covered),
        ["inner", "probe", name] => sockets::probe(name),
        _ => runner::all(&words),
    }
}
