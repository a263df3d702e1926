//! `cargo xtask bench registry`: what a registry does in a second, beside Debian's `docker-registry`, and nginx with the same
//! bytes as the floor for reads.
//!
//! Servers run on loopback, one load at a time, in turns within each round; requests are `wrk`'s over 16 kept connections, writes
//! those of 16 connections of our own ([`http`]). Reads are of one thing that is in memory: what is compared is the
//! servers' own work. Uploads are as durable as each server makes them; ours syncs every one.

pub(super) mod cluster;
mod collection;
mod http;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::http::Connection;
use self::server::Server;
use super::Settings;
use crate::process::{find, output, quiet};
use crate::{Failure, binary, failed, house, machine};

/// Connections of a load.
const CONNECTIONS: usize = 16;
/// How long a load of reads lasts, in seconds.
const SECONDS: u32 = 2;
/// Blobs of an upload load.
const UPLOADS: usize = 1500;
/// Tags of the long list, and how many one push names.
const TAGS: usize = 100_000;
const TAGS_AT_ONCE: usize = 100;
/// Layers of the image that skopeo pushes.
const LAYERS: usize = 50;
/// Rules that a request may have to go through.
const RULES: usize = 100;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is compared in one row.
struct Row {
    name: String,
    unit: &'static str,
    /// Whoever was measured, each with a value a round.
    values: Vec<(String, Vec<f64>)>,
}

impl Row {
    fn new(name: &str, unit: &'static str) -> Row {
        Row { name: name.to_owned(), unit, values: Vec::new() }
    }

