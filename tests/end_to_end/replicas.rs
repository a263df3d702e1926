//! Servers that share a database and an object store: any of them answers anything.

use crate::support::http::{Reply, request, try_request};
use crate::support::server::{Server, free_address, keys};
use crate::support::wire::{End, Mode, Wire};
use crate::support::{Slipway, wait_until};
use slipway_oci::Digest;
use slipway_registry::server::storage::content::{BucketConfig, Content, ObjectContent};
use slipway_skip::engines::{Postgres, STORE_KEY, Store};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A replica with a folder of its own.
pub(crate) fn replica(
    slipway: &Slipway,
    number: usize,
    database: &str,
    store: &Store,
    prefix: &str,
) -> Server {
    replica_with(slipway, number, database, store, prefix, "")
}

/// The same with more settings.
pub(crate) fn replica_with(
    slipway: &Slipway,
    number: usize,
    database: &str,
    store: &Store,
    prefix: &str,
    more: &str,
) -> Server {
    let address = free_address();
    let folder = slipway.path(&format!("replica-{number}"));
    let config = slipway.path(&format!("replica-{number}.toml"));
    let content = format!("s3://registry/{prefix} endpoint={} cache=100MiB", store.endpoint());
    std::fs::write(&config, format!("database = \"{database}\"\ncontent = \"{content}\"\n{more}")).unwrap();
    let mut command = slipway.command(["serve", "--listen", &address]);
    command.arg("--storage").arg(folder).arg("--config").arg(config);
    command.envs(keys());
    let log = std::fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
    Server::start(command.stderr(log), &address)
}

/// What lies in the store below a prefix, seen without a replica.
fn content(store: &Store, prefix: &str) -> (ObjectContent, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let (key_id, secret) = (STORE_KEY.0.to_owned(), STORE_KEY.1.to_owned());
    let config = BucketConfig {
        bucket: "registry".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(store.endpoint()),
        key_id,
        secret,
        ..BucketConfig::default()
    };
    (ObjectContent::open(&config, scratch.path()).unwrap(), scratch)
}

/// A time that everything is older than.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

/// Where the next request of a session goes at a replica: the same path.
pub(crate) fn path(reply: &Reply) -> String {
    let location = reply.header("location");
    match location.strip_prefix("http://") {
        Some(rest) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

pub(crate) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let word = |number: u32| number.wrapping_mul(2_654_435_761).wrapping_add(seed).to_le_bytes();
    (0..length.div_ceil(4) as u32).flat_map(word).take(length).collect()
}

pub(crate) fn push(address: &str, repository: &str, blob: &[u8]) {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(blob));
    assert_eq!(request(address, "POST", &path, &[], blob).status, 201);
}

pub(crate) fn manifest(config: &[u8], layer: &[u8], note: &str) -> Vec<u8> {
    let of = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::sha256(bytes), bytes.len())
    };
    let (config, layer) = (of("application/vnd.oci.image.config.v1+json", config), of("text/plain", layer));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}],"annotations":{{"n":"{note}"}}}}"#
    )
    .into_bytes()
}

pub(crate) fn put(address: &str, name: &str, text: &[u8], more: &[(&str, &str)]) -> Reply {
    let headers = [&[("content-type", MANIFEST)][..], more].concat();
    request(address, "PUT", &format!("/v2/app/manifests/{name}"), &headers, text)
}

/// What a webhook at this address is told from now on, each time taken.
fn receiver(address: &str) -> Arc<Mutex<Vec<serde_json::Value>>> {
    let listener = TcpListener::bind(address).unwrap();
    let heard: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let notes = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            notes.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let reply = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            reader.get_mut().write_all(reply).unwrap();
        }
    });
    heard
}

/// The engines, or the end of a test that cannot have them.
macro_rules! engines {
    () => {
        match (slipway_skip::engines::postgres(), slipway_skip::engines::store()) {
            (Some(server), Some(store)) => (server, store),
            _ => return slipway_skip::skip("`initdb` or the object store is not installed"),
        }
    };
}
pub(crate) use engines as both_engines;

