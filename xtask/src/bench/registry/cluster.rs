//! `cargo xtask bench cluster`: what a replica does in a second over PostgreSQL and versitygw, beside the same program over a folder,
//! Debian's `docker-registry` over the same store, and the store itself.
//!
//! All of them are on this machine and share its processors, engines too: ratios say what replicas cost, not what a cluster can do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::http::Connection;
use super::server::{Server, free};
use super::{Blob, CONNECTIONS, MANIFEST_TYPE, Row, Settings, TAGS_AT_ONCE, Things, UPLOADS};
use super::{expect, layers, load, new_blobs, upload};
use crate::process::{find, output, quiet};
use crate::{Failure, binary, failed, house, machine};

/// What may be measured alone.
pub(in crate::bench) const ROWS: [&str; 5] = ["reads", "cold", "uploads", "pushes", "pages"];

/// Manifests that a cold server is asked for, once each.
const COLD: usize = 400;
/// Tags of the long list.
const TAGS: usize = 1_000_000;
/// Bytes of the blob that memory is measured with.
const HUGE: u64 = 512 << 20;

/// A key of the store, in the only form that every store takes.
const KEY: (&str, &str) =
    ("GK736c697077617900736c6970", "6e6f742d612d7365637265742d6e6f742d612d7365637265742d6e6f742d612d");

/// Where replicas lie; killed when this goes.
pub(super) struct Engines {
    children: Vec<Child>,
    folder: std::path::PathBuf,
    store: String,
}

impl Drop for Engines {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // millions of rows and blobs of half a GiB are nobody's to keep
        if let Some(all) = self.folder.parent() {
            let _ = fs::remove_dir_all(all);
        }
    }
}

impl Engines {
    fn start() -> Result<Engines, Failure> {
        let missing = |name: &str| Failure(format!("`{name}` is not on this machine"));
        let initdb = find("initdb").ok_or_else(|| missing("initdb"))?;
        let programs = initdb.parent().ok_or_else(|| missing("initdb"))?.to_owned();
        let gateway = find("versitygw").ok_or_else(|| missing("versitygw"))?;
        // PostgreSQL refuses to be root, and whose it is must reach it
        let folder = std::env::temp_dir().join(format!("slipway-bench-{}", std::process::id()));
        for name in ["", "store", "store/registry", "store/docker", "side"] {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(failed(format!("cannot create `{}`", path.display())))?;
        }
        let place = folder.join("database");
        fs::create_dir(&place).map_err(failed("cannot create the database's folder"))?;
        let unprivileged = |program: &Path| {
            let mut command = Command::new("setpriv");
            if machine::is_root() {
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            }
            command.arg(program).current_dir("/");
            command
        };
        if machine::is_root() {
            quiet(Command::new("chown").arg("postgres:postgres").arg(&place))?;
        }
        let data = place.join("data");
        quiet(
            unprivileged(&initdb).arg("-D").arg(&data).args(["-U", "slipway", "-A", "trust", "-E", "UTF8"]),
        )?;
        let mut server = unprivileged(&programs.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&place).args(["-c", "listen_addresses="]);
        let store = free()?;
        let mut keeper = Command::new(gateway);
        keeper.args([
            "--port",
            &store,
            "--access",
            KEY.0,
            "--secret",
            KEY.1,
            "--quiet",
            "posix",
            "--sidecar",
        ]);
        keeper.arg(folder.join("side")).arg(folder.join("store"));
        let mut engines = Engines { children: Vec::new(), folder: place, store };
        for command in [&mut server, &mut keeper] {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            engines.children.push(command.spawn().map_err(failed("cannot start an engine"))?);
        }
        let begun = Instant::now();
        while engines.tell("postgres", "SELECT 1").is_err() || Connection::open(&engines.store).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(Failure("the engines do not answer".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(engines)
    }

    fn tell(&self, database: &str, statement: &str) -> Result<String, Failure> {
        let psql = find("psql").ok_or_else(|| Failure("`psql` is not on this machine".to_owned()))?;
        let mut command = Command::new(psql);
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "slipway", "-d", database, "-c", statement]);
        output(command.arg("-h").arg(&self.folder))
    }

