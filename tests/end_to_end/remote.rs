//! Commands that ask and change registries: ours, and Debian's.

use crate::support::http::request;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, find};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Debian's registry, which deletes; it has neither a list of referrers nor deletes of tags.
pub(crate) fn debians(slipway: &Slipway, name: &str) -> Server {
    let storage = slipway.context(name, &[]);
    debians_over(slipway, name, &format!("filesystem:\n    rootdirectory: {}", storage.display()))
}

/// The same over what one of its drivers keeps.
pub(crate) fn debians_over(slipway: &Slipway, name: &str, driver: &str) -> Server {
    let address = free_address();
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  \
         {driver}\nhttp:\n  addr: {address}\n"
    );
    let place = slipway.path(&format!("{name}.yml"));
    fs::write(&place, config).unwrap();
    let log = fs::File::options().create(true).append(true).open(slipway.path("registry.log")).unwrap();
    let mut command = Command::new(find("docker-registry").unwrap());
    // its driver of S3 cannot take one
    command.env_remove("AWS_CA_BUNDLE");
    Server::start(command.arg("serve").arg(place).stderr(log), &address)
}

fn ours(slipway: &Slipway, name: &str) -> Server {
    Server::slipway(slipway, &slipway.path(name))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Puts a manifest of one empty configuration with a subject, and answers its digest.
fn attach(server: &Server, repository: &str, kind: &str, subject: &Value) -> String {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let path = format!("/v2/{repository}/blobs/uploads/?digest={empty}");
    assert_eq!(request(&server.address, "POST", &path, &[], b"{}").status, 201);
    let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": config,
        "layers": [config],
        "subject": subject,
    });
    let bytes = manifest.to_string();
    let digest = slipway_oci::Digest::sha256(bytes.as_bytes()).to_string();
    let path = format!("/v2/{repository}/manifests/{digest}");
    let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    assert_eq!(request(&server.address, "PUT", &path, &kind, bytes.as_bytes()).status, 201);
    digest
}

#[test]
fn what_a_registry_has_is_shown_and_deleted() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    let (one, two) = (server.name("team/app:1"), server.name("team/app:2"));
    for name in [&one, &two] {
        slipway.ok(["push", "-q", "base", name]);
    }
    let repository = server.name("team/app");
    assert_eq!(slipway.ok(["tags", &repository]), "1\n2\n");
    let listed = json(&slipway.ok(["tags", "--json", &format!("docker://{repository}")]));
    assert_eq!(listed, json!({ "Repository": repository, "Tags": ["1", "2"] }));
    assert!(slipway.fails(2, ["tags", &one]).contains("tags are of a repository"));
    assert!(slipway.fails(1, ["tags", &server.name("none")]).contains("is not in the registry"));
    let digest = slipway.ok(["digest", &one]).trim().to_owned();
    let shown = json(&slipway.ok(["digest", "--json", &one]));
    assert_eq!(shown["digest"], json!(digest));
    assert_eq!(slipway.ok(["digest", &format!("{repository}@{digest}")]).trim(), digest);
    // what is attached
    let subject = json!({ "mediaType": shown["mediaType"], "digest": digest, "size": shown["size"] });
    let sbom = attach(&server, "team/app", "application/spdx+json", &subject);
    let signature = attach(&server, "team/app", "application/x.signature", &subject);
    let table = slipway.ok(["referrers", &one]);
    assert!(table.contains(&sbom) && table.contains(&signature) && table.contains("application/spdx+json"));
    let only = ["referrers", "--json", "--artifact-type", "application/spdx+json", &one];
    let only = json(&slipway.ok(only));
    assert_eq!((only.as_array().unwrap().len(), &only[0]["digest"]), (1, &json!(sbom)));
    assert_eq!(json(&slipway.ok(["referrers", "--json", &format!("{repository}@{sbom}")])), json!([]));
    // a tag alone, then all
    assert!(slipway.fails(2, ["delete", &repository]).contains("names no tag and no digest"));
    let words = slipway.ok(["delete", &one]);
    assert!(words.contains("deleted the tag") && words.contains(&format!("{digest} stays")), "{words}");
    assert_eq!(slipway.ok(["tags", &repository]), "2\n");
    let gone = json(&slipway.ok(["delete", "--json", &format!("{repository}@{digest}")]));
    assert_eq!(gone, json!({ "name": repository, "tag": null, "digest": digest }));
    slipway.fails(1, ["digest", &two]);
    assert!(slipway.fails(1, ["delete", &two]).contains("is not in the registry"));
}

