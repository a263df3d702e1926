//! `cargo xtask bench`: how long the main work takes, ours beside buildah's.
//!
//! Inputs, stores and results lie under target/bench. Every case is timed over some rounds; medians are printed, and
//! ratios where buildah is installed. Nothing here is a test: machines differ, and so do their other users.
//!
//! Cold is an empty store with the base in it; cached is the same build again; touched is one of the files changed.
//! Rows of a pull say what a machine waits for that has nothing yet, beside podman ([`pulls`]).
//! Rows of a shape compare layers that are unpacked with those that the machine does without ([`shapes`]).
//! `bench registry` measures the server alone ([`registry`]), `bench cluster` replicas of it.
//! With push, the build ends when a registry on loopback (`slipway serve`, for both) has the image.

mod builder;
mod input;
mod pulls;
mod registry;
mod shapes;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::builder::{Buildah, Builder, Slipway};
use crate::process::{find, seconds};
use crate::{Failure, binary, failed, house, machine};

/// A whole bench ends within this time: rounds that would begin later are left out.
const TIME_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Kinds of rows.
const ROWS: [&str; 3] = ["builds", "shapes", "pulls"];

/// What is measured.
pub(crate) struct Settings {
    rounds: usize,
    files: usize,
    buildah: bool,
    /// Only these rows: `builds`, `shapes` or `pulls`.
    only: Option<String>,
}

impl Settings {
    fn parse(arguments: &[String], rows: &[&str]) -> Result<Settings, Failure> {
        let mut settings = Settings { rounds: 3, files: 20_000, buildah: true, only: None };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<usize, Failure> {
                let value = words.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
                value.ok_or_else(|| Failure(format!("`{word}` needs a number above 0")))
            };
            match word.as_str() {
                "--rounds" => settings.rounds = number()?,
                "--files" => settings.files = number()?,
                "--only" => match words.next() {
                    Some(asked) if rows.contains(&asked.as_str()) => settings.only = Some(asked.clone()),
                    _ => return Err(Failure(format!("`{word}` needs one of {}", rows.join(", ")))),
                },
                "--without-buildah" => settings.buildah = false,
                _ => return Err(Failure(format!("unknown flag `{word}`"))),
            }
        }
        Ok(settings)
    }

    fn wants(&self, rows: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == rows)
    }
}

/// One measured case of one builder.
struct Case {
    name: String,
    builder: &'static str,
    times: Vec<Duration>,
}

impl Case {
    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times[times.len() / 2]
    }
}

/// Runs every case and prints the table.
pub(crate) fn run_all(arguments: &[String]) -> Result<(), Failure> {
    if let Some((first, rest)) = arguments.split_first() {
        match first.as_str() {
            "registry" => return registry::run_all(&Settings::parse(rest, &registry::ROWS)?),
            "cluster" => {
                return registry::cluster::run_all(&Settings::parse(rest, &registry::cluster::ROWS)?);
            }
            _ => {}
        }
    }
    let settings = Settings::parse(arguments, &ROWS)?;
    machine::provide(if settings.buildah { machine::BENCH_TOOLS } else { &machine::BENCH_TOOLS[..4] });
    let slipway = binary::build()?;
    let start = Instant::now();
    let base = input::base()?;
    let contexts = [("run", input::run_steps()?), ("copy", input::files(settings.files)?)];
    let mut builders: Vec<Box<dyn Builder>> = Vec::new();
    if settings.wants("builds") {
        builders.push(Box::new(Slipway::new(slipway.clone(), base.clone())?));
    }
    if !settings.wants("builds") {
        println!("builds are not measured");
    } else if settings.buildah && machine::is_root() && find("buildah").is_some() {
        builders.push(Box::new(Buildah::new(base)?));
    } else {
        println!("buildah is not measured: it needs root and its package");
    }
    let mut cases = Vec::new();
    for builder in &mut builders {
        for (kind, context) in &contexts {
            for push in [false, true] {
                cases.extend(measure(builder.as_mut(), kind, context, push, &slipway, &settings, start)?);
            }
        }
    }
    if machine::is_root() && settings.wants("shapes") {
        cases.extend(shapes::measure(&slipway, &settings)?);
    }
    if machine::is_root() && settings.wants("pulls") {
        cases.extend(pulls::measure(&slipway, &settings)?);
    }
    print(&cases);
    let file = house::folder("bench")?.join("result.json");
    let text = serde_json::to_string_pretty(&report(&settings, &cases))
        .map_err(failed("cannot write the result"))?;
    fs::write(&file, text + "\n").map_err(failed("cannot write the result"))?;
    println!("\n{} rounds at most, {}; {}", settings.rounds, seconds(start.elapsed()), house::shown(&file));
    Ok(())
}