    /// A replica of the registry of this name, with more words of `content`.
    fn replica(&self, slipway: &Path, name: &str, words: &str) -> Result<Server, Failure> {
        let known =
            self.tell("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"))?;
        if known == "0" {
            self.tell("postgres", &format!("CREATE DATABASE {name}"))?;
        }
        let mut command = Command::new(slipway);
        let address = free()?;
        command.args(["serve", "--listen", &address, "--storage"]).arg(house::empty_folder("bench/replica")?);
        command
            .arg("--database")
            .arg(format!("postgresql:///{name}?host={}&user=slipway", self.folder.display()));
        command.arg("--content").arg(format!("s3://registry/{name} endpoint=http://{} {words}", self.store));
        command.env("AWS_ACCESS_KEY_ID", KEY.0).env("AWS_SECRET_ACCESS_KEY", KEY.1);
        Server::start("replica", command, address)
    }

    /// Debian's `docker-registry` over the same store; `None` where it is not.
    fn docker(&self) -> Result<Option<Server>, Failure> {
        let storage = format!(
            "  s3:\n    accesskey: {}\n    secretkey: {}\n    region: us-east-1\n    regionendpoint: http://{}\n    bucket: docker\n    secure: false\n    v4auth: true\n  redirect:\n    disable: true\n",
            KEY.0, KEY.1, self.store
        );
        Server::docker_over(&storage).or_else(|failure| {
            println!("docker-registry over the store is not measured: {failure}");
            Ok(None)
        })
    }
}

/// Measures every row, or those asked for.
pub(in crate::bench) fn run_all(settings: &Settings) -> Result<(), Failure> {
    machine::provide(machine::REGISTRY_BENCH_TOOLS);
    machine::provide(machine::CLUSTER_BENCH_TOOLS);
    let slipway = binary::build()?;
    let things = Things::make()?;
    let engines = Engines::start()?;
    let (rounds, mut rows) = (settings.rounds, Vec::new());
    for name in ROWS.into_iter().filter(|name| settings.wants(name)) {
        match name {
            "reads" => reads(&slipway, &engines, &things, rounds, &mut rows),
            "cold" => cold(&slipway, &engines, rounds, &mut rows),
            "uploads" => uploads(&slipway, &engines, rounds, &mut rows),
            "pushes" => pushes(&slipway, &engines, rounds, &mut rows),
            _ => pages(&slipway, &engines, &things, rounds, &mut rows),
        }?;
    }
    super::finish("cluster.json", rounds, &rows)
}

/// What is remembered, and bytes; beside the program over a folder and the store itself.
fn reads(
    slipway: &Path,
    engines: &Engines,
    things: &Things,
    rounds: usize,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let embedded = Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?;
    let (replica, linking) =
        (engines.replica(slipway, "reads", "")?, engines.replica(slipway, "reads", "redirect=all")?);
    things.push(&embedded)?;
    things.push(&replica)?;
    let docker = engines.docker()?;
    docker.iter().try_for_each(|server| things.push(server))?;
    let accept = [format!("Accept: {MANIFEST_TYPE}")];
    let [(by_tag, tag), _, (large, blob)] = things.targets();
    let digest = output(Command::new("sha256sum").arg(things.root.join("v2/bench/manifests/1")))?;
    let digest = format!("/v2/bench/manifests/sha256:{}", digest.split(' ').next().unwrap_or_default());
    for (name, target) in [(by_tag, &tag), ("manifest by digest", &digest)] {
        let mut row = Row::new(&format!("{name}, remembered"), "requests/s");
        for _ in 0..rounds {
            row.add("over a folder", load(&embedded, target, &accept)?);
            row.add("a warm replica", load(&replica, target, &accept)?);
            if let Some(server) = &docker {
                row.add("docker-registry over the store", load(server, target, &accept)?);
            }
        }
        rows.push(row);
    }
    let mut row = Row::new(&format!("{large}, no cache"), "requests/s");
    let link = Connection::open(&linking.address)?.ask("GET", &blob, &[], b"")?.location;
    let link = link.ok_or_else(|| Failure("no address in the store".to_owned()))?;
    for _ in 0..rounds {
        row.add("the store itself", super::load_at("the store", &engines.store, &link, &[])?);
        row.add("a replica", load(&replica, &blob, &[])?);
        if let Some(server) = &docker {
            row.add("docker-registry over the store", load(server, &blob, &[])?);
        }
    }
    rows.push(row);
    memory(&replica, rows)
}