#[test]
fn what_debians_registry_has_is_shown_and_deleted() {
    slipway_skip::need!("docker-registry");
    let slipway = Slipway::new();
    let server = debians(&slipway, "debian");
    let one = server.name("team/app:1");
    slipway.ok(["push", "-q", "base", &one]);
    let repository = server.name("team/app");
    assert_eq!(slipway.ok(["tags", &repository]), "1\n");
    let digest = slipway.ok(["digest", &one]).trim().to_owned();
    assert_eq!(json(&slipway.ok(["referrers", "--json", &one])), json!([]));
    let words = slipway.fails(1, ["delete", &one]);
    assert!(words.contains("some registries delete by digest alone"), "{words}");
    slipway.ok(["delete", &format!("{repository}@{digest}")]);
    slipway.fails(1, ["digest", &one]);
}

fn blobs_of(server: &Server, repository: &str, digest: &str) -> Vec<u8> {
    let path = format!("/v2/{repository}/manifests/{digest}");
    let kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                 application/vnd.docker.distribution.manifest.v2+json";
    let reply = request(&server.address, "GET", &path, &[("accept", kinds)], b"");
    assert_eq!(reply.status, 200, "{path}");
    reply.body
}

/// An index over the base and one more image, with a signature on the index, under `repository:1`; its digest.
pub(crate) fn indexed(slipway: &Slipway, server: &Server, repository: &str) -> String {
    slipway.build("other", "FROM base\nRUN echo other > /other\n", &[]).ok();
    let mut entries = Vec::new();
    for (image, platform) in [("base", "amd64"), ("other", "arm64")] {
        slipway.ok(["push", "-q", image, &server.name(&format!("{repository}:{platform}"))]);
        let shown =
            json(&slipway.ok(["digest", "--json", &server.name(&format!("{repository}:{platform}"))]));
        entries.push(json!({
            "mediaType": shown["mediaType"], "digest": shown["digest"], "size": shown["size"],
            "platform": { "os": "linux", "architecture": platform },
        }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    // spaces that no program would write: the bytes have to arrive as they are
    let index = format!(
        "{{ \"schemaVersion\": 2,\n  \"mediaType\": \"{kind}\", \"manifests\": {} , \"unknown\": [ 1 ] }}",
        Value::Array(entries)
    );
    let path = format!("/v2/{repository}/manifests/1");
    assert_eq!(
        request(&server.address, "PUT", &path, &[("content-type", kind)], index.as_bytes()).status,
        201
    );
    let digest = slipway_oci::Digest::sha256(index.as_bytes()).to_string();
    let subject = json!({ "mediaType": kind, "digest": digest, "size": index.len() });
    attach(server, repository, "application/x.signature", &subject);
    digest
}

/// What `buildx --cache-to type=registry` has pushed for years: an index over layers and a configuration.
#[test]
fn an_index_of_blobs_is_copied_like_any_other() {
    let slipway = Slipway::new();
    let (here, there) = (ours(&slipway, "here"), ours(&slipway, "there"));
    let mut entries = Vec::new();
    for (kind, bytes) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip", &b"one layer"[..]),
        ("application/vnd.buildkit.cacheconfig.v0", b"{}"),
    ] {
        let digest = slipway_oci::Digest::sha256(bytes);
        let path = format!("/v2/cache/blobs/uploads/?digest={digest}");
        assert_eq!(request(&here.address, "POST", &path, &[], bytes).status, 201);
        entries.push(json!({ "mediaType": kind, "digest": digest.to_string(), "size": bytes.len() }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries }).to_string();
    let put =
        request(&here.address, "PUT", "/v2/cache/manifests/1", &[("content-type", kind)], index.as_bytes());
    assert_eq!(put.status, 201);
    let digest = slipway_oci::Digest::sha256(index.as_bytes()).to_string();
    let layout = format!("oci:{}:v", slipway.path("layout").display());
    let archive = format!("oci-archive:{}:v", slipway.path("cache.tar").display());
    let mut from = here.name("cache:1");
    for (number, place) in
        [here.name("near:1"), there.name("far:1"), layout, archive, there.name("back:1")].iter().enumerate()
    {
        assert_eq!(slipway.ok(["copy", "-q", &from, place]).trim(), digest, "{number}");
        from.clone_from(place);
    }
    assert_eq!(blobs_of(&there, "back", &digest), index.as_bytes());
    for entry in &entries {
        let path = format!("/v2/back/blobs/{}", entry["digest"].as_str().unwrap());
        assert_eq!(request(&there.address, "HEAD", &path, &[], b"").status, 200, "{path}");
    }
}

#[test]
fn images_are_copied_byte_for_byte_between_all_places() {
    let slipway = Slipway::new();
    let (here, there) = (ours(&slipway, "here"), ours(&slipway, "there"));
    let digest = indexed(&slipway, &here, "team/app");
    let from = here.name("team/app:1");
    let bytes = blobs_of(&here, "team/app", &digest);
    // within a registry nothing travels
    let near = here.name("other/app:1");
    let copied = json(&slipway.ok(["copy", "-q", "--json", &from, &near]));
    assert_eq!((&copied["digest"], &copied["blobs"]["uploaded"]), (&json!(digest), &json!(0)), "{copied}");
    assert!(copied["blobs"]["mounted"].as_u64() > Some(1), "{copied}");
    assert_eq!(blobs_of(&here, "other/app", &digest), bytes);
    assert_eq!(json(&slipway.ok(["referrers", "--json", &near])), json!([]), "only when asked for");
    // to another one, with what is attached; and again, when all is there
    let far = there.name("app:2");
    let copied =
        json(&slipway.ok(["copy", "-q", "--json", "--referrers", &format!("docker://{from}"), &far]));
    assert!(copied["blobs"]["uploaded"].as_u64() > Some(1), "{copied}");
    let again = json(&slipway.ok(["copy", "-q", "--json", &from, &far]));
    assert_eq!(again["blobs"]["uploaded"], json!(0), "{again}");
    assert_eq!(blobs_of(&there, "app", &digest), bytes);
    let attached = json(&slipway.ok(["referrers", "--json", &far]));
    assert_eq!(attached[0]["artifactType"], json!("application/x.signature"));
    // by way of layouts and archives
    let layout = slipway.path("layout");
    for (number, place) in
        [format!("oci:{}:v", layout.display()), format!("oci-archive:{}:v", slipway.path("a.tar").display())]
            .iter()
            .enumerate()
    {
        slipway.ok(["copy", "-q", "--referrers", &from, place]);
        let back = there.name(&format!("back{number}:1"));
        assert_eq!(slipway.ok(["copy", "-q", "--referrers", place, &back]).trim(), digest);
        assert_eq!(blobs_of(&there, &format!("back{number}"), &digest), bytes);
        assert_eq!(json(&slipway.ok(["referrers", "--json", &back])), attached, "{place}");
    }
    // a second image beside the first: then one has to be named
    let one = slipway.ok(["digest", "--platform", "linux/arm64", &from]).trim().to_owned();
    let second = format!("oci:{}:arm", layout.display());
    assert_eq!(slipway.ok(["copy", "-q", "--platform", "linux/arm64", &from, &second]).trim(), one);
    let nameless = format!("oci:{}", layout.display());
    let target = there.name("x:1");
    assert!(slipway.fails(2, ["copy", "-q", &nameless, &target]).contains("it has: v, arm"));
    assert_eq!(slipway.ok(["copy", "-q", &second, &target]).trim(), one);
    // docker's archive holds one image, and comes back as one
    let archive = format!("docker-archive:{}", slipway.path("d.tar").display());
    assert!(slipway.fails(2, ["copy", "-q", &from, &archive]).contains("several platforms"));
    slipway.ok(["copy", "-q", "--platform", "linux/amd64", &from, &format!("{archive}:x:1")]);
    slipway.ok(["copy", "-q", &archive, &there.name("d:1")]);
    slipway.ok(["pull", "-q", &there.name("d:1")]);
    // nothing of it stays here
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn what_is_copied_is_read_by_skopeo_and_lies_in_debians_registry() {
    slipway_skip::need!("docker-registry", "skopeo");
    let slipway = Slipway::new();
    let (here, there) = (ours(&slipway, "here"), debians(&slipway, "debian"));
    let digest = indexed(&slipway, &here, "team/app");
    let from = here.name("team/app:1");
    let far = there.name("team/app:1");
    slipway.ok(["copy", "-q", "--referrers", &from, &far]);
    assert_eq!(blobs_of(&there, "team/app", &digest), blobs_of(&here, "team/app", &digest));
    let attached = json(&slipway.ok(["referrers", "--json", &far]));
    assert_eq!(attached[0]["artifactType"], json!("application/x.signature"), "by the tag that stands in");
    // and from there within it: Debian's registry mounts too
    let copied = json(&slipway.ok(["copy", "-q", "--json", &far, &there.name("near/app:1")]));
    assert_eq!(copied["blobs"]["uploaded"], json!(0), "{copied}");
    let layout = format!("oci:{}:v", slipway.path("layout").display());
    slipway.ok(["copy", "-q", &far, &layout]);
    let skopeo = |words: &[&str]| {
        crate::support::run(Command::new("skopeo").arg("--insecure-policy").args(words)).ok()
    };
    let raw = skopeo(&["inspect", "--raw", &layout]);
    assert_eq!(slipway_oci::Digest::sha256(raw.as_bytes()).to_string(), digest);
    let made = slipway.path("skopeos");
    let place = format!("oci:{}:w", made.display());
    skopeo(&[
        "copy",
        "-q",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        &format!("docker://{from}"),
        &place,
    ]);
    assert_eq!(slipway.ok(["copy", "-q", &place, &there.name("skopeo/app:1")]).trim(), digest);
}

#[test]
fn a_promoted_tag_is_what_was_tested_or_as_it_was() {
    let slipway = Slipway::new();
    let (server, other) = (ours(&slipway, "storage"), ours(&slipway, "other"));
    let digest = indexed(&slipway, &server, "app");
    let (tested, used) = (server.name("app:1"), server.name("app:stable"));
    assert!(slipway.ok(["promote", "-q", &tested, &used]).contains(&digest));
    assert_eq!(slipway.ok(["digest", &used]).trim(), digest);
    // again, to another repository and registry
    let shown = json(&slipway.ok(["promote", "-q", "--json", &tested, &used]));
    assert_eq!((&shown["digest"], &shown["before"]), (&json!(digest), &json!(digest)));
    for target in [server.name("prod/app:1"), other.name("prod/app:1")] {
        slipway.ok(["promote", "-q", "--referrers", &tested, &target]);
        assert_eq!(slipway.ok(["digest", &target]).trim(), digest);
        let attached = json(&slipway.ok(["referrers", "--json", &target]));
        assert_eq!(attached.as_array().unwrap().len(), 1);
    }
    // another one only where the tag is what the caller thinks
    let newer = server.name("app:arm64");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let words = slipway.fails(1, ["promote", "-q", "--if-match", &wrong, &newer, &used]);
    assert!(words.contains("nothing was changed") && words.contains(&digest), "{words}");
    assert_eq!(slipway.ok(["digest", &used]).trim(), digest);
    slipway.ok(["promote", "-q", "--if-match", &digest, &newer, &used]);
    assert_ne!(slipway.ok(["digest", &used]).trim(), digest);
    assert!(slipway.fails(2, ["promote", &tested, &server.name("app")]).contains("names no tag"));
    assert!(slipway.fails(2, ["promote", &server.name("app"), &used]).contains("names no tag and no digest"));
}

#[test]
fn files_are_kept_in_registries_in_the_form_of_oras() {
    let slipway = Slipway::new();
    let mut servers = vec![ours(&slipway, "storage")];
    if find("docker-registry").is_some() {
        servers.push(debians(&slipway, "debian"));
    }
    let folder =
        slipway.context("files", &[("a.json", "{}\n"), ("site/index.html", "<p>"), ("site/sub/x", "x")]);
    let run = |words: &[&str]| {
        let mut command = slipway.command(words);
        crate::support::run(command.current_dir(&folder)).ok()
    };
    for (number, server) in servers.iter().enumerate() {
        let name = server.name("team/files:1");
        let kind = "application/vnd.example.site";
        let words = ["artifact", "push", "-q", "--json", "--artifact-type", kind, "-a", "k=v", &name];
        let pushed = json(&run(&[&words[..], &["a.json:application/json", "site"]].concat()));
        let digest = pushed["digest"].as_str().unwrap().to_owned();
        let manifest = json(&String::from_utf8(blobs_of(server, "team/files", &digest)).unwrap());
        assert_eq!((&manifest["artifactType"], &manifest["annotations"]["k"]), (&json!(kind), &json!("v")));
        assert_eq!(manifest["config"]["mediaType"], json!("application/vnd.oci.empty.v1+json"));
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers[0]["mediaType"], json!("application/json"));
        assert_eq!(layers[0]["annotations"]["org.opencontainers.image.title"], json!("a.json"));
        assert_eq!(layers[1]["mediaType"], json!("application/vnd.oci.image.layer.v1.tar+gzip"));
        assert_eq!(layers[1]["annotations"]["io.deis.oras.content.unpack"], json!("true"));
        assert!(layers[1]["annotations"]["io.deis.oras.content.digest"].is_string());
        // the same again
        let again = json(&run(&[&words[..], &["a.json:application/json", "site"]].concat()));
        assert_eq!(again["digest"], pushed["digest"]);
        let out = slipway.path(&format!("out{number}"));
        let listed = slipway.ok(["artifact", "pull", "-q", "-o", out.to_str().unwrap(), &name]);
        assert_eq!(listed.lines().count(), 2, "{listed}");
        assert_eq!(fs::read_to_string(out.join("a.json")).unwrap(), "{}\n");
        assert_eq!(fs::read_to_string(out.join("site/sub/x")).unwrap(), "x");
        let kept = ["artifact", "pull", "-q", "--keep-old-files", "-o", out.to_str().unwrap(), &name];
        assert!(slipway.fails(1, kept).contains("is there already"));
        // attached to an image, and found there
        let image = server.name("team/app:1");
        slipway.ok(["push", "-q", "base", &image]);
        let words =
            ["artifact", "attach", "-q", "--artifact-type", "application/spdx+json", &image, "a.json"];
        let attached = run(&words);
        let found = json(&slipway.ok(["referrers", "--json", &image]));
        let digest = found[0]["digest"].as_str().unwrap();
        assert!(attached.contains(digest) && found.as_array().unwrap().len() == 1, "{attached} {found}");
        assert_eq!(found[0]["artifactType"], json!("application/spdx+json"));
        slipway.ok([
            "artifact",
            "pull",
            "-q",
            "-o",
            out.to_str().unwrap(),
            &format!("{}@{digest}", server.name("team/app")),
        ]);
        assert!(slipway.fails(1, ["artifact", "pull", "-q", &image]).contains("no files with names"));
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn an_artifact_of_oras_is_read_and_a_hostile_one_is_not() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    let put = |tag: &str, title: &str| {
        let bytes = format!("content of {tag}");
        let digest = slipway_oci::Digest::sha256(bytes.as_bytes()).to_string();
        let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        for (digest, bytes) in [(digest.as_str(), bytes.as_bytes()), (empty, b"{}")] {
            let path = format!("/v2/f/blobs/uploads/?digest={digest}");
            assert_eq!(request(&server.address, "POST", &path, &[], bytes).status, 201);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.unknown.artifact.v1",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2, "data": "e30=" },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": bytes.len(),
                "annotations": { "org.opencontainers.image.title": title },
            }],
            "annotations": { "org.opencontainers.image.created": "2026-01-01T00:00:00Z" },
        });
        let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
        let path = format!("/v2/f/manifests/{tag}");
        assert_eq!(
            request(&server.address, "PUT", &path, &kind, manifest.to_string().as_bytes()).status,
            201
        );
    };
    let out = slipway.path("deep/out");
    let pull = |tag: &str| {
        let name = server.name(&format!("f:{tag}"));
        slipway.run(["artifact", "pull", "-q", "-o", out.to_str().unwrap(), &name])
    };
    put("good", "sub/file");
    pull("good").ok();
    assert_eq!(fs::read_to_string(out.join("sub/file")).unwrap(), "content of good");
    for (at, title) in ["../up", "/tmp/slipway-absolute", "a/../../up", "sub/../../up", "x\u{1b}[2J", ".."]
        .iter()
        .enumerate()
    {
        let tag = format!("bad{at}");
        put(&tag, title);
        assert!(pull(&tag).fails(1).contains("leads out of the folder"), "{title}");
    }
    assert!(!slipway.path("deep/up").exists() && !slipway.path("up").exists());
    // a link in the way leads nowhere else
    std::os::unix::fs::symlink(slipway.path("deep"), out.join("link")).unwrap();
    put("link", "link/file");
    let _ = pull("link");
    assert!(!slipway.path("deep/file").exists());
}

#[test]
fn a_push_under_a_condition_moves_no_tag_that_somebody_else_moved() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    slipway.build("other", "FROM base\nRUN echo other > /other\n", &[]).ok();
    let name = server.name("app:1");
    slipway.ok(["push", "-q", "--if-match", "none", "base", &name]);
    let first = slipway.ok(["digest", &name]).trim().to_owned();
    let words = slipway.fails(1, ["push", "-q", "--if-match", "none", "other", &name]);
    assert!(words.contains(&first) && words.contains("nothing was changed"), "{words}");
    let wrong = format!("sha256:{}", "0".repeat(64));
    slipway.fails(1, ["push", "-q", "--if-match", &wrong, "other", &name]);
    assert_eq!(slipway.ok(["digest", &name]).trim(), first);
    slipway.ok(["push", "-q", "--if-match", &first, "other", &name]);
    assert_ne!(slipway.ok(["digest", &name]).trim(), first);
    assert!(slipway.fails(2, ["push", "--if-match", "x", "other", &name]).contains("digest"));
    assert!(
        slipway
            .fails(1, ["push", "-q", "--if-match", &first, "other", &server.name("app:2")])
            .contains("is not there")
    );
}

