//! Quotas, over the wire: every way in is bounded, exactly, and by no more than is said.

use super::{
    access::{access, basic},
    *,
};
use crate::server::{
    Policy,
    storage::{Scope, Storage, Used},
};
use std::sync::Arc;

fn policy(quotas: &[&str]) -> Policy {
    let quotas = quotas.iter().map(|text| text.parse().expect(text)).collect();
    Policy { quotas, trash: "7d".parse().expect("a time"), web: true, ..Policy::default() }
}

fn start(quotas: &[&str]) -> Registry {
    Registry::start_with(|config| config.policy = policy(quotas))
}

impl Registry {
    fn own_storage(&self) -> Arc<Storage> {
        Arc::clone(&self.server.as_ref().expect("a server").control().0.storage)
    }

    fn namespace(&self, name: &str) -> Used {
        self.own_storage().used(&Scope::Namespace(name.to_owned())).expect("a sum")
    }

    fn repository(&self, name: &str) -> Used {
        self.own_storage().used(&Scope::Repository(name.to_owned())).expect("a sum")
    }

    fn post(&self, name: &str, bytes: &[u8]) -> Reply {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::sha256(bytes));
        self.call("POST", &path, &[], bytes)
    }

    fn mount(&self, name: &str, digest: &Digest, from: &str) -> Reply {
        self.call("POST", &format!("/v2/{name}/blobs/uploads/?mount={digest}{from}"), &[], b"")
    }

    fn delete(&self, path: &str) -> u16 {
        self.call("DELETE", path, &[], b"").status
    }
}

/// What refuses it says so in words for the user, with numbers for programs, and with what docker takes for final.
fn over(reply: &Reply, scope: &str) -> serde_json::Value {
    assert_eq!(reply.refusal(), (403, "DENIED".to_owned()), "{}", reply.text());
    let error = &reply.json()["errors"][0];
    let message = error["message"].as_str().expect("words");
    assert!(message.contains(&format!("the quota of {scope} is ")), "{message}");
    assert!(message.contains("delete there"), "{message}");
    error["detail"].clone()
}

fn blob(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; length];
    bytes[0] = 255;
    bytes
}

#[test]
fn every_way_of_a_blob_is_bounded() {
    let registry = start(&["1000 in each a/b"]);
    registry.push_blob("a/b", &blob(900, 1));
    let (large, digest) = (blob(200, 2), Digest::sha256(&blob(200, 2)));
    let detail = over(&registry.post("a/b", &large), "repository `a/b`");
    let expected = serde_json::json!({
        "scope": "repository", "name": "a/b", "measure": "bytes", "quota": 1000, "used": 900, "asked": 200,
    });
    assert_eq!(detail, expected);
    // one request after the other, in one body, and without a length
    let session = registry.session("a/b");
    let patched = registry.call("PATCH", &session, &[], &large);
    assert_eq!(patched.status, 202, "without a digest it may be what is there: {}", patched.text());
    over(&registry.call("PUT", &format!("{session}?digest={digest}"), &[], b""), "repository `a/b`");
    let session = registry.session("a/b");
    over(&registry.call("PUT", &format!("{session}?digest={digest}"), &[], &large), "repository `a/b`");
    let session = registry.session("a/b");
    let chunked = [b"c8\r\n".as_slice(), &large, b"\r\n0\r\n\r\n"].concat();
    let coded = [("transfer-encoding", "chunked")];
    over(&registry.call("PUT", &format!("{session}?digest={digest}"), &coded, &chunked), "repository `a/b`");
    // mounts, of a named repository and of any
    registry.push_blob("c", &large);
    over(&registry.mount("a/b", &digest, "&from=c"), "repository `a/b`");
    over(&registry.mount("a/b", &digest, ""), "repository `a/b`");
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{digest}")).status, 404);
    assert_eq!(registry.repository("a/b").bytes, 900);
    // nothing of what was refused lies about, and the other's is whole
    assert_eq!(registry.get(&format!("/v2/c/blobs/{digest}")).body, large);
    registry.push_blob("a/b", &blob(100, 3));
    over(&registry.post("a/b", b"x"), "repository `a/b`");
    assert_eq!(registry.post("a/b", &blob(900, 1)).status, 201, "what is there adds nothing");
    assert_eq!(registry.post("a/c", &large).status, 201, "others are not bounded");
}

