//! Caches that leave the machine: `--cache-to` and `--cache-from` (issue 9, point 1). A step that writes a random number
//! tells whether it ran: where two machines have one digest of it, one of them found it.

use crate::support::server::{Server, free_address};
use crate::support::user::User;
use crate::support::{Ended, Slipway, find, http};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Two stages, a layer from each kind of step, and one step that changes nothing.
const RECIPE: &str = "FROM BASE AS build\n\
     RUN cat /proc/sys/kernel/random/uuid > /made && head -c 300000 /dev/urandom > /large\nWORKDIR /w\nCOPY file /w/\nRUN true\n\
     FROM BASE\nCOPY --from=build /made /large /got/\nRUN cat /proc/sys/kernel/random/uuid > /last\n";
const FILES: [(&str, &str); 1] = [("file", "content")];

/// A registry with the base in it, and how to ask for it.
struct Place {
    server: Server,
    recipe: String,
}

impl Place {
    fn new(slipway: &Slipway, server: Server) -> Place {
        let base = server.name("base:1");
        slipway.ok(["tag", "base", &base]);
        slipway.ok(["push", "-q", &base]);
        let recipe = RECIPE.replace("BASE", &base);
        Place { server, recipe }
    }

    fn slipway(slipway: &Slipway) -> Place {
        let server = Server::slipway(slipway, &slipway.path("registry"));
        Place::new(slipway, server)
    }

    /// Builds on one machine.
    fn build(&self, on: &Slipway, flags: &[&str]) -> Ended {
        self.build_recipe(on, &self.recipe, flags)
    }

    fn build_recipe(&self, on: &Slipway, recipe: &str, flags: &[&str]) -> Ended {
        let name = self.server.name("app:1");
        on.build_with(&name, recipe, &FILES, &[&["--progress=plain"], flags].concat())
    }

    fn digest(&self, on: &Slipway) -> String {
        on.digest(&self.server.name("app:1"))
    }

    fn cache(&self, rest: &str) -> String {
        format!("type=registry,ref={}{rest}", self.server.name("team/cache:main"))
    }

    fn manifest(&self, path: &str, reference: &str) -> (String, Value) {
        let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/{path}/manifests/{reference}");
        let reply = http::request(&self.server.address, "GET", &target, &accept, &[]);
        assert_eq!(reply.status, 200, "{target}");
        (reply.header("docker-content-digest").to_owned(), reply.json())
    }
}

fn digests(manifest: &Value) -> BTreeSet<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// Blobs that a store has.
fn blobs(slipway: &Slipway) -> BTreeSet<String> {
    let entries = fs::read_dir(slipway.root.join("blobs/sha256")).unwrap();
    entries.map(|entry| format!("sha256:{}", entry.unwrap().file_name().into_string().unwrap())).collect()
}

#[track_caller]
fn executed(ended: Ended, count: usize) -> String {
    let text = ended.stderr.clone();
    ended.ok();
    assert!(text.contains(&format!(" {count} steps done")), "{count} steps:\n{text}");
    text
}

/// What an empty machine moves of a build that another one made and told to a registry: no byte of a layer.
fn nothing_moves(slipway: &Slipway, place: &Place) {
    executed(place.build(slipway, &["--push", "--cache-to", &place.cache(",mode=max")]), 6);
    let made = place.digest(slipway);
    let (_, cache) = place.manifest("team/cache", "main");
    let (_, image) = place.manifest("app", "1");
    assert_eq!(cache["artifactType"], "application/vnd.slipway.cache.v1");
    assert!(digests(&cache).len() > digests(&image).len(), "max has the other stage's layers: {cache:#}");
    let empty = slipway.another("empty");
    let flags = ["--push", "--cache-from", &place.cache(""), "--cache-to", &place.cache(",mode=max")];
    let text = executed(place.build(&empty, &flags), 0);
    assert_eq!(place.digest(&empty), made);
    assert!(text.contains("has these") && text.contains("already"), "{text}");
    let all: BTreeSet<String> = digests(&cache).union(&digests(&image)).cloned().collect();
    assert!(blobs(&empty).is_disjoint(&all), "a layer moved");
    // into another repository the layers are mounted
    let name = place.server.name("elsewhere/app:1");
    let context =
        empty.context("elsewhere", &[&[("Dockerfile", place.recipe.as_str())], &FILES[..]].concat());
    let other = slipway.another("other");
    let flags = ["--push", "--cache-from", &place.cache(""), "--progress=plain"];
    executed(other.build_folder(&name, &context, &flags), 0);
    assert!(blobs(&other).is_disjoint(&all), "a layer moved");
    assert_eq!(place.manifest("elsewhere/app", "1").0, place.manifest("app", "1").0);
    // what was found runs
    assert_eq!(other.shell(&name, "cat /last"), slipway.shell(&place.server.name("app:1"), "cat /last"));
}

