//! Histories of a registry by chance: pushes, mounts, indexes, referrers, moves, deletes and undeletes by several writers, beside
//! collections and retention in processes of their own, all of them killed now and then. What was answered is there afterwards,
//! byte for byte; nothing is answered with a failure of the registry's own; and what nothing needs goes in the end.
//!
//! `SLIPWAY_INSTANTS` says how often the server is killed (`cargo xtask test --instants 200`), `SLIPWAY_SEED` what is drawn.

use crate::support::chance::{Chance, number, seed};
use crate::support::http::{Reply, request, try_request};
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, binary};
use serde_json::{Value, json};
use slipway_oci::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WRITERS: u64 = 3;
/// Different layers: few, so that writers meet at them.
const LAYERS: u64 = 9;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a tag may point at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// An image of one layer.
    Image(u64),
    /// An index over such images.
    Index(Vec<u64>),
    /// Something attached to an image.
    Attached(u64),
}

fn layer(number: u64) -> String {
    format!("layer {number}")
}

fn descriptor(kind: &str, bytes: &str) -> Value {
    json!({ "mediaType": kind, "digest": Digest::sha256(bytes.as_bytes()).to_string(), "size": bytes.len() })
}

impl Thing {
    fn kind(&self) -> &'static str {
        if matches!(self, Thing::Index(_)) { INDEX } else { MANIFEST }
    }

    fn text(&self) -> String {
        let image = |number: u64| {
            let config = descriptor("application/vnd.oci.empty.v1+json", "{}");
            let layers = [descriptor("text/plain", &layer(number))];
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
        };
        match self {
            Thing::Image(number) => image(*number).to_string(),
            Thing::Attached(number) => {
                let mut text = image(LAYERS + number);
                text["subject"] = descriptor(MANIFEST, &Thing::Image(*number).text());
                text.to_string()
            }
            Thing::Index(numbers) => {
                let images = numbers.iter().map(|number| Thing::Image(*number).text());
                let all: Vec<Value> = images.map(|text| descriptor(MANIFEST, &text)).collect();
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": all }).to_string()
            }
        }
    }

    fn digest(&self) -> Digest {
        Digest::sha256(self.text().as_bytes())
    }

    /// Its blobs.
    fn blobs(&self) -> Vec<String> {
        match self {
            Thing::Image(number) => vec!["{}".to_owned(), layer(*number)],
            Thing::Attached(number) => vec!["{}".to_owned(), layer(LAYERS + number)],
            Thing::Index(_) => Vec::new(),
        }
    }

    fn children(&self) -> Vec<Thing> {
        match self {
            Thing::Index(numbers) => numbers.iter().map(|number| Thing::Image(*number)).collect(),
            _ => Vec::new(),
        }
    }
}

/// What a writer knows of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Is(Thing),
    Gone,
    /// It did not hear how the last change ended.
    Unknown,
}

/// One writer, alone in its repository.
struct Writer {
    name: String,
    chance: Chance,
    tags: BTreeMap<String, State>,
    /// Everything that it ever sent.
    sent: BTreeSet<Thing>,
    lines: Vec<String>,
}

/// A request; `None` where the server was gone.
#[track_caller]
fn ask(address: &str, method: &str, path: &str, kind: &str, body: &str) -> Option<Reply> {
    let headers: &[(&str, &str)] = if kind.is_empty() { &[] } else { &[("content-type", kind)] };
    let reply = try_request(address, method, path, headers, body.as_bytes()).ok()?;
    assert!(reply.status < 500, "{method} {path}: {} {}", reply.status, reply.text());
    Some(reply)
}

impl Writer {
    fn new(number: u64, seed: u64) -> Writer {
        let chance = Chance(seed.wrapping_mul(31).wrapping_add(number));
        let (tags, sent) = (BTreeMap::new(), BTreeSet::new());
        Writer { name: format!("w{number}"), chance, tags, sent, lines: Vec::new() }
    }

    /// Retention takes these away when it likes.
    fn lasts(tag: &str) -> bool {
        !tag.starts_with("ci-")
    }

