//! `cargo xtask demo`: from nothing to a running, served image on a real Debian base, and how long each part took.
//!
//! Everything lies under target/demo: the builder's store, the registry's storage, and the empty store of the one who
//! pulls, which is emptied at every run. The builder's store stays, so a second run shows the cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{quiet, run, seconds};
use crate::registry::Registry;
use crate::{Failure, base, binary, house, machine};

/// What was done, and how long it took.
struct Report(Vec<(String, Duration)>);

impl Report {
    fn part<T>(&mut self, what: &str, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        println!("\n== {what}");
        let start = Instant::now();
        let made = act()?;
        self.0.push((what.to_owned(), start.elapsed()));
        Ok(made)
    }
}

/// The whole demo.
pub(crate) fn run_all() -> Result<(), Failure> {
    machine::provide(machine::DEMO_TOOLS);
    let mut report = Report(Vec::new());
    let slipway = report.part("the static release binary", || {
        let binary = binary::build()?;
        println!("{}", house::shown(&binary));
        Ok(binary)
    })?;
    let base = report.part("a Debian base", base::provide)?;
    println!("{}: {}", house::shown(&base.archive), base.description);
    let ours = Store { slipway: slipway.clone(), root: house::folder("demo/builder")? };
    let theirs = Store { slipway: slipway.clone(), root: house::empty_folder("demo/puller")? };
    report.part("slipway import", || {
        ours.run(&["import".as_ref(), base.archive.as_ref(), "debian".as_ref()])
    })?;
    let storage = house::folder("demo/registry")?;
    let registry = report.part("slipway serve", || Registry::start(&slipway, &storage))?;
    let name = format!("{}/hello:demo", registry.address);
    let recipe = house::root().join("examples/hello");
    let cached = ours.has_run();
    let what = if cached { "slipway build, with what the last run left" } else { "slipway build" };
    report.part(what, || ours.run(&["build".as_ref(), "-t".as_ref(), name.as_ref(), recipe.as_ref()]))?;
    report.part("slipway push", || ours.words(&["push", &name]))?;
    report.part("slipway pull, into an empty store", || theirs.words(&["pull", &name]))?;
    report.part("slipway run", || theirs.words(&["run", "--rm", &name]))?;
    let digest = |store: &Store| store.output(&["inspect", "--format", "{{.Digest}}", &name]);
    let (built, pulled) = (digest(&ours)?, digest(&theirs)?);
    if built != pulled {
        return Err(Failure(format!("built {built}, but pulled {pulled}")));
    }
    ours.mark()?;
    println!("\n{name}\n{built}, the same where it was built and where it was pulled\n");
    for (what, took) in &report.0 {
        println!("{:>10}  {what}", seconds(*took));
    }
    if !cached {
        println!("\nOnce more, and the build comes from the cache: cargo xtask demo");
    }
    Ok(())
}

/// One store, and the binary to use it with.
struct Store {
    slipway: PathBuf,
    root: PathBuf,
}

impl Store {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.slipway);
        command.env("SLIPWAY_ROOT", &self.root);
        command
    }

    fn run(&self, arguments: &[&Path]) -> Result<(), Failure> {
        let words: Vec<String> = arguments.iter().map(|word| house::shown(word)).collect();
        println!("$ slipway {}", words.join(" "));
        run(self.command().args(arguments)).map(|_| ())
    }

    fn words(&self, arguments: &[&str]) -> Result<(), Failure> {
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        self.run(&arguments)
    }

    fn output(&self, arguments: &[&str]) -> Result<String, Failure> {
        let (output, _) = quiet(self.command().args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether an earlier demo went through with this store.
    fn has_run(&self) -> bool {
        self.marker().exists()
    }

    fn mark(&self) -> Result<(), Failure> {
        std::fs::write(self.marker(), "").map_err(crate::failed("cannot note that the demo went through"))
    }

    fn marker(&self) -> PathBuf {
        self.root.with_extension("done")
    }
}