#[test]
fn an_empty_machine_finds_all_and_moves_no_layer() {
    let slipway = Slipway::new();
    nothing_moves(&slipway, &Place::slipway(&slipway));
}

#[test]
fn debians_registry_keeps_a_cache_as_any_artifact() {
    slipway_skip::need!("docker-registry");
    let slipway = Slipway::new();
    let address = free_address();
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\nhttp:\n  addr: {address}\n",
        slipway.context("distribution", &[]).display()
    );
    let file = slipway.path("config.yml");
    fs::write(&file, config).unwrap();
    let log = fs::File::create(slipway.path("distribution.log")).unwrap();
    let mut command = Command::new(find("docker-registry").unwrap());
    let server = Server::start(command.arg("serve").arg(&file).stderr(log), &address);
    nothing_moves(&slipway, &Place::new(&slipway, server));
}

#[test]
fn min_has_what_made_the_image_and_max_all() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    executed(place.build(&slipway, &["--cache-to", &place.cache("")]), 6);
    // the other stage is made again, and what it makes is random: so is what follows
    let other = slipway.another("min");
    executed(place.build(&other, &["--cache-from", &place.cache("")]), 6);
    // a recipe of one stage needs no more than min
    let one = place.recipe.split_once("FROM").unwrap().1.split_once("FROM").unwrap().0;
    let one = format!("FROM{one}");
    executed(place.build_recipe(&slipway, &one, &["--cache-to", &place.cache(""), "--no-cache"]), 4);
    let another = slipway.another("one");
    executed(place.build_recipe(&another, &one, &["--cache-from", &place.cache("")]), 0);
    assert_eq!(place.digest(&another), place.digest(&slipway));
}

#[test]
fn several_sources_are_asked_in_turn_and_what_is_not_there_is_said() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    executed(place.build(&slipway, &["--cache-to", &place.cache(",mode=max")]), 6);
    let branch = format!("type=registry,ref={}", place.server.name("team/cache:branch"));
    let gone = format!("type=registry,ref={}/team/cache:x", free_address());
    let other = slipway.another("other");
    let flags = ["--cache-from", &gone, "--cache-from", &branch, "--cache-from", &place.cache("")];
    let text = executed(place.build(&other, &flags), 0);
    assert!(text.contains("team/cache:branch` is not there yet"), "{text}");
    assert!(text.contains("team/cache:x` cannot be used"), "{text}");
    assert_eq!(place.digest(&other), place.digest(&slipway));
    // an image without a cache, and one that holds something else
    let third = slipway.another("third");
    let base = format!("type=registry,ref={}", place.server.name("base:1"));
    let text = executed(place.build(&third, &["--cache-from", &base]), 6);
    assert!(text.contains("image without a cache"), "{text}");
    let to_nowhere = format!("type=registry,ref={}/cache:1", free_address());
    place.build(&third, &["--cache-to", &to_nowhere]).fails(1);
    let text = executed(place.build(&third, &["--cache-to", &format!("{to_nowhere},ignore-error=true")]), 0);
    assert!(text.contains("warning: the cache was not written"), "{text}");
}