    /// Brings a blob there in one of the ways that there are. Whether the registry says that it has it.
    fn blob(&mut self, address: &str, bytes: &str) -> bool {
        let (name, digest) = (&self.name, Digest::sha256(bytes.as_bytes()));
        let uploads = format!("/v2/{name}/blobs/uploads/");
        let is = |reply: Option<Reply>, status: u16| reply.is_some_and(|reply| reply.status == status);
        let other = format!("&from=w{}", self.chance.below(WRITERS));
        let there = match self.chance.below(4) {
            0 => is(ask(address, "POST", &format!("{uploads}?mount={digest}{other}"), "", ""), 201),
            1 => is(ask(address, "POST", &format!("{uploads}?mount={digest}"), "", ""), 201),
            _ => is(ask(address, "HEAD", &format!("/v2/{name}/blobs/{digest}"), "", ""), 200),
        };
        if there {
            return true;
        }
        if self.chance.below(2) == 0 {
            return is(ask(address, "POST", &format!("{uploads}?digest={digest}"), "", bytes), 201);
        }
        let Some(begun) = ask(address, "POST", &uploads, "", "") else { return false };
        let place = begun.header("location").to_owned();
        is(ask(address, "PATCH", &place, "application/octet-stream", bytes), 202)
            && is(ask(address, "PUT", &format!("{place}?digest={digest}"), "", ""), 201)
    }

    /// Pushes something with all that it needs, as `reference`.
    fn push(&mut self, address: &str, thing: &Thing, reference: &str) -> bool {
        self.sent.insert(thing.clone());
        for child in thing.children() {
            let digest = child.digest().to_string();
            if !self.push(address, &child, &digest) {
                return false;
            }
        }
        thing.blobs().iter().all(|bytes| self.blob(address, bytes)) && {
            let path = format!("/v2/{}/manifests/{reference}", self.name);
            ask(address, "PUT", &path, thing.kind(), &thing.text()).is_some_and(|reply| reply.status == 201)
        }
    }

    fn tag(&mut self) -> String {
        let kind = if self.chance.below(3) == 0 { "ci-" } else { "t" };
        format!("{kind}{}", self.chance.below(5))
    }

    fn draw(&mut self) -> Thing {
        match self.chance.below(4) {
            0 => {
                let first = self.chance.below(LAYERS);
                Thing::Index(vec![first, (first + 1 + self.chance.below(3)) % LAYERS])
            }
            _ => Thing::Image(self.chance.below(LAYERS)),
        }
    }

    /// One step.
    fn step(&mut self, address: &str, operator: &Operator) {
        match self.chance.below(10) {
            0..5 => {
                let (tag, thing) = (self.tag(), self.draw());
                let done = self.push(address, &thing, &tag);
                self.lines.push(format!("push {thing:?} {tag} {done}"));
                self.tags.insert(tag, if done { State::Is(thing) } else { State::Unknown });
            }
            5 => {
                let thing = Thing::Attached(self.chance.below(LAYERS));
                let digest = thing.digest().to_string();
                let done = self.push(address, &thing, &digest);
                self.lines.push(format!("attach {thing:?} {done}"));
            }
            6 => {
                let tag = self.tag();
                let path = format!("/v2/{}/manifests/{tag}", self.name);
                let status = ask(address, "DELETE", &path, "", "").map_or(0, |reply| reply.status);
                self.lines.push(format!("delete {tag} {status}"));
                let was = self.tags.insert(
                    tag.clone(),
                    match status {
                        202 | 404 => State::Gone,
                        _ => State::Unknown,
                    },
                );
                let lost = status == 404 && matches!(was, Some(State::Is(_))) && Writer::lasts(&tag);
                assert!(!lost, "{tag} of {} is lost\n{}", self.name, self.lines.join("\n"));
            }
            7 | 8 => {
                let thing = self.draw();
                let path = format!("/v2/{}/manifests/{}", self.name, thing.digest());
                let status = ask(address, "DELETE", &path, "", "").map_or(0, |reply| reply.status);
                self.lines.push(format!("delete {thing:?} {status}"));
                let all = self.lines.join("\n");
                for (tag, state) in &mut self.tags {
                    if *state == State::Is(thing.clone()) {
                        assert!(
                            status != 404 || !Writer::lasts(tag),
                            "{tag} of {} is lost\n{all}",
                            self.name
                        );
                        *state = match status {
                            202 => State::Gone,
                            // an index needs it
                            409 => continue,
                            _ => State::Unknown,
                        };
                    }
                }
            }
            _ => {
                let thing = self.draw();
                let name = format!("{}@{}", self.name, thing.digest());
                let done = operator.command(&["undelete", &name]).status().unwrap().success();
                self.lines.push(format!("undelete {thing:?} {done}"));
                if done {
                    // with whatever tags it had
                    let gone = self.tags.values_mut().filter(|state| **state == State::Gone);
                    gone.for_each(|state| *state = State::Unknown);
                }
            }
        }
    }

