//! What `cargo xtask test` runs, and with which shapes of layers (docs/storage.md).
//!
//! Layers have one of three shapes, and the machine's best is what every test has by itself. The plain run tries the files
//! that lay the most weight on layers in the others too; `--shapes` runs everything that reaches a layer in each.
//!
//! Servers lie on one of four pairs of engines (docs/cluster.md), and a folder with SQLite is what every test has by itself.
//! The plain run tries a sample on the others; `--cluster` runs everything that speaks the protocol on each.

use std::process::Command;

use crate::process::{find, output};
use crate::{Failure, binary, house, machine};

/// The words of `SLIPWAY_LAYERS`.
const SHAPES: [&str; 3] = ["mounted", "loop", "unpacked"];

/// Whose tests reach a layer that something runs on.
const REACHING: [&str; 3] = ["slipway", "slipway-runtime", "slipway-builder"];

/// Files of `tests/end_to_end/` that are run in each shape always: what they build, run and break is layers, and they take
/// seconds.
const ALWAYS: [&str; 9] =
    ["build::", "caches::", "changes::", "copy::", "crash::", "full::", "layers::", "newer::", "run::"];

/// What may lie below a server besides a folder and SQLite: the words of `SLIPWAY_ENGINES`, with the program that it takes and
/// whether a server's settings can say it (elsewhere the tests within the registry alone make one).
const PAIRS: [(&str, &str, bool); 3] = [
    ("folder+postgresql", "initdb", false),
    ("versitygw+postgresql", "versitygw", true),
    ("garage+postgresql", "garage", true),
];

/// What speaks the protocol, within the registry and from outside, to a server that may have any pair of engines.
const SPEAKING: [&str; 3] = ["server::tests::", "content::object::", "model::replicas::"];
const SPEAKING_TO_SERVERS: [&str; 18] = [
    "access::",
    "callers::",
    "clients::",
    "conforming::",
    "crowds::",
    "faults::",
    "indexes::",
    "interop::",
    "login::",
    "mirrored::",
    "outside::",
    "page::",
    "private::",
    "registry::",
    "remote::",
    "replicas::",
    "replicas_kept::",
    "visitors::",
];

/// The sample of them that the plain run tries on each pair: seconds.
const SAMPLE: [&str; 2] = ["server::tests::hostile::", "server::tests::uploads::"];
const SAMPLE_OF_SERVERS: [&str; 2] = ["conforming::", "registry::what_is_pushed_is_pulled"];

/// The caller's words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Tests to run alone; without any, everything.
    pub(super) filter: Vec<String>,
    /// `--shapes`.
    shapes: bool,
    /// `--cluster`.
    pub(super) cluster: bool,
    /// `--instants N`.
    instants: Option<u32>,
}

