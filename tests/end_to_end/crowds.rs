//! Replicas whose clients are many, slow, and at cross purposes.

use super::replicas::{MANIFEST, both_engines, bytes, manifest, push, put, replica, replica_with};
use crate::support::Slipway;
use crate::support::http::{request, try_request};
use crate::support::server::{Server, slow};
use slipway_oci::Digest;
use slipway_registry::server::storage::content::BucketConfig;
use slipway_registry::server::storage::{Seals, Storage};
use slipway_skip::engines::STORE_KEY;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// While one replica deletes, collects and gets the same again, what another one reads is right or not there.
#[test]
fn readers_beside_deletes_get_right_bytes_or_none() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let (writer, reader) =
        (replica(&slipway, 0, &database, store, "beside"), replica(&slipway, 1, &database, store, "beside"));
    let bucket = BucketConfig {
        bucket: "registry".to_owned(),
        prefix: "beside".to_owned(),
        endpoint: Some(store.endpoint()),
        key_id: STORE_KEY.0.to_owned(),
        secret: STORE_KEY.1.to_owned(),
        ..BucketConfig::default()
    };
    let folder = slipway.path("collector");
    let storage =
        Storage::open_shared(&database.parse().unwrap(), &bucket, &Seals::default(), &folder).unwrap();
    let layers = [bytes(70_000, 1), bytes(3 << 20, 2), bytes(9 << 20, 3)];
    let images: Vec<Vec<u8>> = layers.iter().map(|layer| manifest(b"{}", layer, "beside")).collect();
    let (over, whole, gone) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let read = |turn: usize| {
        let (layer, image) = (&layers[turn % 3], &images[turn % 3]);
        let of = |bytes: &[u8]| Digest::sha256(bytes).to_string();
        let half = layer.len() / 2;
        let range = format!("bytes={half}-");
        let (path, headers, wanted) = match turn / 3 % 4 {
            0 => (format!("/v2/app/manifests/t{}", turn % 3), vec![("accept", MANIFEST)], &image[..]),
            1 => (format!("/v2/app/manifests/{}", of(image)), vec![("accept", MANIFEST)], &image[..]),
            2 => (format!("/v2/app/blobs/{}", of(layer)), vec![], &layer[..]),
            _ => (format!("/v2/app/blobs/{}", of(layer)), vec![("range", range.as_str())], &layer[half..]),
        };
        // what goes while it is sent is broken off
        let Ok(reply) = try_request(&reader.address, "GET", &path, &headers, b"") else { return };
        match reply.status {
            200 | 206 => {
                assert!(wanted.starts_with(&reply.body), "{path}: wrong bytes");
                assert_eq!(reply.header("content-length"), wanted.len().to_string(), "{path}");
                whole.fetch_add(u32::from(reply.body.len() == wanted.len()), Ordering::Relaxed);
            }
            404 => drop(gone.fetch_add(1, Ordering::Relaxed)),
            status => panic!("{path}: {status} {}", reply.text()),
        }
    };
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (read, over) = (&read, &over);
            scope.spawn(move || (number * 4..).take_while(|_| !over.load(Ordering::Relaxed)).for_each(read));
        }
        for turn in 0..8 {
            for (number, (layer, image)) in layers.iter().zip(&images).enumerate() {
                push(&writer.address, "app", b"{}");
                push(&writer.address, "app", layer);
                assert_eq!(put(&writer.address, &format!("t{number}"), image, &[]).status, 201, "{turn}");
            }
            std::thread::sleep(Duration::from_millis(100));
            for image in &images {
                let path = format!("/v2/app/manifests/{}", Digest::sha256(image));
                assert_eq!(request(&writer.address, "DELETE", &path, &[], b"").status, 202, "{turn}");
            }
            let collected = storage.collect(Duration::ZERO, &mut |_| true).unwrap();
            assert!(collected.contents >= 6, "{turn}: {collected:?}");
        }
        over.store(true, Ordering::Relaxed);
    });
    let (whole, gone) = (whole.into_inner(), gone.into_inner());
    assert!(whole > 10 && gone > 10, "{whole} were there and {gone} not");
}