#[test]
fn what_is_certain_not_to_fit_is_refused_before_it_comes() {
    let registry = start(&["1000 in all of a"]);
    registry.push_blob("a/b", &blob(500, 1));
    let early = |method: &str, path: &str, length: &str| {
        // whoever waits to be told to go on sends nothing, so that an answer cannot come of its bytes
        let headers = [("content-length", length), ("expect", "100-continue")];
        registry.call(method, path, &headers, b"")
    };
    let digest = Digest::sha256(b"whatever");
    let long = early("POST", &format!("/v2/a/b/blobs/uploads/?digest={digest}"), "501");
    assert_eq!(over(&long, "namespace `a`")["asked"], 501);
    let session = registry.session("a/b");
    over(&early("PUT", &format!("{session}?digest={digest}"), "501"), "namespace `a`");
    over(&early("PATCH", &session, "9999999999"), "namespace `a`");
    // in pieces without a length: cut where it is certain
    let session = registry.session("a/b");
    let chunked = [b"7d0\r\n".as_slice(), &blob(2000, 2), b"\r\n0\r\n\r\n"].concat();
    over(&registry.call("PATCH", &session, &[("transfer-encoding", "chunked")], &chunked), "namespace `a`");
    let status = registry.get(&session);
    assert_eq!((status.status, status.header("range")), (204, Some("0-0")), "nothing of it was kept");
    assert_eq!(registry.namespace("a").bytes, 500);
}