    fn add(&mut self, who: &str, value: f64) {
        match self.values.iter_mut().find(|(name, _)| name == who) {
            Some((_, values)) => values.push(value),
            None => self.values.push((who.to_owned(), vec![value])),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The things that are pushed to every server, and lie beneath nginx.
struct Things {
    manifest: Vec<u8>,
    config: Blob,
    small: Blob,
    large: Blob,
    /// Where nginx finds them.
    root: PathBuf,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

/// What may be measured alone.
pub(super) const ROWS: [&str; 7] = ["reads", "rights", "uploads", "pages", "pushes", "mirrors", "collection"];

/// Measures every row, or those asked for, and prints the table.
pub(super) fn run_all(settings: &Settings) -> Result<(), Failure> {
    machine::provide(machine::REGISTRY_BENCH_TOOLS);
    let slipway = binary::build()?;
    let things = Things::make()?;
    let (rounds, mut rows) = (settings.rounds, Vec::new());
    for name in ROWS.into_iter().filter(|name| settings.wants(name)) {
        match name {
            "reads" => reads(&slipway, &things, rounds, &mut rows),
            "rights" => rights(&slipway, &things, rounds, &mut rows),
            "uploads" => uploads(&slipway, rounds, &mut rows),
            "pages" => pages(&slipway, &things, rounds, &mut rows),
            "pushes" => pushes(&slipway, rounds, &mut rows),
            "mirrors" => mirrors(&slipway, &things, rounds, &mut rows),
            _ => collection::measure(&slipway, &things, rounds, &mut rows),
        }?;
    }
    finish("registry.json", rounds, &rows)
}

/// Prints the table and keeps it.
fn finish(name: &str, rounds: usize, rows: &[Row]) -> Result<(), Failure> {
    print(rows);
    let file = house::folder("bench")?.join(name);
    let text =
        serde_json::to_string_pretty(&report(rounds, rows)).map_err(failed("cannot write the result"))?;
    fs::write(&file, text + "\n").map_err(failed("cannot write the result"))?;
    println!("\n{rounds} rounds; {}", house::shown(&file));
    Ok(())
}

impl Things {
    fn make() -> Result<Things, Failure> {
        let root = house::empty_folder("bench/registry-files")?;
        let blob = |name: &str, bytes: Vec<u8>| {
            fs::write(root.join(name), &bytes).map_err(failed("cannot write a blob"))?;
            let digest = output(Command::new("sha256sum").arg(root.join(name)))?;
            let hex = digest.split(' ').next().unwrap_or_default();
            Ok::<_, Failure>(Blob { digest: format!("sha256:{hex}"), bytes })
        };
        let config = blob("config", b"{\"architecture\":\"amd64\",\"os\":\"linux\"}".to_vec())?;
        let small = blob("small", super::input::text_of(1, 4096))?;
        let large = blob("large", super::input::text_of(2, 10 << 20))?;
        let layer = |blob: &Blob| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob.digest, "size": blob.bytes.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest, "size": config.bytes.len(),
            },
            "layers": [layer(&small), layer(&large)],
        });
        let manifest = serde_json::to_vec(&manifest).map_err(failed("cannot write a manifest"))?;
        for (path, bytes) in [
            ("manifests/1", &manifest),
            (&format!("blobs/{}", small.digest)[..], &small.bytes),
            (&format!("blobs/{}", large.digest)[..], &large.bytes),
        ] {
            let path = root.join("v2/bench").join(path);
            let made =
                path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
            made.map_err(failed("cannot write nginx's files"))?;
        }
        Ok(Things { manifest, config, small, large, root })
    }

    fn push(&self, server: &Server) -> Result<(), Failure> {
        let mut connection = Connection::open(&server.address)?;
        for blob in [&self.config, &self.small, &self.large] {
            upload(&mut connection, &blob.digest, &blob.bytes)?;
        }
        let kind = format!("Content-Type: {MANIFEST_TYPE}");
        expect(connection.ask("PUT", "/v2/bench/manifests/1", &[&kind], &self.manifest)?, 201, "a manifest")
    }

    /// What is read, by row.
    fn targets(&self) -> [(&'static str, String); 3] {
        [
            ("manifest by tag", "/v2/bench/manifests/1".to_owned()),
            ("blob of 4 KB", format!("/v2/bench/blobs/{}", self.small.digest)),
            ("blob of 10 MB", format!("/v2/bench/blobs/{}", self.large.digest)),
        ]
    }
}

fn expect(answer: http::Answer, status: u16, what: &str) -> Result<(), Failure> {
    match answer.status == status {
        true => Ok(()),
        false => {
            let words = String::from_utf8_lossy(&answer.body).into_owned();
            Err(Failure(format!("{what} was answered {} instead of {status}: {words}", answer.status)))
        }
    }
}

/// In two requests, which every registry knows.
fn upload(connection: &mut Connection, digest: &str, bytes: &[u8]) -> Result<(), Failure> {
    let begun = connection.ask("POST", "/v2/bench/blobs/uploads/", &[], b"")?;
    let place = begun.location.clone();
    expect(begun, 202, "a begun upload")?;
    let place = place.ok_or_else(|| Failure("an upload has no place".to_owned()))?;
    let joint = if place.contains('?') { '&' } else { '?' };
    let kind = "Content-Type: application/octet-stream";
    expect(
        connection.ask("PUT", &format!("{place}{joint}digest={digest}"), &[kind], bytes)?,
        201,
        "an upload",
    )
}

/// Requests a second.
fn load(server: &Server, target: &str, headers: &[String]) -> Result<f64, Failure> {
    load_at(server.name, &server.address, target, headers)
}

/// The same of whoever listens at `address`.
fn load_at(name: &str, address: &str, target: &str, headers: &[String]) -> Result<f64, Failure> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{SECONDS}s")]);
    for header in headers {
        command.args(["-H", header]);
    }
    let said = output(command.arg(format!("http://{address}{target}")))?;
    if said.contains("Non-2xx") {
        return Err(Failure(format!("{name} refused `{target}`:\n{said}")));
    }
    let rate = said.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).ok_or_else(|| Failure(format!("wrk said\n{said}")))
}