/// Cold, cached and, for files, touched.
fn measure(
    builder: &mut dyn Builder,
    kind: &str,
    context: &Path,
    push: bool,
    slipway: &Path,
    settings: &Settings,
    start: Instant,
) -> Result<Vec<Case>, Failure> {
    let states = if kind == "run" { &["cold", "cached"][..] } else { &["cold", "cached", "touched"][..] };
    let with = if push { " + push" } else { "" };
    let mut cases: Vec<Case> = states
        .iter()
        .map(|state| Case {
            name: format!("{kind} {state}{with}"),
            builder: builder.name(),
            times: Vec::new(),
        })
        .collect();
    for round in 0..settings.rounds {
        if round > 0 && start.elapsed() > TIME_LIMIT {
            break;
        }
        builder.empty()?;
        let registry = match push {
            true => Some(crate::registry::Registry::start(slipway, &house::empty_folder("bench/registry")?)?),
            false => None,
        };
        let registry = registry.as_ref().map(|registry| registry.address.as_str());
        for (case, state) in cases.iter_mut().zip(states) {
            if *state == "touched" {
                input::touch(context, round)?;
            }
            case.times.push(builder.build(context, registry)?);
        }
    }
    for case in &cases {
        println!("{:8} {:22} {}", case.builder, case.name, seconds(case.median()));
    }
    Ok(cases)
}

fn print(cases: &[Case]) {
    println!("\n{:32} {:>10} {:>20} {:>8}", "case", "slipway", "other", "ratio");
    for ours in cases.iter().filter(|case| case.builder == "slipway") {
        let median = seconds(ours.median());
        let mut others =
            cases.iter().filter(|case| case.builder != "slipway" && case.name == ours.name).peekable();
        if others.peek().is_none() {
            println!("{:32} {median:>10} {:>20} {:>8}", ours.name, "-", "-");
        }
        for other in others {
            let ratio = other.median().as_secs_f64() / ours.median().as_secs_f64();
            let theirs = format!("{} {}", other.builder, seconds(other.median()));
            println!("{:32} {median:>10} {theirs:>20} {ratio:>7.2}x", ours.name);
        }
    }
}

fn report(settings: &Settings, cases: &[Case]) -> Value {
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| {
            let times: Vec<f64> = case.times.iter().map(Duration::as_secs_f64).collect();
            let median = case.median().as_secs_f64();
            json!({ "case": case.name, "builder": case.builder, "median_seconds": median, "seconds": times })
        })
        .collect();
    json!({ "rounds": settings.rounds, "files": settings.files, "cases": cases })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_checked() {
        let parse = |text: &str| {
            Settings::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), &ROWS)
        };
        let settings = parse("--rounds 5 --files 10 --without-buildah").unwrap();
        assert_eq!((settings.rounds, settings.files, settings.buildah), (5, 10, false));
        assert!(
            parse("--only pulls").unwrap().wants("pulls") && !parse("--only pulls").unwrap().wants("builds")
        );
        for bad in ["--rounds", "--rounds 0", "--rounds x", "--more", "--only", "--only x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        let times = [9, 1, 5].map(Duration::from_secs).to_vec();
        assert_eq!(Case { name: String::new(), builder: "x", times }.median(), Duration::from_secs(5));
    }
}
