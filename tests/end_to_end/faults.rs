//! Three replicas, their clients, and everything that may happen to them: replicas and stores that are killed, a database that is
//! restarted, wires that are slow, cut and silent. What holds afterwards holds always: tags have one story, what was answered is
//! there byte for byte at every replica, nothing is kept that nobody needs, and no failure is the registry's own.
//!
//! `cargo xtask test --cluster` draws many histories (`--instants N` says how many), the plain run one; `SLIPWAY_SEED` says which.

use super::linear::{Act, Event, is_linear};
use super::replicas::{MANIFEST, bytes, manifest, path};
use crate::support::chance::{Chance, number, seed};
use crate::support::http::{Reply, try_request};
use crate::support::server::{Server, free_address, keys};
use crate::support::wire::{End, Mode, Wire};
use crate::support::{Slipway, wait_until};
use slipway_oci::Digest;
use slipway_registry::server::storage::content::{BucketConfig, Content, ObjectContent};
use slipway_registry::server::storage::{Seals, Storage, UploadId};
use slipway_skip::engines::{Postgres, STORE_KEY, Store, Teller};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

const REPLICAS: usize = 3;
const CLIENTS: u64 = 5;
const TAGS: u64 = 3;
/// How long after it moved a tag may be read at another replica as it was (docs/cluster.md).
const STALE: Duration = Duration::from_secs(1);

/// What a history is about, and what is written down of it.
struct Stage<'a> {
    addresses: Vec<String>,
    server: &'a Teller,
    /// The name of its database.
    name: String,
    begun: Instant,
    over: AtomicBool,
    next: AtomicU32,
    /// What happened to each tag.
    tags: Mutex<BTreeMap<String, Vec<Event>>>,
    /// Manifests by their number.
    written: Mutex<BTreeMap<Digest, u32>>,
    /// Blobs of manifests that were acknowledged: where, which, and what they are made of.
    kept: Mutex<Vec<(String, Digest, Vec<u8>)>>,
}