fn reads(slipway: &Path, things: &Things, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let storage = house::empty_folder("bench/registry")?;
    let mut servers = vec![Server::slipway(slipway, &storage, &[])?];
    servers.extend(Server::docker(&house::empty_folder("bench/registry-docker")?)?);
    for server in &servers {
        things.push(server)?;
    }
    servers.extend(Server::nginx(&things.root)?);
    let accept = [format!("Accept: {MANIFEST_TYPE}")];
    for (name, target) in things.targets() {
        let mut rate = Row::new(name, "requests/s");
        let mut cost = Row::new(&format!("{name}, processor"), "ms a request");
        for _ in 0..rounds {
            for server in &servers {
                let before = server.processor_time();
                let found = load(server, &target, &accept)?;
                let took = (server.processor_time() - before).as_secs_f64() * 1000.0;
                rate.add(server.name, found);
                cost.add(server.name, took / (found * f64::from(SECONDS)));
            }
        }
        rows.extend([rate, cost]);
    }
    let mut memory = Row::new("most memory under these loads", "MiB");
    for server in &servers {
        memory.add(server.name, server.most_memory() as f64 / f64::from(1 << 20));
    }
    rows.push(memory);
    Ok(())
}

/// The same reads with a token, and with rules before the one that decides.
fn rights(slipway: &Path, things: &Things, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let storage = house::folder("bench/registry")?;
    let (made, _) = quiet(Command::new(slipway).args(["registry", "token", "ci"]))?;
    let secret = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let words = String::from_utf8_lossy(&made.stderr).into_owned();
    let hash = words.split('"').find(|word| word.starts_with("sha256:"));
    let hash = hash.ok_or_else(|| Failure(format!("no hash in `{words}`")))?;
    let user = ["--token".to_owned(), format!("ci={hash}")];
    let rules = |count: usize| {
        let many = (0..count).map(|number| format!("ci may push in team/{number}/*-{number}/**"));
        let all = many.chain(["ci may pull in bench".to_owned()]);
        all.flat_map(|rule| ["--rule".to_owned(), rule]).collect::<Vec<_>>()
    };
    let open = Server::slipway(slipway, &storage, &[])?;
    let mut servers = Vec::new();
    for (name, count) in [("with a token", 0), ("and a hundred rules", RULES)] {
        let server = Server::slipway(slipway, &storage, &[&user[..], &rules(count)].concat())?;
        let header = format!("Authorization: Bearer {}", bearer(&server, &secret)?);
        servers.push((name, server, header));
    }
    for (name, target) in things.targets().into_iter().take(2) {
        let mut row = Row::new(&format!("{name}, rights"), "requests/s");
        for _ in 0..rounds {
            row.add("open", load(&open, &target, &[])?);
            for (name, server, header) in &servers {
                row.add(name, load(server, &target, std::slice::from_ref(header))?);
            }
        }
        rows.push(row);
    }
    Ok(())
}

/// What the token endpoint gives for the secret of `ci`.
fn bearer(server: &Server, secret: &str) -> Result<String, Failure> {
    let basic = format!("Authorization: Basic {}", base64(format!("ci:{secret}").as_bytes()));
    let mut connection = Connection::open(&server.address)?;
    let challenge = connection.ask("GET", "/v2/", &[], b"")?.challenge.unwrap_or_default();
    let service = challenge.split_once("service=\"").and_then(|(_, rest)| rest.split('"').next());
    let service = service.ok_or_else(|| Failure(format!("no service in `{challenge}`")))?;
    let target = format!("/token?service={service}&scope=repository:bench:pull");
    let answer = connection.ask("GET", &target, &[&basic], b"")?;
    let value: Value = serde_json::from_slice(&answer.body).map_err(failed("the token is no JSON"))?;
    let token = value["token"].as_str().map(str::to_owned);
    token.ok_or_else(|| Failure(format!("no token in {value}")))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// New blobs of 4 KB, by as many connections as a load has.
fn uploads(slipway: &Path, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut row = Row::new("upload of 4 KB", "uploads/s");
    for round in 0..rounds {
        let blobs = new_blobs(round)?;
        let mut servers = vec![Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?];
        servers.extend(Server::docker(&house::empty_folder("bench/registry-docker")?)?);
        for server in &servers {
            let (next, begun) = (AtomicUsize::new(0), Instant::now());
            let work = || -> Result<(), Failure> {
                let mut connection = Connection::open(&server.address)?;
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    upload(&mut connection, &blob.digest, &blob.bytes)?;
                }
                Ok(())
            };
            let done: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            done.into_iter().collect::<Result<(), Failure>>()?;
            row.add(server.name, UPLOADS as f64 / begun.elapsed().as_secs_f64());
        }
    }
    rows.push(row);
    Ok(())
}