/// A layer comes in chunk by chunk, each at another replica; all of them send it; one is killed and nothing is missed.
#[test]
fn a_push_hops_between_replicas_and_survives_one() {
    let (server, store) = engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let mut replicas: Vec<Server> =
        (0..2).map(|number| replica(&slipway, number, &database, store, "hops")).collect();
    let address = |turn: usize| replicas[turn % 2].address.clone();
    let layer = bytes(21 << 20, 7);
    let mut session = request(&address(0), "POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!(session.status, 202);
    let (mut offset, mut turn) = (0, 1);
    for size in [1000, 9 << 20, 100_000, 12 << 20] {
        let end = (offset + size).min(layer.len());
        let range = format!("{offset}-{}", end - 1);
        let headers = [("content-range", range.as_str()), ("content-type", "application/octet-stream")];
        let chunk = &layer[offset..end];
        // the same chunk once more, elsewhere: it comes too late
        let path = path(&session);
        session = request(&address(turn), "PATCH", &path, &headers, chunk);
        assert_eq!(session.status, 202, "{}", session.text());
        assert_eq!(session.header("range"), format!("0-{}", end - 1));
        let again = request(&address(turn + 1), "PATCH", &path, &headers, chunk);
        assert_eq!(again.status, 416, "{}", again.text());
        (offset, turn) = (end, turn + 1);
    }
    assert_eq!(offset, layer.len());
    let digest = Digest::sha256(&layer);
    let close = format!("{}?digest={digest}", path(&session).split('?').next().unwrap());
    let closed = request(&address(turn), "PUT", &close, &[], b"");
    assert_eq!(closed.status, 201, "{}", closed.text());
    push(&address(0), "app", b"{}");
    let text = manifest(b"{}", &layer, "first");
    assert_eq!(put(&address(1), "v1", &text, &[]).status, 201);
    let blob = format!("/v2/app/blobs/{digest}");
    for turn in 0..2 {
        assert_eq!(request(&address(turn), "GET", &blob, &[], b"").body, layer);
        let part = request(&address(turn), "GET", &blob, &[("range", "bytes=8388600-8388700")], b"");
        assert_eq!((part.status, &part.body[..]), (206, &layer[8_388_600..=8_388_700]));
        let found = request(&address(turn), "GET", "/v2/app/manifests/v1", &[("accept", MANIFEST)], b"");
        assert_eq!(found.body, text);
    }
    // a session that one had begun goes on elsewhere after its end
    let open = request(&address(0), "POST", "/v2/app/blobs/uploads/", &[], b"");
    let patched = request(&address(0), "PATCH", &path(&open), &[], &layer[..9 << 20]);
    assert_eq!(patched.status, 202);
    let survivor = replicas.pop().unwrap();
    replicas[0].kill();
    let status = request(&survivor.address, "GET", &path(&patched), &[], b"");
    assert_eq!((status.status, status.header("range")), (204, "0-9437183"));
    let close = format!("{}?digest={digest}", path(&patched).split('?').next().unwrap());
    assert_eq!(request(&survivor.address, "PUT", &close, &[], &layer[9 << 20..]).status, 201);
    assert_eq!(request(&survivor.address, "GET", &blob, &[], b"").body, layer);
    // deleted at one, gone at the other
    let late = replica(&slipway, 2, &database, store, "hops");
    assert_eq!(request(&late.address, "DELETE", "/v2/app/manifests/v1", &[], b"").status, 202);
    let gone = std::time::Instant::now();
    wait_until("the tag is gone", || {
        request(&survivor.address, "GET", "/v2/app/manifests/v1", &[], b"").status == 404
    });
    assert!(gone.elapsed() < Duration::from_millis(1500), "{:?}", gone.elapsed());
    // what came in is gone from where it did
    let (content, _scratch) = content(store, "hops");
    let (left, _) = content.stale_uploads(later(), None).unwrap();
    assert!(left.is_empty(), "uploads are left over: {left:?}");
}

/// Writers at both replicas move one tag, each from what it saw: every move has one winner.
#[test]
fn of_replicas_that_move_a_tag_one_wins() {
    let (server, store) = engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let replicas: Vec<Server> =
        (0..2).map(|number| replica(&slipway, number, &database, store, "moves")).collect();
    push(&replicas[0].address, "app", b"{}");
    assert_eq!(put(&replicas[0].address, "v", &manifest(b"{}", b"{}", "begin"), &[]).status, 201);
    let won = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (address, won) = (&replicas[writer % 2].address, &won);
            scope.spawn(move || {
                let mut moves = 0;
                while moves < 8 {
                    let seen = request(address, "HEAD", "/v2/app/manifests/v", &[], b"");
                    let seen = seen.header("docker-content-digest").to_owned();
                    let text = manifest(b"{}", b"{}", &format!("{writer} {moves}"));
                    let quoted = format!("\"{seen}\"");
                    match put(address, "v", &text, &[("if-match", &quoted)]).status {
                        201 => {
                            moves += 1;
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                        status => assert_eq!(status, 412),
                    }
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 32);
    let name = database.split(['/', '?']).nth(3).unwrap();
    // each move goes from where the one before went to
    let broken = "SELECT count(*) FROM (SELECT former, lag(digest) OVER (ORDER BY number) AS before FROM slipway.tag_history) AS moves
        WHERE former IS DISTINCT FROM before";
    assert_eq!(server.tell(name, broken), "0");
    assert_eq!(server.tell(name, "SELECT count(*) FROM slipway.tag_history"), "33");
}

/// Without its database or its store a replica says 503 and when to come back, and goes on when they are there again.
#[test]
fn a_replica_without_its_engines_says_so_and_comes_back() {
    let (Some(mut server), Some(mut store)) = (Postgres::start(), Store::start()) else {
        return slipway_skip::skip("`initdb` or the object store is not installed");
    };
    let slipway = Slipway::empty();
    let database = server.database();
    let own = replica(&slipway, 0, &database, &store, "away");
    push(&own.address, "app", b"{}");
    push(&own.address, "app", b"[]");
    let text = manifest(b"{}", b"{}", "one");
    assert_eq!(put(&own.address, "v", &text, &[]).status, 201);
    let (known, other) = (Digest::sha256(b"{}"), Digest::sha256(b"[]"));
    let ask = |path: &str| try_request(&own.address, "GET", path, &[], b"").unwrap();
    let blob = |digest: &Digest| ask(&format!("/v2/app/blobs/{digest}"));
    let ready = || {
        let begun = std::time::Instant::now();
        let reply = ask("/readyz");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        (reply.status, reply.text())
    };
    assert_eq!((blob(&known).status, ask("/v2/app/manifests/v").status), (200, 200));
    assert_eq!(ready(), (200, "ready\ndatabase answers\ncontent answers\n".to_owned()));
    let refused = |reply: Reply| assert_eq!((reply.status, reply.header("retry-after")), (503, "5"));
    server.stop();
    // what was known a second ago may be another thing by now
    std::thread::sleep(Duration::from_secs(1));
    refused(blob(&known));
    assert_eq!(ready(), (503, "not ready\ndatabase does not answer\ncontent answers\n".to_owned()));
    server.restart();
    assert_eq!(blob(&known).status, 200);
    store.stop();
    refused(blob(&other));
    refused(request(&own.address, "POST", &format!("/v2/app/blobs/uploads/?digest={known}"), &[], b"{}"));
    // what is at hand is right whatever became of the store
    assert_eq!(blob(&known).body, b"{}");
    assert_eq!(ask("/v2/app/manifests/v").body, text);
    assert_eq!(ready(), (503, "not ready\ndatabase answers\ncontent does not answer\n".to_owned()));
    store.restart();
    assert_eq!((blob(&other).status, ready().0), (200, 200));
    let numbers = ask("/metrics").text();
    let number = |name: &str, of: &str| -> f64 {
        let line = format!("slipway_dependency_{name}_total{{dependency=\"{of}\"}} ");
        let value = numbers.lines().find_map(|text| text.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("{line}: {numbers}")).parse().unwrap()
    };
    for of in ["database", "content"] {
        assert!(number("requests", of) > number("errors", of) && number("errors", of) > 0.0, "{of}");
        assert!(number("seconds", of) > 0.0, "{of}");
    }
    let log = std::fs::read_to_string(slipway.path("serve.log")).unwrap();
    assert!(!log.contains(STORE_KEY.1), "{log}");
}

/// A store and a database that take what they are asked and answer nothing: whoever asks is told so after a while, and once they
/// answer they are used again, by a server that nobody restarted.
#[test]
fn engines_that_answer_nothing_are_not_waited_for_without_end() {
    let (server, store) = engines!();
    let slipway = Slipway::empty();
    let name = server.database().split(['/', '?']).nth(3).unwrap().to_owned();
    let database = Wire::lay(End::Socket(server.folder().join(".s.PGSQL.5432")));
    let node = Wire::lay(End::Address(store.endpoint().trim_start_matches("http://").to_owned()));
    let port = database.address.rsplit(':').next().unwrap();
    let config = slipway.path("silent.toml");
    let text = format!(
        "database = \"postgres://slipway@localhost:{port}/{name}?sslmode=disable\"
        content = \"s3://registry/silent endpoint=http://{}\"\n",
        node.address
    );
    std::fs::write(&config, text).unwrap();
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--storage"]);
    command.arg(slipway.path("silent")).arg("--config").arg(config).envs(keys());
    let _own = Server::start(&mut command, &address);
    // those that are read before anything is answered
    let blobs: Vec<Vec<u8>> = (0..4).map(|number| bytes(1000, number)).collect();
    blobs.iter().for_each(|blob| push(&address, "app", blob));
    let get = |blob: &Vec<u8>| {
        let path = format!("/v2/app/blobs/{}", Digest::sha256(blob));
        try_request(&address, "GET", &path, &[], b"").unwrap()
    };
    for wire in [&node, &database] {
        wire.set(Mode::Silent, false);
        // what was known a second ago may be another thing by now
        std::thread::sleep(Duration::from_secs(1));
        std::thread::scope(|scope| {
            let all: Vec<_> = blobs.iter().map(|blob| scope.spawn(move || get(blob))).collect();
            for reply in all {
                let reply = reply.join().unwrap();
                assert_eq!((reply.status, reply.header("retry-after")), (503, "5"), "{}", reply.text());
            }
        });
        wire.set(Mode::Whole, false);
        wait_until("it answers again", || get(&blobs[0]).status == 200);
        assert!(blobs.iter().all(|blob| get(blob).body == *blob));
    }
    push(&address, "app", b"again");
}

/// What a replica has begun in the background others go on with when it dies: what it was about to tell a webhook, and what it was
/// about to collect. Nothing is told twice that was taken, and one replica at a time collects.
#[test]
fn work_in_the_background_outlives_its_replica() {
    let (server, store) = engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let name = database.split(['/', '?']).nth(3).unwrap().to_owned();
    let hook = free_address();
    let more = format!(
        "trash = \"0\"\ncollect = \"1000/s every 1s after 1h\"\n[webhooks]\nci = \"http://{hook}/ for push, delete\"\n"
    );
    let mut replicas: Vec<Server> =
        (0..3).map(|number| replica_with(&slipway, number, &database, store, "work", &more)).collect();
    let first = replicas[0].address.clone();
    push(&first, "app", b"{}");
    let text = manifest(b"{}", b"{}", "one");
    assert_eq!(put(&first, "v", &text, &[]).status, 201);
    let digest = Digest::sha256(&text);
    assert_eq!(request(&first, "DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").status, 202);
    // nobody has listened so far: it waits in the database
    assert_eq!(server.tell(&name, "SELECT count(*) FROM slipway.notices"), "2");
    // a replica that has the turn at collecting, and says nothing more
    server.tell(
        &name,
        "INSERT INTO slipway.leases VALUES ('collect', 'dead', now() + interval '12 seconds', 1000)
         ON CONFLICT (name) DO UPDATE SET holder = 'dead', until = excluded.until, fence = 1000",
    );
    replicas[0].kill();
    let heard = receiver(&hook);
    server.tell(&name, "UPDATE slipway.blobs SET loose = 0");
    let (content, _scratch) = content(store, "work");
    let blob = Digest::sha256(b"{}");
    assert_eq!(content.size(&blob).unwrap(), Some(2));
    wait_until("the notices come", || server.tell(&name, "SELECT count(*) FROM slipway.notices") == "0");
    wait_until("the blob goes", || content.size(&blob).unwrap().is_none());
    let action = |body: &serde_json::Value| body["events"][0]["action"].as_str().unwrap().to_owned();
    let actions: Vec<String> = heard.lock().unwrap().iter().map(action).collect();
    assert_eq!(actions, ["push", "delete"]);
    let fence: u64 =
        server.tell(&name, "SELECT fence FROM slipway.leases WHERE name = 'collect'").parse().unwrap();
    assert!(fence > 1000, "another one took it");
}

/// Clients that the settings name fetch blobs from the store by addresses that end; others, and what is no large blob, are served here.
#[test]
fn blobs_are_fetched_from_the_store_where_the_settings_say_so() {
    let (server, store) = engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let started =
        |number, words: &str| replica(&slipway, number, &database, store, &format!("links {words}"));
    let (near, far) =
        (started(0, "redirect=127.0.0.0/8 redirect-from=1MiB"), started(1, "redirect=192.0.2.0/24"));
    let (layer, small) = (bytes(3 << 20, 9), bytes(100_000, 3));
    for blob in [&layer[..], &small, b"{}"] {
        push(&near.address, "app", blob);
    }
    let path = |blob: &[u8]| format!("/v2/app/blobs/{}", Digest::sha256(blob));
    let sent = request(&near.address, "GET", &path(&layer), &[], b"");
    assert_eq!((sent.status, sent.body.len()), (307, 0), "{}", sent.text());
    assert_eq!(sent.header("cache-control"), "no-store");
    let link = sent.header("location").to_owned();
    let host = store.endpoint().strip_prefix("http://").unwrap().to_owned();
    let target = link.strip_prefix(&format!("http://{host}")).unwrap().to_owned();
    assert_eq!(request(&host, "GET", &target, &[], b"").body, layer);
    let part = request(&host, "GET", &target, &[("range", "bytes=1000-1999")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &layer[1000..2000]));
    // it opens this object, for reading, and nothing else
    let other = target.replace(&Digest::sha256(&layer).hex(), &Digest::sha256(&small).hex());
    assert_eq!(request(&host, "GET", &other, &[], b"").status, 403);
    assert_eq!(request(&host, "DELETE", &target, &[], b"").status, 403);
    assert!(!link.contains(STORE_KEY.1), "{link}");
    let length = layer.len().to_string();
    let head = request(&near.address, "HEAD", &path(&layer), &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, length.as_str()));
    let etag = format!("\"{}\"", Digest::sha256(&layer));
    let same = request(&near.address, "GET", &path(&layer), &[("if-none-match", &etag)], b"");
    assert_eq!(same.status, 304);
    assert_eq!(request(&near.address, "GET", &path(&small), &[], b"").body, small);
    assert_eq!(request(&far.address, "GET", &path(&layer), &[], b"").body, layer);
    let elsewhere = path(&layer).replace("/app/", "/other/");
    assert_eq!(
        request(&near.address, "GET", &elsewhere, &[], b"").status,
        404,
        "who has none is sent nowhere"
    );
    let text = manifest(b"{}", &layer, "linked");
    assert_eq!(put(&near.address, "v", &text, &[]).status, 201);
    assert_eq!(request(&near.address, "GET", "/v2/app/manifests/v", &[], b"").body, text);
    // who follows is served as if nothing were between
    let Some(skopeo) = slipway_skip::find("skopeo") else {
        return slipway_skip::skip("`skopeo` is not installed");
    };
    let copied = std::process::Command::new(skopeo)
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .arg(format!("docker://{}/app:v", near.address))
        .arg(format!("dir:{}", slipway.path("copied").display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let copied = slipway.path("copied").join(Digest::sha256(&layer).hex());
    assert_eq!(std::fs::read(copied).unwrap(), layer);
}

/// What replicas cannot do yet is refused before anything is made, and secrets are never shown.
#[test]
fn settings_of_replicas_are_checked() {
    let slipway = Slipway::empty();
    std::fs::write(slipway.path("short"), "s3cr3t\n").unwrap();
    let check = |text: &str| {
        let file = slipway.path("check.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = slipway.command(["registry", "check"]);
        command.arg(file).env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "s3cr3t");
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!words.contains("s3cr3t"), "{words}");
        (output.status.success(), words)
    };
    let database = "database = \"postgres://ann:s3cr3t@db.example/registry\"\n";
    let content = "content = \"s3://images/registry endpoint=https://s3.example\"\n";
    let (fine, words) = check(&format!("{database}{content}"));
    assert!(fine, "{words}");
    for (text, expected) in [
        (database.to_owned(), "`database` needs `content`"),
        (content.to_owned(), "`content` needs `database`"),
        (format!("database = \"mysql://ann:s3cr3t@h/n\"\n{content}"), "postgres://USER@HOST"),
        (format!("{database}content = \"s3://\""), "s3://BUCKET"),
        (format!("{database}{}", content.replace("example\"", "example key=none\"")), "none"),
        (format!("{database}{content}token-key = \"short\""), "32 characters"),
        (format!("{database}{content}token-key = \"nowhere\""), "nowhere"),
        ("token-key = \"short\"".to_owned(), "`database`"),
    ] {
        let (fine, words) = check(&text);
        assert!(!fine && words.contains(expected), "{text}: {words}");
    }
    let mut command =
        slipway.command(["serve", "--database", "postgres://ann:s3cr3t@h", "--content", "s3://a"]);
    let output = command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "k").output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !words.contains("s3cr3t"), "{words}");
    assert!(words.contains("postgres://USER@HOST"), "{words}");
}