#[test]
fn only_what_is_new_is_sent() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    executed(place.build(&slipway, &["--cache-to", &place.cache(",mode=max")]), 6);
    let (_, before) = place.manifest("team/cache", "main");
    let changed = format!("{}RUN echo more > /more\n", place.recipe);
    let text =
        executed(place.build_recipe(&slipway, &changed, &["--cache-to", &place.cache(",mode=max")]), 1);
    let (_, after) = place.manifest("team/cache", "main");
    assert_eq!(digests(&after).difference(&digests(&before)).count(), 1);
    // the new layer and the table
    assert!(text.contains(" 2 sent, "), "{text}");
}

#[test]
fn a_folder_is_a_cache_too() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    let folder = slipway.path("folder");
    let (to, from) = (
        format!("type=local,dest={},mode=max", folder.display()),
        format!("type=local,src={}", folder.display()),
    );
    let missing = executed(place.build(&slipway, &["--cache-to", &to, "--cache-from", &from]), 6);
    assert!(missing.contains("is not there yet"), "{missing}");
    let other = slipway.another("other");
    executed(place.build(&other, &["--cache-from", &from, "--cache-to", &to]), 0);
    assert_eq!(place.digest(&other), place.digest(&slipway));
    let app = place.server.name("app:1");
    assert_eq!(
        other.shell(&app, "cat /last"),
        slipway.shell(&app, "cat /last"),
        "its layers come from there"
    );
    // another machine's, with the folder gone before a layer is read: what cannot be had is made again
    let third = slipway.another("third");
    executed(place.build(&third, &["--cache-from", &from]), 0);
    fs::rename(&folder, slipway.path("moved")).unwrap();
    let more = format!("{}RUN test -s /got/large && cat /last > /again\n", place.recipe);
    let ended = place.build_recipe(&third, &more, &[]);
    let text = ended.stderr.clone();
    ended.ok();
    assert!(text.contains("cannot be used, and is made again"), "{text}");
    assert_ne!(third.shell(&app, "cat /last"), slipway.shell(&app, "cat /last"));
    assert_eq!(third.shell(&app, "cat /last"), third.shell(&app, "cat /again"));
}

/// Writes a blob of a layout under its digest and answers that.
fn put(folder: &Path, bytes: &[u8]) -> String {
    let digest = slipway_oci::Digest::sha256(bytes);
    fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    digest.to_string()
}