/// Ends a history, however its stage ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Stage<'_> {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// A request at any replica. What is no whole answer, or says that an engine is away, is none.
    fn ask(
        &self,
        chance: &mut Chance,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        let address = chance.of(&self.addresses).clone();
        self.ask_at(&address, method, path, headers, body)
    }

    fn ask_at(
        &self,
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        let reply = try_request(address, method, path, headers, body).ok()?;
        let length = reply.header("content-length").parse().unwrap_or(reply.body.len());
        if reply.status == 503 {
            assert!(!reply.header("retry-after").is_empty(), "{method} {path}: when to come back");
            return None;
        }
        assert!(reply.status < 500, "{method} {path}: {} {}", reply.status, reply.text());
        (method == "HEAD" || reply.body.len() == length).then_some(reply)
    }

    /// Asks until there is an answer, or the history is over.
    fn insist(
        &self,
        chance: &mut Chance,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        while !self.is_over() {
            if let Some(reply) = self.ask(chance, method, path, headers, body) {
                return Some(reply);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Pushes a blob in one request. Answers whether it was acknowledged.
    fn push(&self, chance: &mut Chance, repository: &str, blob: &[u8]) -> bool {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(blob));
        self.insist(chance, "POST", &path, &[], blob).is_some_and(|reply| {
            assert_eq!(reply.status, 201, "{}", reply.text());
            true
        })
    }

    /// Pushes a blob in chunks, each at any replica, going on from what whoever is asked says.
    fn push_in_chunks(&self, chance: &mut Chance, repository: &str, blob: &[u8]) -> bool {
        let digest = Digest::sha256(blob);
        'session: while !self.is_over() {
            let start = format!("/v2/{repository}/blobs/uploads/");
            let Some(begun) = self.insist(chance, "POST", &start, &[], b"") else { return false };
            assert_eq!(begun.status, 202, "{}", begun.text());
            let place = path(&begun);
            let mut offset = 0;
            while offset < blob.len() {
                // what one byte is said by says no byte too
                let end = (offset + 2 + chance.below(blob.len() as u64) as usize).min(blob.len());
                let range = format!("{offset}-{}", end - 1);
                let sent =
                    self.ask(chance, "PATCH", &place, &[("content-range", &range)], &blob[offset..end]);
                if let Some(sent) = &sent
                    && sent.status == 404
                {
                    continue 'session;
                }
                // taken, or in somebody's hands still, or lost: the registry knows
                let Some(told) = self.insist(chance, "GET", &place, &[], b"") else { return false };
                if told.status == 404 {
                    continue 'session;
                }
                assert_eq!(told.status, 204, "{}", told.text());
                let last = told.header("range").split('-').nth(1).and_then(|last| last.parse::<usize>().ok());
                let length = last.filter(|last| *last > 0).map_or(0, |last| last + 1);
                if sent.as_ref().is_some_and(|sent| sent.status == 202) {
                    assert!(length >= end, "{length} of acknowledged {end} bytes");
                }
                assert!(length <= blob.len());
                if length == offset {
                    std::thread::sleep(Duration::from_millis(20));
                }
                offset = length;
            }
            let close = format!("{place}?digest={digest}");
            match self.ask(chance, "PUT", &close, &[], b"").map(|reply| (reply.status, reply.text())) {
                Some((201, _)) => return true,
                // begun by a request before, or ended by one whose answer was lost
                Some((404 | 409 | 416, _)) | None => {
                    let blob = format!("/v2/{repository}/blobs/{digest}");
                    let there = self.insist(chance, "HEAD", &blob, &[], b"");
                    if there.is_some_and(|reply| reply.status == 200) {
                        return true;
                    }
                }
                Some((status, words)) => panic!("closed with {status}: {words}"),
            }
        }
        false
    }

    /// Does something to a tag and writes it down.
    fn act_on_tag(&self, chance: &mut Chance) {
        let tag = format!("t{}", chance.below(TAGS));
        let path = format!("/v2/tags/manifests/{tag}");
        let begun = self.now();
        let act = match chance.below(10) {
            0 => {
                let told = self.ask(chance, "DELETE", &path, &[], b"").map(|reply| reply.status == 202);
                (Act::Delete(told.unwrap_or_default()), told.is_some())
            }
            1..=3 => {
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                let told = self.put(chance, &path, number, &[]);
                assert!(told.is_none_or(|done| done), "nothing forbids it");
                (Act::Write(number), told.is_some())
            }
            4 | 5 => {
                let Some(Some(seen)) = self.look(chance, &path, begun, &tag) else { return };
                let digest = self.digest_of(seen);
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                let begun = self.now();
                let told = self.put(chance, &path, number, &[("if-match", &format!("\"{digest}\""))]);
                let ended = told.map(|_| self.now());
                return self
                    .note(&tag, Event { begun, ended, act: Act::Move(seen, number, told == Some(true)) });
            }
            _ => {
                self.look(chance, &path, begun, &tag);
                return;
            }
        };
        let (act, is_told) = act;
        self.note(&tag, Event { begun, ended: is_told.then(|| self.now()), act });
    }

    /// Puts a manifest; `None` where nobody knows whether that was done.
    fn put(&self, chance: &mut Chance, path: &str, number: u32, more: &[(&str, &str)]) -> Option<bool> {
        let text = manifest(b"{}", b"{}", &number.to_string());
        self.written.lock().unwrap().insert(Digest::sha256(&text), number);
        let headers = [&[("content-type", MANIFEST)][..], more].concat();
        let reply = self.ask(chance, "PUT", path, &headers, &text)?;
        assert!(matches!(reply.status, 201 | 412), "{path}: {} {}", reply.status, reply.text());
        Some(reply.status == 201)
    }

    /// Reads a tag and writes down what it said; `None` where there was no answer.
    fn look(&self, chance: &mut Chance, path: &str, begun: u64, tag: &str) -> Option<Option<u32>> {
        let reply = self.ask(chance, "GET", path, &[("accept", MANIFEST)], b"")?;
        let seen = self.seen(path, &reply);
        let begun = begun.saturating_sub(STALE.as_nanos() as u64);
        self.note(tag, Event { begun, ended: Some(self.now()), act: Act::Read(seen) });
        Some(seen)
    }

    fn seen(&self, path: &str, reply: &Reply) -> Option<u32> {
        match reply.status {
            404 => None,
            200 => {
                let digest = Digest::sha256(&reply.body);
                assert_eq!(reply.header("docker-content-digest"), digest.to_string(), "{path}: wrong bytes");
                Some(self.written.lock().unwrap()[&digest])
            }
            status => panic!("{path}: {status} {}", reply.text()),
        }
    }

    fn digest_of(&self, number: u32) -> Digest {
        let written = self.written.lock().unwrap();
        written.iter().find(|(_, other)| **other == number).map(|(digest, _)| digest.clone()).unwrap()
    }

    fn note(&self, tag: &str, event: Event) {
        self.tags.lock().unwrap().entry(tag.to_owned()).or_default().push(event);
    }

    /// Pushes an image whose layer is its own, mounts that elsewhere, and remembers what was acknowledged.
    fn push_image(&self, chance: &mut Chance) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let large = chance.below(6) == 0;
        let layer = bytes(2 + chance.below(if large { 18 << 20 } else { 200_000 }) as usize, number);
        let digest = Digest::sha256(&layer);
        if !self.push_in_chunks(chance, "images", &layer) {
            return;
        }
        let put = |chance: &mut Chance, repository: &str| {
            let path = format!("/v2/{repository}/manifests/i{number}");
            let text = manifest(b"{}", &layer, &number.to_string());
            let reply = self.insist(chance, "PUT", &path, &[("content-type", MANIFEST)], &text);
            reply.is_some_and(|reply| {
                assert_eq!(reply.status, 201, "{path}: {}", reply.text());
                true
            })
        };
        if !put(chance, "images") {
            return;
        }
        self.kept.lock().unwrap().push(("images".to_owned(), digest.clone(), layer.clone()));
        let mount = format!("/v2/mounted/blobs/uploads/?mount={digest}&from=images");
        if self.insist(chance, "POST", &mount, &[], b"").is_some_and(|reply| reply.status == 201)
            && put(chance, "mounted")
        {
            self.kept.lock().unwrap().push(("mounted".to_owned(), digest, layer));
        }
    }

    /// Pushes what nobody will need, waits for no grace, and needs it after all now and then: whatever a replica collects meanwhile,
    /// who was told that it is there can name it.
    fn push_rubbish(&self, chance: &mut Chance, client: u64) {
        let blob = format!("rubbish {client} {}", chance.below(3)).into_bytes();
        if !self.push(chance, "rubbish", &blob) {
            return;
        }
        let digest = Digest::sha256(&blob);
        if chance.below(3) == 0 {
            let path = format!("/v2/rubbish/manifests/r{client}");
            let text = manifest(b"{}", &blob, "rubbish");
            let put = self.insist(chance, "PUT", &path, &[("content-type", MANIFEST)], &text);
            assert!(put.is_none_or(|reply| reply.status == 201), "it was just pushed");
            self.insist(chance, "DELETE", &path, &[], b"");
            self.insist(
                chance,
                "DELETE",
                &format!("/v2/rubbish/manifests/{}", Digest::sha256(&text)),
                &[],
                b"",
            );
        }
        // as if it had been so for long
        let old =
            format!("UPDATE slipway.blobs SET loose = 0 WHERE digest = '{digest}' AND loose IS NOT NULL");
        // it may be away
        let _ = self.server.try_tell(&self.name, &old);
    }

    fn client(&self, number: u64, seed: u64) {
        let mut chance = Chance(seed.wrapping_mul(31).wrapping_add(number));
        while !self.is_over() {
            match chance.below(12) {
                0 => self.push_image(&mut chance),
                1 => self.push_rubbish(&mut chance, number),
                _ => self.act_on_tag(&mut chance),
            }
        }
    }
}