fn new_blobs(round: usize) -> Result<Vec<Blob>, Failure> {
    let folder = house::empty_folder("bench/registry-blobs")?;
    let mut blobs = Vec::new();
    for number in 0..UPLOADS {
        let bytes = super::input::text_of((round * UPLOADS + number + 10) as u64, 4096);
        fs::write(folder.join(format!("{number:05}")), &bytes).map_err(failed("cannot write a blob"))?;
        blobs.push(bytes);
    }
    let names = (0..UPLOADS).map(|number| format!("{number:05}"));
    let digests = output(Command::new("sha256sum").args(names).current_dir(&folder))?;
    let hexes = digests.lines().filter_map(|line| line.split(' ').next());
    Ok(blobs
        .into_iter()
        .zip(hexes)
        .map(|(bytes, hex)| Blob { digest: format!("sha256:{hex}"), bytes })
        .collect())
}

/// The first, the last and a short list's page of tags.
fn pages(slipway: &Path, things: &Things, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let server = Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?;
    things.push(&server)?;
    let target = format!("/v2/bench/tags/list?n={TAGS_AT_ONCE}");
    let mut row = Row::new("page of 100 tags", "pages/s");
    let mut connection = Connection::open(&server.address)?;
    let digest = output(Command::new("sha256sum").arg(things.root.join("v2/bench/manifests/1")))?;
    let digest = format!("sha256:{}", digest.split(' ').next().unwrap_or_default());
    let kind = format!("Content-Type: {MANIFEST_TYPE}");
    let mut push = |from: usize| {
        let tags: Vec<String> =
            (from..from + TAGS_AT_ONCE).map(|number| format!("tag=t{number:06}")).collect();
        let target = format!("/v2/bench/manifests/{digest}?{}", tags.join("&"));
        expect(connection.ask("PUT", &target, &[&kind], &things.manifest)?, 201, "a push of many tags")
    };
    push(0)?;
    for _ in 0..rounds {
        row.add("of 100", load(&server, &target, &[])?);
    }
    for from in (TAGS_AT_ONCE..TAGS).step_by(TAGS_AT_ONCE) {
        push(from)?;
    }
    for _ in 0..rounds {
        row.add("of 100,000", load(&server, &target, &[])?);
        let last = format!("{target}&last=t{:06}", TAGS - TAGS_AT_ONCE - 1);
        row.add("of 100,000, the last", load(&server, &last, &[])?);
    }
    rows.push(row);
    Ok(())
}

/// An image of many small layers by skopeo, and how soon a server is there.
fn pushes(slipway: &Path, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut start = Row::new("from start to first connection", "ms");
    let mut push = Row::new("skopeo pushes 50 layers", "s");
    let layout = layers(slipway)?;
    for _ in 0..rounds {
        let mut servers = vec![Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?];
        servers.extend(Server::docker(&house::empty_folder("bench/registry-docker")?)?);
        for server in servers {
            start.add(server.name, server.started.as_secs_f64() * 1000.0);
            if find("skopeo").is_some() {
                let mut command = Command::new("skopeo");
                command.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]);
                command.arg(format!("oci:{}", layout.display()));
                command.arg(format!("docker://{}/fifty:1", server.address));
                let took: Duration = quiet(&mut command)?.1;
                push.add(server.name, took.as_secs_f64());
            }
        }
    }
    rows.extend([start, push]);
    Ok(())
}