#[test]
fn who_may_not_read_learns_nothing_by_a_quota() {
    let rules = ["ann may all in a/own", "ann may push in a/blind", "root may all in **"];
    let registry = Registry::start_with(|config| {
        config.policy = policy(&["1000 in all of a", "1000 in each a/blind"]);
        config.access = access(&rules, &["ann", "root"], |_| {});
    });
    let hidden = blob(550, 1);
    let digest = Digest::sha256(&hidden);
    for name in ["a/hidden", "a/blind"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        assert_eq!(registry.ask("root", "POST", &path, &[], &hidden).status, 201);
    }
    // a digest that is there and one that is not are told apart by who may read the repository alone
    let ask = |user: &str, name: &str, digest: &Digest| {
        let (mut stream, shown) = (registry.connect(), basic(user, &format!("secret of {user}")));
        let head = format!(
            "POST /v2/{name}/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: test\r\ncontent-length: 550\r\n\
             expect: 100-continue\r\nauthorization: {shown}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a head");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let other = Digest::sha256(b"other");
    assert_eq!([ask("root", "a/blind", &digest), ask("root", "a/blind", &other)], ["100", "403"]);
    for name in ["a/own", "a/blind"] {
        assert_eq!([ask("ann", name, &digest), ask("ann", name, &other)], ["100", "100"], "{name}");
    }
    // who has the bytes may have them where they are
    let path = format!("/v2/a/own/blobs/uploads/?digest={digest}");
    assert_eq!(registry.ask("ann", "POST", &path, &[], &hidden).status, 201);
    assert_eq!(registry.namespace("a").bytes, 550);
}

#[test]
fn manifests_and_tags_are_bounded() {
    let registry = start(&["3 tags in each t", "1 tag in all of n", "600 in each m"]);
    let (digest, bytes) = registry.push_image("t", "a", b"layer");
    let put = |name: &str, reference: &str, bytes: &[u8]| {
        registry.put_manifest(name, reference, media_type::OCI_MANIFEST, bytes)
    };
    assert_eq!(put("t", "b", &bytes).status, 201);
    let three = put("t", &format!("{digest}?tag=b&tag=c&tag=d"), &bytes);
    let detail = over(&three, "repository `t`");
    assert_eq!(
        (&detail["used"], &detail["asked"], &detail["measure"]),
        (&2.into(), &2.into(), &"tags".into())
    );
    assert_eq!(registry.get("/v2/t/manifests/c").status, 404, "all or nothing");
    assert_eq!(put("t", &format!("{digest}?tag=b&tag=a&tag=c"), &bytes).status, 201, "one of them is new");
    let other = image(b"layer", r#","annotations":{"n":"1"}"#);
    assert_eq!(put("t", "a", &other).status, 201, "a tag that moves is no new one");
    assert_eq!(put("t", &digest.to_string(), &bytes).status, 201, "nor is none");
    over(&put("t", "d", &other), "repository `t`");
    assert_eq!(registry.delete("/v2/t/manifests/b"), 202);
    assert_eq!(put("t", "d", &other).status, 201);
    registry.push_image("n/x", "v", b"layer");
    registry.push_blob("n/y", b"layer");
    registry.push_blob("n/y", b"{}");
    over(&put("n/y", "v", &bytes), "namespace `n`");
    assert_eq!(put("n/y", &digest.to_string(), &bytes).status, 201);
    assert_eq!(registry.namespace("n").tags, 1);
    // a manifest's own bytes count, and what it is attached to is no way around
    registry.push_image("m", "v", b"layer");
    let subject = serde_json::to_string(&Descriptor::of(media_type::OCI_MANIFEST, &bytes)).expect("json");
    let attached = image(b"layer", &format!(r#","subject":{subject}"#));
    let used = registry.repository("m").bytes;
    assert_eq!(used, (bytes.len() + 7) as u64);
    let refused = put("m", &Digest::sha256(&attached).to_string(), &attached);
    assert_eq!(over(&refused, "repository `m`")["asked"], attached.len());
    assert_eq!(registry.get(&format!("/v2/m/referrers/{digest}")).json()["manifests"], serde_json::json!([]));
}

#[test]
fn what_several_repositories_of_a_namespace_have_counts_once() {
    let registry = start(&["2000 in all of n"]);
    let layer = blob(1500, 1);
    registry.push_image("n/a", "v", &layer);
    let used = registry.namespace("n");
    registry.push_image("n/b", "v", &layer);
    let digest = Digest::sha256(&layer);
    assert_eq!(registry.mount("n/c", &digest, "&from=n/a").status, 201);
    assert_eq!(registry.namespace("n"), Used { tags: 2, ..used });
    over(&registry.post("n/c", &blob(1000, 2)), "namespace `n`");
    assert_eq!(registry.post("n", &blob(1000, 2)).status, 201, "`n` itself is not below it");
    // the last one that has it takes it along
    for (name, left) in [("n/a", used.bytes), ("n/b", 1500), ("n/c", 0)] {
        let gone = match name {
            "n/c" => registry.delete(&format!("/v2/n/c/blobs/{digest}")),
            name => {
                let manifest = Digest::sha256(&image(&layer, ""));
                registry.delete(&format!("/v2/{name}/manifests/{manifest}"))
            }
        };
        assert_eq!((gone, registry.namespace("n").bytes), (202, left), "{name}");
    }
}

#[test]
fn what_is_deleted_frees_its_share_at_once_and_comes_back_if_it_fits() {
    let registry = start(&["2000, 1 tag in each r"]);
    let (layer, other) = (blob(1200, 1), blob(1000, 2));
    let (digest, bytes) = registry.push_image("r", "v", &layer);
    over(&registry.post("r", &other), "repository `r`");
    assert_eq!(registry.delete(&format!("/v2/r/manifests/{digest}")), 202);
    assert_eq!(registry.repository("r"), Used::default(), "the trash does not count");
    registry.push_image("r", "w", &other);
    let storage = registry.own_storage();
    let author = super::super::storage::Author::default();
    let refused = storage.revive("r", &digest, &author).expect_err("no room");
    assert!(refused.to_string().starts_with("the quota of repository `r` is "), "{refused}");
    let refused = storage.revive_tag("r", "v", &author).expect_err("no room");
    assert!(refused.to_string().starts_with("the quota of repository `r` is "), "{refused}");
    assert_eq!(registry.get(&format!("/v2/r/manifests/{digest}")).status, 404);
    // what still lies there and nothing needs is no way around: named again, it counts again
    let head = registry.call("HEAD", &format!("/v2/r/blobs/{}", Digest::sha256(&layer)), &[], b"");
    assert_eq!(head.status, 200, "a client need not send it again");
    let refused = registry.put_manifest("r", "v", media_type::OCI_MANIFEST, &bytes);
    assert_eq!(over(&refused, "repository `r`")["asked"], bytes.len() + layer.len());
    let second = Digest::sha256(&image(&other, ""));
    assert_eq!(registry.delete(&format!("/v2/r/manifests/{second}")), 202);
    let revived = storage.revive("r", &digest, &author).expect("there is room");
    assert_eq!(revived.tags, ["v"]);
    assert_eq!(registry.repository("r").bytes, (bytes.len() + layer.len() + 2) as u64);
    // a tag more is too many, by undelete too
    registry.put_manifest("r", "v", media_type::OCI_MANIFEST, &bytes);
    assert!(storage.add_tag("r", "x", &digest, &author).is_err());
}

#[test]
fn what_comes_back_without_room_for_its_tag_is_no_failure_that_changed_something() {
    let registry = start(&["1 tag in each r"]);
    let (digest, _) = registry.push_image("r", "v", &blob(100, 1));
    assert_eq!(registry.delete(&format!("/v2/r/manifests/{digest}")), 202);
    registry.push_image("r", "w", &blob(100, 2));
    let author = super::super::storage::Author::default();
    let revived = registry.own_storage().revive("r", &digest, &author).expect("the manifest has room");
    assert_eq!(revived.tags, [""; 0]);
    assert_eq!(registry.get(&format!("/v2/r/manifests/{digest}")).status, 200);
    assert_eq!(registry.get("/v2/r/manifests/v").status, 404);
}

#[test]
fn of_many_at_once_no_more_pass_than_fit() {
    let registry = start(&["1000, 3 tags in all of n"]);
    let passed: Vec<u16> = std::thread::scope(|scope| {
        let push = |number: u8| {
            let registry = &registry;
            scope.spawn(move || {
                let (name, bytes) = (format!("n/r{number}"), blob(300, number));
                match number % 2 {
                    0 => registry.post(&name, &bytes).status,
                    _ => {
                        let (session, digest) = (registry.session(&name), Digest::sha256(&bytes));
                        registry.call("PATCH", &session, &[], &bytes);
                        registry.call("PUT", &format!("{session}?digest={digest}"), &[], b"").status
                    }
                }
            })
        };
        let all: Vec<_> = (0..8).map(push).collect();
        all.into_iter().map(|one| one.join().expect("a push")).collect()
    });
    assert_eq!(passed.iter().filter(|status| **status == 201).count(), 3, "{passed:?}");
    assert!(passed.iter().all(|status| [201, 403].contains(status)), "{passed:?}");
    assert_eq!(registry.namespace("n").bytes, 900);
    // the same one eight times is one
    let registry = start(&["300 in all of n"]);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let registry = &registry;
            scope.spawn(move || registry.push_blob(&format!("n/r{}", number % 3), &blob(300, 1)));
        }
    });
    assert_eq!(registry.namespace("n").bytes, 300);
    // and tags
    let registry = start(&["3 tags in all of n"]);
    let bytes = image(b"layer", "");
    for name in ["n/a", "n/b"] {
        registry.push_blob(name, b"layer");
        registry.push_blob(name, b"{}");
    }
    let passed: Vec<u16> = std::thread::scope(|scope| {
        let put = |number: u8| {
            let (registry, bytes) = (&registry, &bytes);
            scope.spawn(move || {
                let name = ["n/a", "n/b"][usize::from(number % 2)];
                registry.put_manifest(name, &format!("t{number}"), media_type::OCI_MANIFEST, bytes).status
            })
        };
        let all: Vec<_> = (0..8).map(put).collect();
        all.into_iter().map(|one| one.join().expect("a push")).collect()
    });
    assert_eq!(passed.iter().filter(|status| **status == 201).count(), 3, "{passed:?}");
}

#[test]
fn quotas_change_while_it_runs_and_take_nothing_away() {
    let mut registry = start(&[]);
    let (digest, bytes) = registry.push_image("n/a", "v", &blob(1000, 1));
    let change = |quotas: &[&str]| {
        registry.server.as_ref().expect("a server").control().replace_policy(policy(quotas));
    };
    change(&["10, 1 tag in all of n", "5 in each n/*"]);
    assert_eq!(registry.get("/v2/n/a/manifests/v").status, 200, "what is over is read");
    assert_eq!(registry.put_manifest("n/a", "v", media_type::OCI_MANIFEST, &bytes).status, 201);
    over(&registry.put_manifest("n/a", "w", media_type::OCI_MANIFEST, &bytes), "namespace `n`");
    let refused = registry.post("n/b", b"more");
    assert_eq!(over(&refused, "namespace `n`")["used"], bytes.len() + 1002);
    change(&["5 in each n/*"]);
    assert_eq!(registry.post("n/b", b"more").status, 201);
    change(&["1TiB in all of m"]);
    assert_eq!(registry.put_manifest("n/a", "w", media_type::OCI_MANIFEST, &bytes).status, 201);
    change(&["1 tag in all"]);
    over(&registry.put_manifest("n/a", "x", media_type::OCI_MANIFEST, &bytes), "the registry");
    assert_eq!(registry.delete(&format!("/v2/n/a/manifests/{digest}")), 202, "and deleted");
    assert_eq!(registry.namespace("n"), Used { bytes: 4, tags: 0 });
    registry.restart_with(|config| config.policy = policy(&["4 in all"]));
    over(&registry.post("x", b"y"), "the registry");
    assert_eq!(registry.post("x", b"more").status, 201, "one of the registry's is there already");
}

#[test]
fn who_pushes_into_what_is_nearly_full_is_told() {
    let registry = start(&["1000 in all of n", "10 tags in each n/a"]);
    let warned = |reply: &Reply| {
        let all = reply.headers.iter().filter(|(name, _)| name == "warning");
        all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(warned(&registry.post("n/a", &blob(899, 1))), [""; 0]);
    let words = "299 - \"namespace `n` has used 90 % of its quota of bytes\"";
    assert_eq!(warned(&registry.post("n/a", &blob(1, 2))), [words]);
    assert_eq!(warned(&registry.call("POST", "/v2/n/b/blobs/uploads/", &[], b"")), [words]);
    assert_eq!(warned(&registry.get("/v2/n/a/tags/list")), [""; 0], "who reads is not");
    let metrics = registry.get("/metrics").text();
    assert!(metrics.contains("slipway_quota_fullest_ratio{quota=\"1000 in all of n\"} 0.9\n"), "{metrics}");
    assert!(metrics.contains("slipway_quota_near_scopes{quota=\"10 tags in each n/a\"} 0\n"), "{metrics}");
    let page = registry.get("/usage").text();
    assert!(page.contains("Quota of") && page.contains("n/…") && page.contains("10 tags"), "{page}");
}