/// What the replicas of one history lie on, and what leads there.
struct Engines {
    server: Postgres,
    store: Store,
    databases: Vec<Wire>,
    stores: Vec<Wire>,
}

impl Engines {
    fn start() -> Option<Engines> {
        let (server, store) = (Postgres::start()?, Store::start()?);
        let socket = End::Socket(server.folder().join(".s.PGSQL.5432"));
        let node = |node| End::Address(store.endpoint_of(node).trim_start_matches("http://").to_owned());
        let databases = (0..REPLICAS).map(|_| Wire::lay(socket.clone())).collect();
        let stores = (0..REPLICAS).map(|replica| Wire::lay(node(replica))).collect();
        Some(Engines { server, store, databases, stores })
    }

    fn replica(&self, slipway: &Slipway, number: usize, database: &str, address: &str) -> Server {
        let port = self.databases[number].address.rsplit(':').next().unwrap();
        let place = format!("postgres://slipway@127.0.0.1:{port}/{database}?sslmode=disable");
        let content =
            format!("s3://registry/{database} endpoint=http://{} cache=32MiB", self.stores[number].address);
        let config = slipway.path(&format!("{database}-{number}.toml"));
        let text = format!(
            "database = \"{place}\"\ncontent = \"{content}\"\ntrash = \"0\"\ncollect = \"1000/s every 1s after 1h\"\n\
             retention = [\"untagged after 1d in **\"]\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = slipway.command(["serve", "--listen", address, "--storage"]);
        command.arg(slipway.path(&format!("{database}-{number}"))).arg("--config").arg(config).envs(keys());
        let log = std::fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
        Server::start(command.stderr(log), address)
    }

    /// Something happens, for a while.
    fn fault(
        &mut self,
        chance: &mut Chance,
        replicas: &mut [Server],
        again: &dyn Fn(&Engines, usize) -> Server,
    ) {
        let which = chance.below(REPLICAS as u64) as usize;
        let time = Duration::from_millis(100 + chance.below(900));
        match chance.below(8) {
            0 | 1 => {
                replicas[which].kill();
                std::thread::sleep(time);
                replicas[which] = again(self, which);
            }
            2 => self.server.restart(),
            3 => {
                self.store.stop_node(which);
                std::thread::sleep(time);
                self.store.restart_node(which);
            }
            kind => {
                let mode = [Mode::Slow, Mode::Silent, Mode::Silent, Mode::Cut][kind as usize - 4];
                let wires = if chance.below(2) == 0 { &self.databases } else { &self.stores };
                wires[which].set(mode, false);
                std::thread::sleep(time);
                // what was held is carried after all, or lost
                wires[which].set(Mode::Whole, chance.below(2) == 0);
            }
        }
    }
}

/// One history, and what has to hold after it.
fn history(engines: &mut Engines, slipway: &Slipway, seed: u64, time: Duration) {
    let database = engines.server.database();
    let name = database.split(['/', '?']).nth(3).unwrap().to_owned();
    let addresses: Vec<String> = (0..REPLICAS).map(|_| free_address()).collect();
    let mut replicas: Vec<Server> =
        (0..REPLICAS).map(|number| engines.replica(slipway, number, &name, &addresses[number])).collect();
    let teller = engines.server.teller();
    let stage = Stage {
        addresses: addresses.clone(),
        server: &teller,
        name: name.clone(),
        begun: Instant::now(),
        over: AtomicBool::new(false),
        next: AtomicU32::new(1),
        tags: Mutex::default(),
        written: Mutex::default(),
        kept: Mutex::default(),
    };
    let mut chance = Chance(seed);
    for repository in ["tags", "images", "mounted", "rubbish"] {
        assert!(stage.push(&mut chance, repository, b"{}"));
    }
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let stage = &stage;
                    move || stage.client(client, seed)
                })
            })
            .collect();
        let again =
            |engines: &Engines, number: usize| engines.replica(slipway, number, &name, &addresses[number]);
        let _over = Over(&stage.over);
        while stage.begun.elapsed() < time && clients.iter().all(|client| !client.is_finished()) {
            engines.fault(&mut chance, &mut replicas, &again);
            std::thread::sleep(Duration::from_millis(chance.below(300)));
        }
    });
    settle(&stage);
    drop(replicas);
    nothing_is_left(engines, slipway, &database, &name);
    engines.server.forget(&database);
}