/// Other registries' content: the first time, for as many as a load has at once, and afterwards.
fn mirrors(slipway: &Path, things: &Things, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let upstream = Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?;
    things.push(&upstream)?;
    let mut first = Row::new("16 clients get a blob of 10 MB through a mirror, the first time", "ms");
    let mut later = Row::new("manifest by tag through a mirror, later", "requests/s");
    let [(_, manifest), _, (_, blob)] = things.targets();
    let accept = [format!("Accept: {MANIFEST_TYPE}")];
    for _ in 0..rounds {
        let storage = house::empty_folder("bench/registry-mirror")?;
        let flags = ["--mirror".to_owned(), format!("up=http://{} host=*", upstream.address)];
        let mut servers = vec![Server::slipway(slipway, &storage, &flags)?];
        let storage = house::empty_folder("bench/registry-docker")?;
        servers.extend(Server::docker_mirror(&storage, &upstream.address)?);
        for server in &servers {
            let begun = Instant::now();
            let get = || {
                let answer = Connection::open(&server.address)?.ask("GET", &blob, &[], b"")?;
                let whole = answer.body.len() == things.large.bytes.len();
                if whole { expect(answer, 200, "a blob") } else { Err(Failure("a blob was cut".to_owned())) }
            };
            let done: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(get)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            done.into_iter().collect::<Result<(), Failure>>()?;
            first.add(server.name, begun.elapsed().as_secs_f64() * 1000.0);
            later.add(server.name, load(server, &manifest, &accept)?);
        }
    }
    rows.extend([first, later]);
    Ok(())
}

fn layers(slipway: &Path) -> Result<PathBuf, Failure> {
    let context = house::empty_folder("bench/registry-layers")?;
    let mut recipe = "FROM scratch\n".to_owned();
    for number in 0..LAYERS {
        fs::write(context.join(number.to_string()), super::input::text_of(number as u64 + 1, 20_000))
            .map_err(failed("cannot write a file"))?;
        recipe.push_str(&format!("COPY {number} /{number}\n"));
    }
    fs::write(context.join("Dockerfile"), recipe).map_err(failed("cannot write a recipe"))?;
    let (store, layout) = (house::empty_folder("bench/registry-store")?, context.join("layout"));
    let ours = |words: &[&str]| {
        let mut command = Command::new(slipway);
        command.env("SLIPWAY_ROOT", &store).args(words);
        command
    };
    quiet(ours(&["build", "--progress", "quiet", "-t", "fifty"]).arg(&context))?;
    quiet(ours(&["save", "--format", "oci-dir", "-o"]).arg(&layout).arg("fifty"))?;
    Ok(layout)
}

fn print(rows: &[Row]) {
    for row in rows {
        println!("\n{} ({})", row.name, row.unit);
        let first = row.values.first().map(|(_, values)| median(values));
        for (who, values) in &row.values {
            let value = median(values);
            let ratio = first.map_or(1.0, |first| first / value);
            println!("  {who:24} {value:>12.2} {ratio:>9.2}x");
        }
    }
}

fn report(rounds: usize, rows: &[Row]) -> Value {
    let values = |row: &Row| -> Vec<Value> {
        row.values
            .iter()
            .map(|(who, values)| json!({ "who": who, "median": median(values), "all": values }))
            .collect()
    };
    let rows: Vec<Value> =
        rows.iter().map(|row| json!({ "row": row.name, "unit": row.unit, "values": values(row) })).collect();
    json!({ "rounds": rounds, "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648s() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn a_rows_values_are_kept_by_who() {
        let mut row = Row::new("x", "y");
        for (who, value) in [("a", 3.0), ("b", 9.0), ("a", 1.0), ("a", 2.0)] {
            row.add(who, value);
        }
        assert_eq!(row.values.iter().map(|(_, values)| median(values)).collect::<Vec<_>>(), [2.0, 9.0]);
    }
}
