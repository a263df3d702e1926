//! What operators do with a registry that replicas share, while they serve it.

use crate::replicas::{both_engines, bytes, manifest, push, put, replica_with};
use crate::support::http::request;
use crate::support::server::Server;
use crate::support::{Ended, Slipway, run, wait_until};
use slipway_oci::Digest;
use slipway_skip::engines::{self, STORE_KEY};

/// A command on the registry that `replica-0.toml` names.
fn registry(slipway: &Slipway, words: &str) -> Ended {
    let mut command = slipway.command(["registry"].into_iter().chain(words.split(' ')));
    command.arg("--config").arg(slipway.path("replica-0.toml"));
    run(command.env("AWS_ACCESS_KEY_ID", STORE_KEY.0).env("AWS_SECRET_ACCESS_KEY", STORE_KEY.1))
}

/// Two replicas with an image each of `v1` and `v2`, nothing of which goes by itself.
fn served(slipway: &Slipway, database: &str, store: &engines::Store, prefix: &str) -> [Server; 2] {
    let more = "collect = \"off\"\nscrub = \"off\"\nquotas = [\"1GiB in each app\"]\n";
    let replicas = [0, 1].map(|number| replica_with(slipway, number, database, store, prefix, more));
    push(&replicas[0].address, "app", b"{}");
    for (tag, layer) in [("v1", bytes(70_000, 1)), ("v2", bytes(50_000, 2))] {
        push(&replicas[0].address, "app", &layer);
        assert_eq!(put(&replicas[1].address, tag, &manifest(b"{}", &layer, tag), &[]).status, 201);
    }
    replicas
}

/// What commands change is what replicas serve; what they collect is collected by one at a time.
#[test]
fn operators_look_after_what_replicas_share_while_it_is_served() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let name = database.split(['/', '?']).nth(3).unwrap().to_owned();
    let replicas = served(&slipway, &database, store, "kept");
    let [first, second] = replicas.each_ref().map(|one| one.address.as_str());
    let usage = registry(&slipway, "usage").ok();
    assert!(usage.contains("app: ") && usage.contains("2 tags, 2 manifests, 3 blobs"), "{usage}");
    assert!(usage.contains("quota of repository `app`: "), "{usage}");
    assert!(registry(&slipway, "verify").ok().contains("all right"));
    // deleted beside them, gone from each of them
    assert_eq!(registry(&slipway, "delete app:v1").ok(), "app:v1\n");
    for address in [first, second] {
        wait_until("the tag is gone", || {
            request(address, "GET", "/v2/app/manifests/v1", &[], b"").status == 404
        });
    }
    let history = registry(&slipway, "tag-history app:v1").ok();
    assert!(history.lines().next().unwrap().contains("deleted"), "{history}");
    registry(&slipway, "rollback app:v1").ok();
    assert_eq!(request(second, "GET", "/v2/app/manifests/v1", &[], b"").status, 200);
    let text = manifest(b"{}", &bytes(70_000, 1), "v1");
    let digest = Digest::sha256(&text);
    registry(&slipway, &format!("delete app@{digest}")).ok();
    assert!(registry(&slipway, "trash app").ok().contains(&digest.to_string()));
    registry(&slipway, &format!("undelete app@{digest}")).ok();
    assert_eq!(request(first, "GET", "/v2/app/manifests/v1", &[], b"").body, text);
    // one collects at a time: a replica that died in its turn is waited for
    registry(&slipway, &format!("delete app@{digest}")).ok();
    server.tell(
        &name,
        "INSERT INTO slipway.leases VALUES ('collect', 'host/1', now() + interval '2 seconds', 7)
         ON CONFLICT (name) DO UPDATE SET holder = 'host/1', until = excluded.until, fence = 7",
    );
    let layer = Digest::sha256(&bytes(70_000, 1));
    // what is damaged here are files of the store
    let Some(bucket) = store.bucket() else { return };
    let object = bucket.join(format!("kept/blobs/sha256/{}", layer.hex()));
    assert!(object.exists());
    let would = registry(&slipway, "gc --dry-run --trash 0 --grace 0").ok();
    assert!(would.contains(&layer.to_string()) || would.contains(&digest.to_string()), "{would}");
    let collected = registry(&slipway, "gc --trash 0 --grace 0");
    assert!(collected.stderr.contains("the replica host/1 does it now: waiting"), "{}", collected.stderr);
    assert!(collected.ok().contains("1 manifests, 1 blobs"));
    assert!(!object.exists(), "its bytes are in the bucket yet");
    let fence = server.tell(&name, "SELECT fence FROM slipway.leases WHERE name = 'collect'");
    assert_eq!(fence, "8");
    assert_eq!(request(second, "GET", "/v2/app/manifests/v2", &[], b"").status, 200);
    assert_eq!(registry(&slipway, "retain --dry-run").ok(), "0 would go\n");
}