/// What a replica had in memory at most, after all that and a blob of half a GiB in and out.
fn memory(replica: &Server, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let path = house::folder("bench/registry-blobs")?.join("huge");
    let made = fs::File::create(&path).and_then(|file| file.set_len(HUGE));
    made.map_err(failed("cannot make a large blob"))?;
    let digest = output(Command::new("sha256sum").arg(&path))?;
    let digest = format!("sha256:{}", digest.split(' ').next().unwrap_or_default());
    let mut row = Row::new("most memory: these loads, and 512 MiB in and out", "MiB");
    upload(&mut Connection::open(&replica.address)?, &digest, &vec![0; HUGE as usize])?;
    let answer =
        Connection::open(&replica.address)?.ask("GET", &format!("/v2/bench/blobs/{digest}"), &[], b"")?;
    if answer.body.len() as u64 != HUGE {
        return Err(Failure("a large blob was cut".to_owned()));
    }
    row.add("a replica", replica.most_memory() as f64 / f64::from(1 << 20));
    rows.push(row);
    let _ = fs::remove_file(&path);
    Ok(())
}

/// Work of as many connections as a load has, each taking the next of `count` things; how many a second.
fn together(
    server: &Server,
    count: usize,
    work: impl Fn(&mut Connection, usize) -> Result<(), Failure> + Sync,
) -> Result<f64, Failure> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let one = || -> Result<(), Failure> {
        let mut connection = Connection::open(&server.address)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            work(&mut connection, number)?;
        }
    };
    let done: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    done.into_iter().collect::<Result<(), Failure>>()?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Manifests that a server that has just begun is asked for by tag, each once.
fn cold(slipway: &Path, engines: &Engines, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let fill = |server: &Server| -> Result<(), Failure> {
        let mut connection = Connection::open(&server.address)?;
        let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        upload(&mut connection, empty, b"{}")?;
        let kind = format!("Content-Type: {MANIFEST_TYPE}");
        together(server, COLD, |connection, number| {
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{empty}","size":2}},"layers":[],"annotations":{{"n":"{number}"}}}}"#
            );
            let place = format!("/v2/bench/manifests/c{number}");
            expect(connection.ask("PUT", &place, &[&kind], text.as_bytes())?, 201, "a manifest")
        })?;
        Ok(())
    };
    fill(&engines.replica(slipway, "cold", "")?)?;
    let has_docker = engines.docker()?.map(|server| fill(&server)).transpose()?.is_some();
    let mut row = Row::new("manifests by tag, each for the first time", "requests/s");
    let accept = format!("Accept: {MANIFEST_TYPE}");
    for _ in 0..rounds {
        let mut servers = vec![engines.replica(slipway, "cold", "")?];
        servers.extend(if has_docker { engines.docker()? } else { None });
        for server in &servers {
            let rate = together(server, COLD, |connection, number| {
                let place = format!("/v2/bench/manifests/c{number}");
                expect(connection.ask("GET", &place, &[&accept], b"")?, 200, "a manifest")
            })?;
            row.add(server.name, rate);
        }
    }
    rows.push(row);
    Ok(())
}

