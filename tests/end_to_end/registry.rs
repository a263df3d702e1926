//! `slipway serve`, push and pull; and the protocol itself, spoken by hand.

use crate::support::http::request;
use crate::support::image::{Image, text};
use crate::support::server::Server;
use crate::support::{Slipway, run};
use slipway_oci::Digest;

struct Pair {
    slipway: Slipway,
    server: Server,
}

fn pair() -> Pair {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    Pair { slipway, server }
}

#[test]
fn what_is_pushed_is_pulled() {
    let Pair { slipway, server } = pair();
    let name = server.name("team/app:1");
    slipway.build(&name, "FROM base\nRUN echo pushed > /file\n", &[]).ok();
    slipway.ok(["push", &name]);
    let other = slipway.another("other");
    other.ok(["pull", &name]);
    assert_eq!(other.digest(&name), slipway.digest(&name));
    assert_eq!(other.shell(&name, "cat /file"), "pushed\n");
    // by digest
    let third = slipway.another("third");
    let by_digest = format!("{}@{}", server.name("team/app"), slipway.digest(&name));
    third.ok(["pull", &by_digest]);
    assert_eq!(third.shell(&by_digest, "cat /file"), "pushed\n");
}

#[test]
fn build_can_push_and_bases_come_from_the_registry() {
    let Pair { slipway, server } = pair();
    let base = server.name("base:1");
    slipway.ok(["tag", "base", &base]);
    slipway.ok(["push", &base]);
    let other = slipway.another("other");
    let made = server.name("made:1");
    let context = other.context("context", &[("Dockerfile", &format!("FROM {base}\nRUN echo x > /x\n"))]);
    other.build_folder(&made, &context, &["--push"]).ok();
    let third = slipway.another("third");
    assert_eq!(third.ok(["run", "--rm", &made, "cat", "/x"]), "x\n");
    assert_eq!(third.digest(&made), other.digest(&made));
}

#[test]
fn a_missing_image_or_registry_is_named() {
    let Pair { slipway, server } = pair();
    let missing = server.name("no/such:tag");
    let message = slipway.fails(1, ["pull", &missing]);
    assert!(message.contains("no/such"), "{message}");
    let message = slipway.fails(1, ["push", &missing]);
    assert!(message.contains("no/such"), "{message}");
    let nobody = format!("{}/x:1", crate::support::server::free_address());
    let message = slipway.fails(1, ["pull", &nobody]);
    assert!(message.contains(nobody.split('/').next().unwrap()), "{message}");
    let recipe = format!("FROM base\nCOPY --from={missing} /a /b\n");
    let message = slipway.build("missing", &recipe, &[]).fails(1);
    assert!(message.contains("no/such") && message.contains("Dockerfile:2"), "{message}");
}

#[test]
fn storage_outlives_the_server() {
    let Pair { slipway, mut server } = pair();
    let name = server.name("kept:1");
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["push", &name]);
    assert!(server.terminate().success());
    let server = Server::slipway_at(&slipway, &slipway.path("storage"), &server.address);
    let other = slipway.another("other");
    other.ok(["pull", &server.name("kept:1")]);
    assert_eq!(other.digest(&name), slipway.digest("base"));
}