/// Damage in the store and in the database is found, and what is damaged is put aside for every replica.
#[test]
fn what_is_wrong_with_what_replicas_share_is_found() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let name = database.split(['/', '?']).nth(3).unwrap().to_owned();
    let replicas = served(&slipway, &database, store, "wrong");
    let layer = Digest::sha256(&bytes(50_000, 2));
    // what is damaged here are files of the store
    let Some(bucket) = store.bucket() else { return };
    let object = bucket.join(format!("wrong/blobs/sha256/{}", layer.hex()));
    std::fs::write(&object, bytes(50_000, 3)).unwrap();
    server.tell(&name, "UPDATE slipway.sums SET bytes = bytes + 5 WHERE kind = 1");
    server.tell(&name, "INSERT INTO slipway.tags VALUES (1, 'lost', 'sha256:none', 1)");
    let looked = registry(&slipway, "verify");
    assert_eq!(looked.code(), Some(1), "{}", looked.stderr);
    for words in [
        format!("damaged: {layer} of app: "),
        "dangling: app:lost points at sha256:none".to_owned(),
        "miscounted: ".to_owned(),
    ] {
        assert!(looked.stdout.contains(&words), "{words}: {}", looked.stdout);
    }
    assert!(object.exists());
    assert!(registry(&slipway, "verify --quarantine").stdout.contains("in quarantine now"));
    assert!(!object.exists());
    let path = format!("/v2/app/blobs/{layer}");
    for one in &replicas {
        assert_eq!(request(&one.address, "GET", &path, &[], b"").status, 404);
    }
    push(&replicas[1].address, "app", &bytes(50_000, 2));
    assert_eq!(request(&replicas[0].address, "GET", &path, &[], b"").body, bytes(50_000, 2));
}

/// What is for folders alone says what to do instead, and a database that is nobody's is left as it is.
#[test]
fn what_makes_no_sense_for_replicas_is_refused_in_words() {
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let database = server.database();
    let content = format!("s3://registry/refused endpoint={}", store.endpoint());
    let settings = format!("database = \"{database}\"\ncontent = \"{content}\"\n");
    std::fs::write(slipway.path("replica-0.toml"), settings).unwrap();
    let made = slipway.path("made");
    for (words, hint) in
        [("reindex", "pg_restore"), ("backup made", "pg_dump"), ("restore made", "pg_restore")]
    {
        let words = words.replace("made", made.to_str().unwrap());
        let said = registry(&slipway, &words).fails(1);
        assert!(said.contains("replicas share") && said.contains(hint), "{words}: {said}");
    }
    let said = registry(&slipway, "usage").fails(1);
    assert!(said.contains("has no registry"), "{said}");
    let name = database.split(['/', '?']).nth(3).unwrap();
    let tables = "SELECT count(*) FROM pg_namespace WHERE nspname = 'slipway'";
    assert_eq!(server.tell(name, tables), "0");
    assert!(!made.exists());
}