impl Asked {
    pub(super) fn parse(words: &[String]) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--shapes" => asked.shapes = true,
                "--cluster" => asked.cluster = true,
                "--instants" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    asked.instants = Some(number.ok_or(Failure("--instants needs a number".to_owned()))?);
                }
                _ => asked.filter.push(word.clone()),
            }
        }
        Ok(asked)
    }

    /// The first round: with the shape that the machine chooses by itself.
    pub(super) fn first(&self) -> Round {
        self.round(None, ["--workspace", "--"].into_iter().chain(self.filter()))
    }

    /// The rounds after it, for the other shapes that the machine has.
    fn others(&self, chosen: &str, has: impl Fn(&str) -> bool) -> Vec<Round> {
        let shapes = SHAPES.into_iter().filter(|shape| *shape != chosen && has(shape));
        let packages = REACHING.into_iter().flat_map(|name| ["--package", name]);
        let all: Vec<&str> = packages.chain(["--"]).chain(self.filter()).collect();
        // the same packages as in the first round: nothing is compiled again
        let quick = ["--workspace", "--test", "end_to_end", "--"].into_iter().chain(ALWAYS).collect();
        let words = match (self.shapes, self.filter.is_empty()) {
            (true, _) => all,
            (false, true) => quick,
            (false, false) => return Vec::new(),
        };
        shapes.map(|shape| self.round(Some(shape), words.iter().copied())).collect()
    }

    /// The same for this machine, whose binary was built by the first round.
    pub(super) fn others_here(&self, triple: &str) -> Result<Vec<Round>, Failure> {
        // who is not root has folders, whatever is asked for
        if !machine::is_root() {
            return Ok(Vec::new());
        }
        let slipway = house::target().join(triple).join("debug/slipway");
        let store = house::empty_folder("xtask/shapes")?;
        let found = |wanted: &str| {
            let mut info = Command::new(&slipway);
            info.args(["info", "--format", "{{.Layers.Shape}}"]).env("SLIPWAY_LAYERS", wanted);
            output(info.env("SLIPWAY_ROOT", &store)).map(|shape| shape.trim().to_owned())
        };
        Ok(self.others(&found("auto")?, |shape| {
            let has = found(shape).is_ok_and(|found| found == shape);
            if !has {
                println!("layers cannot be {shape} on this machine: what is theirs is not run");
            }
            has
        }))
    }

    /// The rounds for pairs of engines, of which the machine has those that `has` the program of.
    fn pairs(&self, has: impl Fn(&str) -> bool) -> Vec<Round> {
        let (within, without): (&[&str], &[&str]) = match (self.cluster, self.filter.is_empty()) {
            (true, _) => (&SPEAKING, &SPEAKING_TO_SERVERS),
            (false, true) => (&SAMPLE, &SAMPLE_OF_SERVERS),
            (false, false) => return Vec::new(),
        };
        let round = |(pair, _, servers): (&'static str, _, _)| {
            let without = if servers { without } else { &[] };
            let all = within.iter().chain(without).copied();
            // the same packages as in the first round: nothing is compiled again
            let mut words = vec!["--workspace", "--lib"];
            words.extend(servers.then_some(["--test", "end_to_end"]).into_iter().flatten());
            words.push("--");
            match self.filter.is_empty() {
                true => words.extend(all),
                // a filter of the caller's names tests; what is no server's it must not name
                false => words.extend(self.filter()),
            }
            Round { engines: Some(pair), ..self.round(None, words.into_iter()) }
        };
        // each of them has the database
        let here = |(_, program, _): &(&str, &str, bool)| has("initdb") && has(program);
        PAIRS.into_iter().filter(here).map(round).collect()
    }

    /// The same for this machine.
    pub(super) fn pairs_here(&self) -> Vec<Round> {
        self.pairs(|program| {
            let has = find(program).is_some();
            if !has {
                println!("`{program}` is not on this machine: servers are not tried on it");
            }
            has
        })
    }

    fn filter(&self) -> impl Iterator<Item = &str> {
        self.filter.iter().map(String::as_str)
    }

    fn round<'w>(&self, shape: Option<&'static str>, words: impl Iterator<Item = &'w str>) -> Round {
        let words = words.map(str::to_owned).collect();
        Round { shape, engines: None, words, instants: self.instants, cluster: self.cluster }
    }
}

/// One command of cargo's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// The shape of layers; `None` leaves it to the machine.
    shape: Option<&'static str>,
    /// What lies below servers; `None` is their folder.
    engines: Option<&'static str>,
    words: Vec<String>,
    instants: Option<u32>,
    /// Whether tests of replicas take their time.
    cluster: bool,
}