    /// What it knows to be there is there, with all that it needs.
    fn check(&self, address: &str) {
        let known = self.tags.iter().filter_map(|(tag, state)| match state {
            State::Is(thing) => Some((tag, thing)),
            _ => None,
        });
        for (tag, thing) in known {
            let reply = request(address, "GET", &format!("/v2/{}/manifests/{tag}", self.name), &[], b"");
            if reply.status == 404 && !Writer::lasts(tag) {
                continue;
            }
            let shown = || format!("{tag} of {} as {thing:?}\n{}", self.name, self.lines.join("\n"));
            assert_eq!((reply.status, reply.text()), (200, thing.text()), "{}", shown());
            for whole in thing.children().iter().chain([thing]) {
                let at = format!("/v2/{}/manifests/{}", self.name, whole.digest());
                let reply = request(address, "GET", &at, &[], b"");
                assert_eq!((reply.status, reply.text()), (200, whole.text()), "{whole:?} {}", shown());
                for bytes in whole.blobs() {
                    let at = format!("/v2/{}/blobs/{}", self.name, Digest::sha256(bytes.as_bytes()));
                    let reply = request(address, "GET", &at, &[], b"");
                    assert_eq!((reply.status, reply.text()), (200, bytes), "{whole:?} {}", shown());
                }
            }
        }
    }
}

/// Who runs commands on the folder beside the server.
struct Operator {
    root: PathBuf,
    storage: PathBuf,
    settings: PathBuf,
}

impl Operator {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env("SLIPWAY_ROOT", &self.root).env("HOME", &self.root).arg("registry").args(words);
        command.arg("--storage").arg(&self.storage).arg("--config").arg(&self.settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Collects and retires until told to stop; some are killed.
    fn run(&self, chance: &mut Chance, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let words: &[&str] = match chance.below(4) {
                0 => &["retain"],
                1 => &["gc", "--grace", "3s", "--trash", "1s"],
                _ => &["gc", "--grace", "3s", "--trash", "2s"],
            };
            let mut child = self.command(words).spawn().unwrap();
            if chance.below(3) == 0 {
                std::thread::sleep(Duration::from_millis(chance.below(40)));
                // it may have ended by itself
                let _ = child.kill();
                child.wait().unwrap();
            } else {
                assert!(child.wait().unwrap().success(), "{words:?}");
            }
        }
    }
}

#[test]
fn what_was_answered_stays_and_what_nothing_needs_goes() {
    let slipway = Slipway::empty();
    let settings = slipway.path("slipway.toml");
    fs::write(&settings, "retention = [\"keep 1 newest in **:ci-*\"]\ntrash = \"2s\"\n").unwrap();
    let storage = slipway.path("storage");
    let operator = Operator { root: slipway.root.clone(), storage: storage.clone(), settings };
    let serve = || {
        let address = free_address();
        let mut command = slipway.command(["serve", "--listen", &address, "--collect", "off", "--config"]);
        let command = command.arg(&operator.settings).arg("--storage").arg(&storage).stderr(Stdio::null());
        Server::start(command, &address)
    };
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, seed())).collect();
    let mut chance = Chance(seed());
    for _ in 0..number("SLIPWAY_INSTANTS").unwrap_or(3) {
        let mut server = serve();
        let (address, stop) = (server.address.clone(), AtomicBool::new(false));
        let time = Duration::from_millis(500 + chance.below(2500));
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let (address, stop, operator) = (&address, &stop, &operator);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.step(address, operator);
                    }
                });
            }
            let (chance, stop_, operator) = (&mut chance, &stop, &operator);
            scope.spawn(move || operator.run(chance, stop_));
            std::thread::sleep(time);
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let server = serve();
        writers.iter().for_each(|writer| writer.check(&server.address));
    }
    let known = writers.iter().flat_map(|writer| writer.tags.values());
    assert!(known.filter(|state| matches!(state, State::Is(_))).count() > 3, "nothing was kept");
    // all is let go, and nothing stays: first what needs others
    let server = serve();
    for writer in &writers {
        for thing in writer.sent.iter().rev() {
            let path = format!("/v2/{}/manifests/{}", writer.name, thing.digest());
            ask(&server.address, "DELETE", &path, "", "");
        }
    }
    // removals that a kill cut off are taken over after six seconds
    std::thread::sleep(Duration::from_secs(7));
    slipway.ok(["registry", "gc", "--grace", "0", "--trash", "0", "--storage", storage.to_str().unwrap()]);
    let verified = slipway.ok(["registry", "verify", "--storage", storage.to_str().unwrap()]);
    assert!(verified.starts_with("0 contents"), "{verified}");
    let left: Vec<_> =
        fs::read_dir(storage.join("blobs/sha256")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