#[test]
fn of_many_pushes_under_one_condition_one_wins() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    let images: Vec<String> = (0..3).map(|number| format!("image{number}")).collect();
    for image in &images {
        slipway.build(image, &format!("FROM base\nRUN echo {image} > /which\n"), &[]).ok();
        // so that nothing but the tag is left to be sent
        slipway.ok(["push", "-q", image, &server.name(&format!("app:{image}"))]);
    }
    let name = server.name("app:1");
    slipway.ok(["push", "-q", "base", &name]);
    let first = slipway.ok(["digest", &name]).trim().to_owned();
    let pushes: Vec<_> = images
        .iter()
        .map(|image| slipway.command(["push", "-q", "--if-match", &first, image, &name]).spawn().unwrap())
        .collect();
    let won: Vec<bool> = pushes.into_iter().map(|mut push| push.wait().unwrap().success()).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = won.iter().position(|won| *won).unwrap();
    let now = slipway.ok(["digest", &name]).trim().to_owned();
    assert_eq!(slipway.ok(["digest", &server.name(&format!("app:{}", images[winner]))]).trim(), now);

    // who looked before the others moved it is told so by the registry itself, and what is there
    let bytes = blobs_of(&server, "app", &now);
    let kind: Value = serde_json::from_slice(&bytes).unwrap();
    let kind = kind["mediaType"].as_str().unwrap();
    let stale = format!("\"{first}\"");
    for (method, condition) in [
        ("PUT", ("if-match", stale.as_str())),
        ("PUT", ("if-none-match", "*")),
        ("DELETE", ("if-match", stale.as_str())),
    ] {
        let headers = [("content-type", kind), condition];
        let body: &[u8] = if method == "PUT" { &bytes } else { b"" };
        let reply = request(&server.address, method, "/v2/app/manifests/1", &headers, body);
        assert_eq!(reply.status, 412, "{method} {condition:?}");
        assert_eq!(reply.header("docker-content-digest"), now, "{method} {condition:?}");
    }
    assert_eq!(slipway.ok(["digest", &name]).trim(), now);
}

#[test]
fn what_is_needed_is_not_deleted() {
    let slipway = Slipway::new();
    let server = ours(&slipway, "storage");
    let index = indexed(&slipway, &server, "app");
    let child = slipway.ok(["digest", &server.name("app:amd64")]).trim().to_owned();
    let words = slipway.fails(1, ["delete", &server.name(&format!("app@{child}"))]);
    assert!(words.contains(&index) && words.contains("needed"), "{words}");
    let manifest: Value = serde_json::from_slice(&blobs_of(&server, "app", &child)).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let delete = || request(&server.address, "DELETE", &format!("/v2/app/blobs/{layer}"), &[], b"");
    let refused = delete();
    assert_eq!(refused.status, 409);
    assert!(String::from_utf8(refused.body).unwrap().contains("neededBy"));
    slipway.ok(["delete", &server.name(&format!("app@{index}"))]);
    let rest: Vec<String> = ["amd64", "arm64"]
        .iter()
        .map(|tag| slipway.ok(["digest", &server.name(&format!("app:{tag}"))]).trim().to_owned())
        .collect();
    for digest in rest {
        slipway.ok(["delete", &server.name(&format!("app@{digest}"))]);
    }
    assert_eq!(delete().status, 202);
}