/// Requests to each engine so far.
fn asked(server: &Server) -> Result<BTreeMap<String, f64>, Failure> {
    let numbers = Connection::open(&server.address)?.ask("GET", "/metrics", &[], b"")?;
    let text = String::from_utf8_lossy(&numbers.body).into_owned();
    let of = |line: &str| {
        let rest = line.strip_prefix("slipway_dependency_requests_total{dependency=\"")?;
        let (name, value) = rest.split_once("\"} ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(of).collect())
}

/// New blobs of 4 KB, and what each asks of the engines.
fn uploads(slipway: &Path, engines: &Engines, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut rate = Row::new("upload of 4 KB", "uploads/s");
    let mut costs = Row::new("upload of 4 KB in one request, what it asks", "requests an upload");
    for round in 0..rounds {
        let blobs: Vec<Blob> = new_blobs(round)?;
        let embedded = Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?;
        let replica = engines.replica(slipway, "uploads", "")?;
        let put = |connection: &mut Connection, number: usize| {
            let place = format!("/v2/bench/blobs/uploads/?digest={}", blobs[number].digest);
            let kind = "Content-Type: application/octet-stream";
            expect(connection.ask("POST", &place, &[kind], &blobs[number].bytes)?, 201, "an upload")
        };
        rate.add("over a folder", together(&embedded, UPLOADS, put)?);
        let before = asked(&replica)?;
        rate.add("a replica", together(&replica, UPLOADS, put)?);
        for (name, count) in asked(&replica)? {
            let one = (count - before.get(&name).copied().unwrap_or_default()) / UPLOADS as f64;
            costs.add(&format!("of the {name}"), one);
        }
    }
    rows.extend([rate, costs]);
    Ok(())
}

/// An image of many small layers by skopeo.
fn pushes(slipway: &Path, engines: &Engines, rounds: usize, rows: &mut Vec<Row>) -> Result<(), Failure> {
    if find("skopeo").is_none() {
        return Ok(());
    }
    let mut push = Row::new("skopeo pushes 50 layers", "s");
    let layout = layers(slipway)?;
    for round in 0..rounds {
        let servers = [
            ("over a folder", Server::slipway(slipway, &house::empty_folder("bench/registry")?, &[])?),
            ("a replica", engines.replica(slipway, &format!("push{round}"), "")?),
        ];
        for (name, server) in &servers {
            let mut command = Command::new("skopeo");
            command.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]);
            command.arg(format!("oci:{}", layout.display()));
            command.arg(format!("docker://{}/fifty:1", server.address));
            push.add(name, quiet(&mut command)?.1.as_secs_f64());
        }
    }
    rows.push(push);
    Ok(())
}

/// The first and the last page of a short and of a long list of tags.
fn pages(
    slipway: &Path,
    engines: &Engines,
    things: &Things,
    rounds: usize,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let replica = engines.replica(slipway, "pages", "")?;
    things.push(&replica)?;
    // by hand: what is measured is reading
    let fill = |from: usize, to: usize| {
        engines.tell(
            "pages",
            &format!(
                "SET search_path = slipway; ALTER TABLE tags DISABLE TRIGGER USER;
                 INSERT INTO tags (repository, name, digest, updated)
                    SELECT repository, 't' || lpad(n::text, 7, '0'), digest, 1 FROM tags, generate_series({from}, {to}) AS n WHERE name = '1';
                 ALTER TABLE tags ENABLE TRIGGER USER; ANALYZE tags"
            ),
        )
    };
    let target = format!("/v2/bench/tags/list?n={TAGS_AT_ONCE}");
    let mut row = Row::new("page of 100 tags", "pages/s");
    fill(0, TAGS_AT_ONCE)?;
    for _ in 0..rounds {
        row.add("of 100", load(&replica, &target, &[])?);
    }
    fill(TAGS_AT_ONCE + 1, TAGS)?;
    let last = format!("{target}&last=t{:07}", TAGS - TAGS_AT_ONCE - 1);
    for _ in 0..rounds {
        row.add("of 1,000,000", load(&replica, &target, &[])?);
        row.add("of 1,000,000, the last", load(&replica, &last, &[])?);
    }
    rows.push(row);
    Ok(())
}