/// Everything is whole again: what is there is what was acknowledged, at each replica.
fn settle(stage: &Stage<'_>) {
    for address in &stage.addresses {
        let ready =
            || try_request(address, "GET", "/readyz", &[], b"").is_ok_and(|reply| reply.status == 200);
        wait_until("a replica is itself again", ready);
    }
    // what one of them remembers may be so old
    std::thread::sleep(STALE);
    let mut tags = std::mem::take(&mut *stage.tags.lock().unwrap());
    for (tag, events) in &mut tags {
        let path = format!("/v2/tags/manifests/{tag}");
        for address in &stage.addresses {
            let begun = stage.now();
            let reply = stage.ask_at(address, "GET", &path, &[("accept", MANIFEST)], b"").expect("an answer");
            let act = Act::Read(stage.seen(&path, &reply));
            events.push(Event { begun, ended: Some(stage.now()), act });
        }
        is_linear(None, events).unwrap_or_else(|words| panic!("`{tag}` has no story: {words}"));
    }
    // the looks just taken are nine
    assert!(tags.values().map(Vec::len).sum::<usize>() > 15, "hardly anything happened");
    for (repository, digest, wanted) in stage.kept.lock().unwrap().iter() {
        for address in &stage.addresses {
            let path = format!("/v2/{repository}/blobs/{digest}");
            let reply = stage.ask_at(address, "GET", &path, &[], b"").expect("an answer");
            assert!(reply.status == 200 && reply.body == *wanted, "{path} at {address}: {}", reply.status);
        }
    }
}