impl Round {
    pub(super) fn command(&self, triple: &str) -> Command {
        let mut command = binary::cargo(triple, "test");
        command.args(["--locked", "--no-fail-fast"]).args(&self.words);
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            command.env("RUST_TEST_THREADS", threads().to_string());
        }
        if let Some(shape) = self.shape {
            println!("== with layers {shape}");
            command.env("SLIPWAY_LAYERS", shape);
        }
        if let Some(engines) = self.engines {
            println!("== with servers on {engines}");
            command.env("SLIPWAY_ENGINES", engines);
        }
        if self.cluster {
            command.env("SLIPWAY_CLUSTER", "whole");
        }
        if let Some(instants) = self.instants {
            command.env("SLIPWAY_INSTANTS", instants.to_string());
        }
        command
    }
}

/// How many tests run at once: more than half of their time is spent waiting, for the disk and for programs that they start.
/// On two cores the recipes' tests take 90 s with two at once and 49 with four.
fn threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_its_round() {
        let all = "--package slipway --package slipway-runtime --package slipway-builder --";
        let always = format!("--workspace --test end_to_end -- {}", ALWAYS.join(" "));
        let (loops, folders) = (format!("loop: {always}"), format!("unpacked: {always}"));
        let every = ["mounted", "loop", "unpacked"].map(|shape| format!("{shape}: {all}"));
        for (line, chosen, has, expected) in [
            ("", "mounted", &SHAPES[..], vec![loops.clone(), folders.clone()]),
            ("", "loop", &["loop", "unpacked"], vec![folders]),
            ("", "unpacked", &["unpacked"], vec![]),
            ("crash", "mounted", &SHAPES, vec![]),
            ("--shapes", "mounted", &SHAPES, every[1..].to_vec()),
            ("--shapes", "unpacked", &SHAPES, every[..2].to_vec()),
            ("killed --shapes --instants 200", "mounted", &SHAPES[..2], vec![format!("{} killed", every[1])]),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let asked = Asked::parse(&words).expect("words");
            let rounds = asked.others(chosen, |shape| has.contains(&shape));
            let shown = |round: &Round| format!("{}: {}", round.shape.unwrap_or("-"), round.words.join(" "));
            assert_eq!(rounds.iter().map(shown).collect::<Vec<_>>(), expected, "{line}");
            assert_eq!(asked.first().shape, None);
        }
        assert!(Asked::parse(&["--instants".to_owned()]).is_err());
    }

    #[test]
    fn every_pair_of_engines_has_its_round() {
        let all = "--workspace --lib --test end_to_end --";
        let whole = [&SPEAKING[..], &SPEAKING_TO_SERVERS].concat().join(" ");
        let sample = [&SAMPLE[..], &SAMPLE_OF_SERVERS].concat().join(" ");
        let folder = "folder+postgresql: --workspace --lib --";
        let within = SAMPLE.join(" ");
        for (line, has, expected) in [
            ("", &["initdb"][..], vec![format!("{folder} {within}")]),
            (
                "",
                &["initdb", "versitygw"],
                vec![format!("{folder} {within}"), format!("versitygw+postgresql: {all} {sample}")],
            ),
            ("", &["versitygw", "garage"], vec![]),
            ("crash", &["initdb", "versitygw"], vec![]),
            ("--shapes", &["initdb"], vec![format!("{folder} {within}")]),
            (
                "--cluster",
                &["initdb", "versitygw", "garage"],
                vec![
                    format!("{folder} {}", SPEAKING.join(" ")),
                    format!("versitygw+postgresql: {all} {whole}"),
                    format!("garage+postgresql: {all} {whole}"),
                ],
            ),
            (
                "--cluster faults",
                &["initdb", "garage"],
                vec![format!("{folder} faults"), format!("garage+postgresql: {all} faults")],
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let asked = Asked::parse(&words).expect("words");
            let rounds = asked.pairs(|program| has.contains(&program));
            let shown =
                |round: &Round| format!("{}: {}", round.engines.unwrap_or("-"), round.words.join(" "));
            assert_eq!(rounds.iter().map(shown).collect::<Vec<_>>(), expected, "{line}");
            assert_eq!((asked.first().engines, asked.first().cluster), (None, line.contains("--cluster")));
        }
    }
}