fn read(folder: &Path, digest: &str) -> Value {
    let bytes = fs::read(folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Changes a cache in a folder so that every digest in it is right.
fn poison(folder: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let mut manifest = read(folder, index["manifests"][0]["digest"].as_str().unwrap());
    let mut table = read(folder, manifest["config"]["digest"].as_str().unwrap());
    change(&mut manifest, &mut table);
    let bytes = serde_json::to_vec(&table).unwrap();
    manifest["config"]["size"] = bytes.len().into();
    manifest["config"]["digest"] = put(folder, &bytes).into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    index["manifests"][0]["size"] = bytes.len().into();
    index["manifests"][0]["digest"] = put(folder, &bytes).into();
    fs::write(folder.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

/// What is true: a recipe without chance, and the one digest of an honest build of it.
struct Truth {
    slipway: Slipway,
    place: Place,
    recipe: String,
    digest: String,
}

impl Truth {
    fn new() -> Truth {
        let slipway = Slipway::new();
        let place = Place::slipway(&slipway);
        let recipe = place
            .recipe
            .replace("cat /proc/sys/kernel/random/uuid", "echo honest")
            .replace("head -c 300000 /dev/urandom", "yes | head -c 300000");
        executed(place.build_recipe(&slipway, &Truth::more(&recipe), &[]), 7);
        let digest = place.digest(&slipway);
        Truth { slipway, place, recipe, digest }
    }

    /// The recipe with a step that no cache knows, and that reads what others made.
    fn more(recipe: &str) -> String {
        format!("{recipe}RUN cat /got/made /last > /sum\n")
    }

    /// A cache of all but that step, in a folder.
    fn cache(&self, name: &str) -> std::path::PathBuf {
        let folder = self.slipway.path(name);
        let writer = self.slipway.another(&format!("of-{name}"));
        let to = format!("type=local,dest={},mode=max", folder.display());
        executed(self.place.build_recipe(&writer, &self.recipe, &["--cache-to", &to]), 6);
        folder
    }

    /// Builds with that cache on an empty machine: it is said what is wrong with it, and the image is the honest one.
    fn holds(&self, name: &str, what: &str) {
        let machine = self.slipway.another(&format!("machine-{name}"));
        let from = format!("type=local,src={}", self.slipway.path(name).display());
        let recipe = Truth::more(&self.recipe);
        let ended = self.place.build_recipe(&machine, &recipe, &["--cache-from", &from]);
        let text = ended.stderr.clone();
        ended.ok();
        assert!(text.contains(what), "{name}: {text}");
        assert_eq!(self.place.digest(&machine), self.digest, "{name}");
        let app = self.place.server.name("app:1");
        assert_eq!(machine.shell(&app, "cat /sum"), "honest\nhonest\n", "{name}");
    }
}

#[test]
fn a_cache_that_lies_costs_time_and_nothing_else() {
    let truth = Truth::new();
    // each layer is said to be another one
    poison(&truth.cache("swapped"), |_, table| table["layers"].as_array_mut().unwrap().rotate_left(1));
    truth.holds("swapped", "is not asked any more");
    // the table is no table, or does not go with its manifest
    poison(&truth.cache("version"), |_, table| table["version"] = 9.into());
    truth.holds("version", "use a newer slipway");
    poison(&truth.cache("fewer"), |manifest, _| drop(manifest["layers"].as_array_mut().unwrap().pop()));
    truth.holds("fewer", "cannot be used");
    poison(&truth.cache("beyond"), |_, table| table["results"][0]["layer"] = 99.into());
    truth.holds("beyond", "which it does not carry");
}

#[test]
fn a_damaged_cache_costs_time_and_nothing_else() {
    let truth = Truth::new();
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    let layers = |folder: &Path, damage: &dyn Fn(&mut Vec<u8>)| {
        for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap().map(Result::unwrap) {
            let mut bytes = fs::read(entry.path()).unwrap();
            if !bytes.starts_with(b"{") {
                damage(&mut bytes);
                fs::write(entry.path(), bytes).unwrap();
            }
        }
    };
    layers(&truth.cache("cut"), &cut);
    // a layer of another length is known for none; what changed nothing needs no layer
    truth.holds("cut", " 6 steps done");
    layers(&truth.cache("damaged"), &flip);
    truth.holds("damaged", "cannot be used, and is made again");
    let folder = truth.cache("table");
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let manifest = read(&folder, index["manifests"][0]["digest"].as_str().unwrap());
    let name = manifest["config"]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let table = folder.join("blobs/sha256").join(name);
    let text = fs::read_to_string(&table).unwrap().replacen("honest", "HONEST", 1);
    fs::write(&table, text).unwrap();
    truth.holds("table", "is damaged");
}

#[test]
fn a_cache_beside_an_image_leaves_its_digest() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    let recipe = "FROM BASE\nRUN cat /proc/sys/kernel/random/uuid > /made\nCOPY file /\n";
    let recipe = recipe.replace("BASE", &place.server.name("base:1"));
    executed(place.build_recipe(&slipway, &recipe, &["--push"]), 2);
    let plain = place.manifest("app", "1").0;
    executed(place.build_recipe(&slipway, &recipe, &["--push", "--cache-to", "type=inline"]), 0);
    assert_eq!(place.manifest("app", "1").0, plain);
    let from = format!("type=registry,ref={}", place.server.name("app:1"));
    let other = slipway.another("other");
    executed(place.build_recipe(&other, &recipe, &["--push", "--cache-from", &from]), 0);
    assert_eq!(place.digest(&other), plain);
    // docker's way to ask for one
    let argument = ["--push", "--build-arg", "BUILDKIT_INLINE_CACHE=1"];
    let text = executed(place.build_recipe(&slipway, &format!("{recipe}RUN true\n"), &argument), 1);
    assert!(!text.contains("is not used by the recipe"), "{text}");
    let third = slipway.another("third");
    executed(place.build_recipe(&third, &format!("{recipe}RUN true\n"), &["--cache-from", &from[18..]]), 0);
    // without a push there is nothing to attach it to, which is said
    let text = place.build_recipe(&slipway, &recipe, &["--cache-to", "type=inline"]).stderr;
    assert!(text.contains("without --push there is none"), "{text}");
}

#[test]
fn privileged_a_users_build_hits_what_roots_build_told() {
    slipway_skip::need_root!();
    let Some(user) = User::new() else { return slipway_skip::skip("there is no user of the tests") };
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    // the one's context lies in a repository, the other's does not
    let epoch = "--source-date-epoch=1700000000";
    executed(place.build(&slipway, &[epoch, "--cache-to", &place.cache(",mode=max")]), 6);
    let context = user.context(&[&[("Dockerfile", place.recipe.as_str())], &FILES[..]].concat());
    let name = place.server.name("app:1");
    let users = Slipway::of(user);
    let mut command =
        users.command(["build", epoch, "--progress=plain", "-t", &name, "--cache-from", &place.cache("")]);
    command.arg(&context).env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8");
    executed(crate::support::run(&mut command), 0);
    assert_eq!(users.digest(&name), place.digest(&slipway));
}

#[test]
fn no_secret_is_in_a_cache() {
    let slipway = Slipway::new();
    let place = Place::slipway(&slipway);
    let recipe = format!(
        "FROM {}\nARG TOKEN\nRUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=key test -n \"$KEY\" && test -s /run/secrets/key\n",
        place.server.name("base:1")
    );
    let folder = slipway.path("folder");
    let to = format!("type=local,dest={},mode=max", folder.display());
    fs::write(slipway.path("key"), "s3cr3t-value").unwrap();
    let secret = format!("id=key,src={}", slipway.path("key").display());
    executed(place.build_recipe(&slipway, &recipe, &["--cache-to", &to, "--secret", &secret]), 1);
    for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap().map(Result::unwrap) {
        let bytes = fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "{}", entry.path().display());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let text = String::from_utf8_lossy(&bytes).replace(&place.server.address, "");
        assert!(!text.contains(&format!("\"{}\"", host.trim())), "{text}");
        assert!(!text.contains(slipway.path("").to_str().unwrap()), "{text}");
    }
    // whoever has another secret finds the step all the same, as the recipe asked for
    let other = slipway.another("other");
    let from = format!("type=local,src={}", folder.display());
    executed(place.build_recipe(&other, &recipe, &["--cache-from", &from]), 0);
}

/// A registry that says of a cache what it likes takes nothing away that is here.
#[test]
fn a_cache_whose_table_is_said_to_be_a_blob_of_the_store_takes_none_away() {
    let slipway = Slipway::new();
    let all = blobs(&slipway);
    for blob in all.clone() {
        let size =
            fs::metadata(slipway.root.join("blobs/sha256").join(&blob["sha256:".len()..])).unwrap().len();
        for said in [1, size - 1, size, size + 1] {
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.slipway.cache.v1+json", "digest": blob, "size": said,
                },
                "layers": [],
            });
            let answers = http::Answers::start(move |_, target, _| {
                let (status, body) = match target {
                    "/v2/" => (200, "{}".to_owned()),
                    _ if target.contains("/manifests/") => (200, manifest.to_string()),
                    _ => (404, "{}".to_owned()),
                };
                let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
                let length = body.len();
                format!(
                    "HTTP/1.1 {status} X\r\n{kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                )
            });
            let flags = ["--progress=plain", "--cache-from", &format!("{}/team/cache:main", answers.address)];
            let text = executed(slipway.build_with("made", "FROM base\nRUN echo it > /it\n", &[], &flags), 1);
            assert!(text.contains("cannot be used"), "{text}");
            slipway.ok(["rmi", "made"]);
            slipway.ok(["prune", "-f", "--only=cache"]);
            assert!(all.is_subset(&blobs(&slipway)), "{blob} {said}");
        }
    }
}