/// What nobody needs goes, and nothing else is there: neither in the database nor in the store.
fn nothing_is_left(engines: &Engines, slipway: &Slipway, database: &str, name: &str) {
    let bucket = BucketConfig {
        bucket: "registry".to_owned(),
        prefix: name.to_owned(),
        endpoint: Some(engines.store.endpoint()),
        key_id: STORE_KEY.0.to_owned(),
        secret: STORE_KEY.1.to_owned(),
        ..BucketConfig::default()
    };
    let folder = slipway.path(&format!("{name}-after"));
    let storage =
        Storage::open_shared(&database.parse().unwrap(), &bucket, &Seals::default(), &folder).unwrap();
    storage.keep_trash(Duration::ZERO);
    storage.collect(Duration::ZERO, &mut |_| true).unwrap();
    let later = SystemTime::now() + Duration::from_secs(30 * 86_400);
    storage.sweep_uploads(later).unwrap();
    let count = |what: &str| engines.server.tell(name, &format!("SELECT count(*) FROM slipway.{what}"));
    assert_eq!(count("uploads"), "0", "sessions");
    assert_eq!(count("condemned"), "0");
    assert_eq!(count("blobs WHERE loose IS NOT NULL"), "0", "blobs that nothing holds");
    let pointed = engines.server.tell(
        name,
        "SELECT DISTINCT digest FROM (SELECT digest FROM slipway.blobs UNION SELECT digest FROM slipway.manifests) AS all_of_them",
    );
    let pointed: BTreeSet<Digest> = pointed.lines().map(|line| line.parse().unwrap()).collect();
    let content = ObjectContent::open(&bucket, &slipway.path(&format!("{name}-looked-at"))).unwrap();
    let placed: BTreeSet<Digest> = content.placed(None, later, 100_000).unwrap().into_iter().collect();
    assert_eq!(placed, pointed, "content and pointers");
    assert_eq!(content.stale_uploads(later, None).unwrap().0, Vec::<UploadId>::new(), "bytes that came in");
    assert_eq!(content.end_dangling(later, &|_| Ok(false)).unwrap(), 0, "multipart uploads that dangle");
}

#[test]
fn whatever_happens_tags_have_one_story_and_bytes_stay_themselves() {
    let Some(mut engines) = Engines::start() else {
        return slipway_skip::skip("`initdb` or the object store is not installed");
    };
    let slipway = Slipway::empty();
    let whole = std::env::var_os("SLIPWAY_CLUSTER").is_some();
    let histories = if whole { number("SLIPWAY_INSTANTS").unwrap_or(40) } else { 1 };
    for turn in 0..histories {
        let seed = seed() + turn;
        // what a failure is repeated with
        println!("SLIPWAY_SEED={seed}");
        history(&mut engines, &slipway, seed, Duration::from_secs(7));
    }
    let log = std::fs::read_to_string(slipway.path("serve.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