fn location(address: &str, repository: &str) -> String {
    let reply = request(address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.header("location").to_owned()
}

fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

#[test]
fn the_protocol_pushes_monolithic_and_in_chunks() {
    let Pair { slipway: _slipway, server } = pair();
    let address = server.address.as_str();
    assert_eq!(request(address, "GET", "/v2/", &[], b"").status, 200);
    let content = b"some bytes of a blob";
    let digest = Digest::sha256(content).to_string();
    assert_eq!(request(address, "HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"").status, 404);

    let reply = request(address, "PUT", &with_digest(&location(address, "a"), &digest), &[], content);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("docker-content-digest"), digest);
    let reply = request(address, "GET", &format!("/v2/a/blobs/{digest}"), &[], b"");
    assert_eq!((reply.status, reply.body.as_slice()), (200, content.as_slice()));
    let reply = request(address, "GET", &format!("/v2/a/blobs/{digest}"), &[("Range", "bytes=5-9")], b"");
    assert_eq!((reply.status, reply.body.as_slice()), (206, &content[5..10]));
    let reply = request(address, "HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"");
    assert_eq!((reply.status, reply.header("content-length")), (200, "20"));

    let target = format!("/v2/b/blobs/uploads/?digest={digest}");
    assert_eq!(request(address, "POST", &target, &[], content).status, 201);

    let place = location(address, "c");
    let reply = request(address, "PATCH", &place, &[("Content-Range", "0-9")], &content[..10]);
    assert_eq!((reply.status, reply.header("range")), (202, "0-9"), "{}", reply.text());
    let next = reply.header("location").to_owned();
    let wrong = request(address, "PATCH", &next, &[("Content-Range", "5-14")], &content[5..15]);
    assert_eq!(wrong.status, 416);
    let reply = request(address, "GET", &next, &[], b"");
    assert_eq!((reply.status, reply.header("range")), (204, "0-9"));
    let reply = request(address, "PATCH", &next, &[("Content-Range", "10-19")], &content[10..]);
    assert_eq!(reply.status, 202);
    let reply = request(address, "PUT", &with_digest(reply.header("location"), &digest), &[], b"");
    assert_eq!(reply.status, 201, "{}", reply.text());

    let reply = request(address, "POST", &format!("/v2/d/blobs/uploads/?mount={digest}&from=a"), &[], b"");
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn wrong_content_is_refused_and_leaves_nothing() {
    let Pair { slipway: _slipway, server } = pair();
    let address = server.address.as_str();
    let digest = Digest::sha256(b"what was promised").to_string();
    let reply = request(address, "PUT", &with_digest(&location(address, "a"), &digest), &[], b"what came");
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["errors"][0]["code"], "DIGEST_INVALID");
    assert_eq!(request(address, "HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"").status, 404);
    let json = &[("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    for body in [&b"not json"[..], b"{}", b"[]"] {
        let reply = request(address, "PUT", "/v2/a/manifests/tag", json, body);
        assert!((400..500).contains(&reply.status), "{}", reply.status);
        assert!(reply.json()["errors"][0]["code"].is_string());
    }
    let unknown = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 17},
        "layers": [],
    });
    let reply = request(address, "PUT", "/v2/a/manifests/tag", json, unknown.to_string().as_bytes());
    assert_eq!(reply.json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN", "{}", reply.status);
    for target in
        ["/v2/UPPER/manifests/x", "/v2/a/../b/manifests/x", "/v2/a/blobs/sha256:12", "/v2/a/manifests/-bad"]
    {
        let status = request(address, "GET", target, &[], b"").status;
        assert!((400..500).contains(&status), "{target}: {status}");
    }
    let status = request(address, "DELETE", "/v2/a/blobs/uploads/../../../etc/passwd", &[], b"").status;
    assert!((400..500).contains(&status), "{status}");
}

#[test]
fn tags_are_listed_counted_and_deleted() {
    let Pair { slipway, server } = pair();
    let address = server.address.as_str();
    for tag in ["c", "a", "b"] {
        let name = server.name(&format!("listed:{tag}"));
        slipway.ok(["tag", "base", &name]);
        slipway.ok(["push", &name]);
    }
    let list = |query: &str| request(address, "GET", &format!("/v2/listed/tags/list{query}"), &[], b"");
    assert_eq!(list("").json()["tags"], serde_json::json!(["a", "b", "c"]));
    let page = list("?n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["a", "b"]));
    assert!(page.header("link").contains("rel=\"next\""), "{:?}", page.headers);
    assert_eq!(list("?n=2&last=b").json()["tags"], serde_json::json!(["c"]));

    let digest = slipway.digest("base");
    let reply = request(address, "HEAD", "/v2/listed/manifests/a", &[], b"");
    assert_eq!((reply.status, reply.header("docker-content-digest")), (200, digest.as_str()));
    assert_eq!(request(address, "DELETE", "/v2/listed/manifests/a", &[], b"").status, 202);
    assert_eq!(list("").json()["tags"], serde_json::json!(["b", "c"]));
    assert_eq!(request(address, "GET", &format!("/v2/listed/manifests/{digest}"), &[], b"").status, 200);
    assert_eq!(request(address, "DELETE", &format!("/v2/listed/manifests/{digest}"), &[], b"").status, 202);
    assert_eq!(request(address, "GET", "/v2/listed/manifests/b", &[], b"").status, 404);
}

#[test]
fn manifests_come_back_byte_for_byte() {
    let Pair { slipway, server } = pair();
    let name = server.name("bytes:1");
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["push", &name]);
    let image = Image::read(&slipway, "base");
    let reply = request(&server.address, "GET", "/v2/bytes/manifests/1", &[], b"");
    assert_eq!(Digest::sha256(&reply.body).to_string(), image.digest);
    assert_eq!(reply.header("content-type"), text(&image.manifest["mediaType"]));
    // white space is part of a manifest's bytes
    let pretty = serde_json::to_vec_pretty(&image.manifest).unwrap();
    let json = &[("Content-Type", text(&image.manifest["mediaType"]))];
    let reply = request(&server.address, "PUT", "/v2/bytes/manifests/pretty", json, &pretty);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(request(&server.address, "GET", "/v2/bytes/manifests/pretty", &[], b"").body, pretty);
}

#[test]
fn a_second_push_and_pull_move_nothing() {
    let Pair { slipway, server } = pair();
    let name = server.name("twice:1");
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["push", &name]);
    let blobs =
        || run(std::process::Command::new("find").arg(slipway.path("storage")).args(["-type", "f"])).ok();
    let count = blobs().lines().count();
    slipway.ok(["push", &name]);
    let renamed = server.name("elsewhere:1");
    slipway.ok(["tag", "base", &renamed]);
    slipway.ok(["push", &renamed]);
    assert!(blobs().lines().count() <= count + 2, "blobs are kept once for all repositories: {}", blobs());
    slipway.ok(["pull", &name]);
}

/// Kilobytes of memory that the server had at most, and its descriptors now.
fn cost(server: &Server) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    (peak.trim().trim_end_matches(" kB").parse().unwrap(), descriptors)
}

#[test]
fn peers_that_take_nothing_cost_little() {
    use std::io::Write;
    let Pair { slipway: _slipway, server } = pair();
    let address = server.address.as_str();
    let content = vec![7; 8 << 20];
    let digest = Digest::sha256(&content);
    let target = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(request(address, "POST", &target, &[], &content).status, 201);
    let path = format!("/v2/a/blobs/{digest}");
    let plain = format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n").into_bytes();
    // HTTP/2: SETTINGS_INITIAL_WINDOW_SIZE of 0 and 64 requests
    let mut windows = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
    for number in 0..64_u32 {
        let head = [&[0x82, 0x86, 4, path.len() as u8], path.as_bytes(), &[1, 1, b't']].concat();
        windows.extend_from_slice(&[0, 0, head.len() as u8, 1, 5]);
        windows.extend_from_slice(&(number * 2 + 1).to_be_bytes());
        windows.extend_from_slice(&head);
    }
    for (state, count, first) in [("windows of 0", 10, windows), ("readers that do not read", 300, plain)] {
        let (before, _) = cost(&server);
        let held: Vec<_> = (0..count)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(&first).unwrap();
                stream
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(request(address, "GET", "/v2/", &[], b"").status, 200);
        let (after, descriptors) = cost(&server);
        eprintln!("{count} {state}: {} kB more, {descriptors} descriptors", after - before);
        assert!(after - before < 120 << 10, "{state}: {} kB more", after - before);
        assert!(descriptors < 1000, "{state}: {descriptors} descriptors");
        drop(held);
    }
}

/// A registry that takes no mount: each answer to one is a new session (202), as many registries do. Whatever else is
/// said goes through to the server behind it.
fn without_mounts(server: &Server) -> String {
    use std::io::{BufRead, BufReader, Write, copy};
    use std::net::{Shutdown, TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let behind = server.address.clone();
    let serve = move |client: TcpStream| -> std::io::Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let mut to_server = TcpStream::connect(&behind)?;
        let mut first = String::new();
        from_client.read_line(&mut first)?;
        let (method, rest) = first.split_once(' ').unwrap_or_default();
        let (target, version) = rest.split_once(' ').unwrap_or_default();
        let target = if method == "POST" { target.split('?').next().unwrap() } else { target };
        // one request a connection, so that every request's first line comes by here
        write!(to_server, "{method} {target} {version}Connection: close\r\n")?;
        let mut to_client = client.try_clone()?;
        let mut from_server = to_server.try_clone()?;
        let back = std::thread::spawn(move || {
            let _ = copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let _ = copy(&mut from_client, &mut to_server);
        back.join().unwrap();
        Ok(())
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            // a client that goes away ends its own connection
            std::thread::spawn(move || drop(serve(client)));
        }
    });
    address
}

/// Issue 7, B9: the base's layers are known to be in the registry, are not here, and may not be mounted.
#[test]
fn a_layer_that_is_not_here_moves_where_a_mount_is_refused() {
    let Pair { slipway, server } = pair();
    let address = without_mounts(&server);
    let name = |name: &str| format!("{address}/{name}");
    slipway.build(&name("team/base:1"), "FROM base\nRUN echo two > /two\nRUN echo one > /one\n", &[]).ok();
    slipway.ok(["push", &name("team/base:1")]);
    let other = slipway.another("other");
    let blobs = || std::fs::read_dir(other.root.join("blobs/sha256")).unwrap().count();
    let recipe = format!("FROM {}\nLABEL a=b\n", name("team/base:1"));
    // nothing of the base is needed to build on it, so none of its layers is here
    other.build_with("app", &recipe, &[], &[]).ok();
    let before = blobs();
    other.ok(["tag", "app", &name("else/app:1")]);
    other.ok(["push", &name("else/app:1")]);
    assert!(blobs() >= before + 3, "{before} blobs, then {}", blobs());
    let third = slipway.another("third");
    assert_eq!(third.ok(["run", "--rm", &name("else/app:1"), "cat", "/one", "/two"]), "one\ntwo\n");
    assert_eq!(third.digest(&name("else/app:1")), other.digest("app"));

    // the same by `build --push`, and where mounts are taken no layer moves
    for (address, moves) in [(&address, true), (&server.address, false)] {
        let store = slipway.another(&format!("store-{moves}"));
        let recipe = format!("FROM {address}/team/base:1\nLABEL c=d\n");
        let made = format!("{address}/built/{moves}:1");
        store.build_with(&made, &recipe, &[], &["--push"]).ok();
        let layers = store.root.join("blobs/sha256").read_dir().unwrap().flatten();
        let large = layers.filter(|entry| entry.metadata().unwrap().len() > 200_000).count();
        assert_eq!(large > 0, moves, "{large} large blobs");
        let fresh = slipway.another(&format!("fresh-{moves}"));
        assert_eq!(fresh.ok(["run", "--rm", &made, "cat", "/two"]), "two\n");
    }

    // a mount of a layer that is gone from where it was known, and is in another registry
    let second = Server::slipway(&slipway, &slipway.path("second"));
    slipway.ok(["tag", &name("team/base:1"), &format!("{}/kept:1", second.address)]);
    slipway.ok(["push", &format!("{}/kept:1", second.address)]);
    let gone = slipway.another("gone");
    for known in [server.name("team/base:1"), second.name("kept:1")] {
        gone.build_with("app", &format!("FROM {known}\nLABEL e=f\n"), &[], &[]).ok();
    }
    let digest = slipway.digest(&name("team/base:1"));
    for target in ["team/base", "else/app", "built/true", "built/false"] {
        let tag = if target == "team/base" { digest.clone() } else { third_digest(&server, target) };
        request(&server.address, "DELETE", &format!("/v2/{target}/manifests/{tag}"), &[], b"");
    }
    gone.ok(["tag", "app", &server.name("again:1")]);
    gone.ok(["push", &server.name("again:1")]);
    let last = slipway.another("last");
    assert_eq!(last.ok(["run", "--rm", &server.name("again:1"), "cat", "/one"]), "one\n");
}

fn third_digest(server: &Server, repository: &str) -> String {
    let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
    let path = format!("/v2/{repository}/manifests/1");
    let reply = request(&server.address, "HEAD", &path, &accept, b"");
    reply.header("docker-content-digest").to_owned()
}