/// Clients that read nothing and clients that send nothing more, several for each connection to the database: nobody notices.
#[test]
fn slow_clients_hold_no_connection_to_the_database() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let own = replica(&slipway, 0, &database, store, "slow");
    let layer = bytes(12 << 20, 5);
    push(&own.address, "app", &layer);
    push(&own.address, "app", b"{}");
    assert_eq!(put(&own.address, "v", &manifest(b"{}", &layer, "slow"), &[]).status, 201);
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut reading = TcpStream::connect(&own.address).unwrap();
        let path = format!("/v2/app/blobs/{}", Digest::sha256(&layer));
        write!(reading, "GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        reading.read_exact(&mut [0; 1000]).unwrap();
        let begun = request(&own.address, "POST", "/v2/app/blobs/uploads/", &[], b"");
        let mut sending = TcpStream::connect(&own.address).unwrap();
        let place = super::replicas::path(&begun);
        write!(sending, "PATCH {place} HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nhalf").unwrap();
        idle.push((reading, sending));
    }
    let found = request(&own.address, "GET", "/v2/app/manifests/v", &[("accept", MANIFEST)], b"");
    assert_eq!(found.status, 200);
    push(&own.address, "app", b"another");
    assert_eq!(put(&own.address, "w", &manifest(b"{}", b"another", ""), &[]).status, 201);
    let name = database.split(['/', '?']).nth(3).unwrap();
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(server.tell(name, held), "0");
}

/// However many clients ask whichever replica: an upstream is asked once for a blob, a manifest and what a tag stands for.
#[test]
fn an_upstream_is_asked_once_for_all_replicas() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let upstream = Server::slipway(&slipway, &slipway.path("upstream"));
    let layer = bytes(4 << 20, 11);
    push(&upstream.address, "app", b"{}");
    push(&upstream.address, "app", &layer);
    let text = manifest(b"{}", &layer, "upstream");
    assert_eq!(put(&upstream.address, "v", &text, &[]).status, 201);
    // slow enough for all to come while it is under way
    let way = slow(&upstream.address, 4 << 20);
    let database = server.database();
    let more = format!("mirrors = {{ up = \"http://{way} fresh=1h\" }}\n");
    let replicas: Vec<Server> =
        (0..3).map(|number| replica_with(&slipway, number, &database, store, "mirrors", &more)).collect();
    let digest = Digest::sha256(&layer);
    let paths =
        ["manifests/v".to_owned(), format!("blobs/{digest}")].map(|path| format!("/v2/mirror/up/app/{path}"));
    for (path, wanted) in paths.iter().zip([&text, &layer]) {
        std::thread::scope(|scope| {
            for client in 0..12 {
                let address = &replicas[client % 3].address;
                scope.spawn(move || {
                    let reply = request(address, "GET", path, &[("accept", MANIFEST)], b"");
                    assert!(
                        reply.status == 200 && reply.body == *wanted,
                        "{path}: {} {}",
                        reply.status,
                        reply.text()
                    );
                });
            }
        });
    }
    // what one of them has checked another believes
    let late = replica_with(&slipway, 3, &database, store, "mirrors", &more);
    assert_eq!(request(&late.address, "GET", &paths[0], &[("accept", MANIFEST)], b"").body, text);
    let numbers = request(&upstream.address, "GET", "/metrics", &[], b"").text();
    let asked = |route: &str| {
        let of = |line: &&str| {
            line.starts_with(&format!("slipway_requests_total{{route=\"{route}\",method=\"GET\""))
        };
        let counts =
            numbers.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        counts.sum::<u64>()
    };
    assert_eq!((asked("manifest"), asked("blob")), (1, 1), "{numbers}");
    let heads = |line: &str| line.contains("route=\"manifest\",method=\"HEAD\"");
    assert!(!numbers.lines().any(heads), "{numbers}");
}
