//! What is said of images beside them: provenance and packages, which leave digests alone and travel along.

use super::remote::debians;
use crate::support::image::blob;
use crate::support::server::Server;
use crate::support::{Slipway, find, run};
use serde_json::{Value, json};
use slipway_skip::need;
use std::process::Command;

const RECIPE: &str = "FROM base\nARG TOKEN\nRUN --mount=type=secret,id=npm \
    mkdir -p /var/lib/dpkg && printf 'Package: hello\\nStatus: install ok installed\\nVersion: 2.10\\n' > /var/lib/dpkg/status\n";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Builds the image with these flags, and answers what its metadata file says.
fn built(slipway: &Slipway, name: &str, flags: &[&str]) -> Value {
    std::fs::write(slipway.path("npm"), "hunter2-of-npm\n").unwrap();
    let (secret, file) =
        (format!("id=npm,src={}", slipway.path("npm").display()), slipway.path("metadata.json"));
    let own =
        ["--secret", &secret, "--build-arg", "TOKEN=ghp_argument", "--metadata-file", file.to_str().unwrap()];
    slipway.build_with(name, RECIPE, &[("file", "")], &[&own[..], flags].concat()).ok();
    json(&std::fs::read_to_string(file).unwrap())
}

/// What is attached to an image in its registry: the kinds of statements.
fn kinds(slipway: &Slipway, name: &str) -> Vec<String> {
    let listed = json(&slipway.ok(["referrers", "--json", name]));
    let kind =
        |one: &Value| one["annotations"]["in-toto.io/predicate-type"].as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<String> = listed.as_array().unwrap().iter().map(kind).collect();
    kinds.sort();
    kinds
}

#[test]
fn what_is_said_of_an_image_changes_no_digest_and_goes_where_it_goes() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let name = server.name("team/app:1");
    let plain = built(&slipway, "plain", &[]);
    let said = built(&slipway, &name, &["--provenance=mode=max", "--sbom=true", "--push"]);
    let digest = said["containerimage.digest"].as_str().unwrap();
    assert_eq!(plain["containerimage.digest"], digest, "the image is the same image");
    assert_eq!(kinds(&slipway, &name), ["https://slsa.dev/provenance/v1", "https://spdx.dev/Document"]);
    let provenance = &said["buildx.build.provenance"];
    let definition = &provenance["buildDefinition"];
    let base = slipway.digest("base");
    let materials = definition["resolvedDependencies"].as_array().unwrap();
    assert_eq!(materials.len(), 1, "{materials:#?}");
    assert_eq!(format!("sha256:{}", materials[0]["digest"]["sha256"].as_str().unwrap()), base);
    assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:TOKEN"], "ghp_argument");
    assert!(!provenance.to_string().contains("hunter2"), "{provenance}");

    // what was sent is a statement about the image
    let listed = json(&slipway.ok(["referrers", "--json", &name]));
    let spdx = listed.as_array().unwrap().iter().find(|one| one.to_string().contains("spdx")).unwrap();
    let manifest = json(&String::from_utf8(blob(&slipway, spdx["digest"].as_str().unwrap())).unwrap());
    let statement =
        json(&String::from_utf8(blob(&slipway, manifest["layers"][0]["digest"].as_str().unwrap())).unwrap());
    assert_eq!(manifest["subject"]["digest"], digest);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap()), digest);
    assert!(statement["predicate"].to_string().contains("pkg:deb/debian/hello@2.10"), "{statement:#}");

    // another store fetches it where it is asked to, sends it on, and carries it in a layout
    let other = slipway.another("other");
    let copy = server.name("copy/app:1");
    other.ok(["pull", "-q", &name]);
    other.ok(["tag", &name, &copy]);
    other.ok(["push", "-q", &copy]);
    assert!(kinds(&other, &copy).is_empty());
    other.ok(["pull", "-q", "--referrers", &name]);
    other.ok(["push", "-q", &copy]);
    assert_eq!(kinds(&other, &copy).len(), 2);
    // a later statement of a kind takes the place of the earlier one, and goes with the image
    built(&slipway, &name, &["--attest", "type=provenance,builder-id=https://ci.example/1"]);
    assert_eq!(slipway.ok(["images", "-q", &name]).lines().count(), 1);
    slipway.ok(["rmi", &name, "plain"]);
    slipway.ok(["prune", "-a", "-f"]);
    assert!(!slipway.root.join("blobs/sha256").join(&spdx["digest"].as_str().unwrap()[7..]).exists());
}

#[test]
fn the_same_build_says_the_same_and_the_smallest_form_nothing_private() {
    let slipway = Slipway::new();
    let said = |name: &str, flags: &[&str]| {
        let folder = slipway.path(name);
        let output = format!("type=oci,tar=false,dest={}", folder.display());
        built(&slipway, "app", &[&["-o", &output, "--source-date-epoch", "5"], flags].concat());
        let index = json(&std::fs::read_to_string(folder.join("index.json")).unwrap());
        let attached =
            index["manifests"].as_array().unwrap().iter().filter(|one| one.get("artifactType").is_some());
        let digests: Vec<String> =
            attached.map(|one| one["digest"].as_str().unwrap()[7..].to_owned()).collect();
        let read = |digest: &str| std::fs::read_to_string(folder.join("blobs/sha256").join(digest)).unwrap();
        let statement = |digest: &String| {
            let manifest = json(&read(digest));
            json(&read(&manifest["layers"][0]["digest"].as_str().unwrap()[7..]))
        };
        let statements: Vec<Value> = digests.iter().map(statement).collect();
        (digests, statements)
    };
    let flags = ["--provenance=true", "--sbom=format=cyclonedx"];
    let (once, statements) = said("once", &flags);
    assert_eq!(once, said("again", &flags).0);
    assert_eq!(once.len(), 2);
    assert_eq!(statements[1]["predicateType"], "https://cyclonedx.org/bom");
    let provenance = statements[0].to_string();
    assert_eq!(statements[0]["predicateType"], PROVENANCE);
    let here = slipway.path("").display().to_string();
    for word in ["hunter2", "ghp_argument", "TOKEN", here.trim_end_matches('/')] {
        assert!(!provenance.contains(word), "{word}: {provenance}");
    }
    // a layout comes back whole
    let other = slipway.another("other");
    other.ok(["load", "-i", slipway.path("once").to_str().unwrap()]);
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let id = other.ok(["images", "-q"]).trim().to_owned();
    let name = server.name("team/app:2");
    other.ok(["tag", &id, &name]);
    other.ok(["push", "-q", &name]);
    assert_eq!(kinds(&slipway, &name).len(), 2);
    for (flag, words) in [
        ("--provenance=mode=all", "min or max"),
        ("--sbom=generator=x", "by slipway itself"),
        ("--attest=mode=max", "no type="),
    ] {
        let failed = slipway.build_with("x", RECIPE, &[], &[flag]).fails(2);
        assert!(failed.contains(words), "{failed}");
    }
}

#[test]
fn lists_of_packages_are_written_for_images_of_the_store() {
    let slipway = Slipway::new();
    built(&slipway, "app", &[]);
    let spdx = json(&slipway.ok(["sbom", "app"]));
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx["packages"][1]["name"], "hello");
    let file = slipway.path("app.cdx.json");
    slipway.ok(["sbom", "--format", "cyclonedx", "-o", file.to_str().unwrap(), "app"]);
    let cyclonedx = json(&std::fs::read_to_string(file).unwrap());
    assert_eq!(cyclonedx["components"][0]["purl"], "pkg:deb/debian/hello@2.10");
    assert!(slipway.fails(1, ["sbom", "nothing"]).contains("nothing"));
}

#[test]
fn others_see_what_is_attached_also_where_the_registry_lists_nothing() {
    need!("oras", "docker-registry");
    let slipway = Slipway::new();
    for server in [Server::slipway(&slipway, &slipway.path("storage")), debians(&slipway, "distribution")] {
        let name = server.name("team/app:1");
        built(&slipway, &name, &["--provenance=true", "--sbom=true", "-o", "type=registry"]);
        assert_eq!(kinds(&slipway, &name).len(), 2);
        let mut oras = Command::new(find("oras").unwrap());
        oras.args(["discover", "--plain-http", "--format", "json", &name]);
        let found = json(&run(oras.env("HOME", slipway.path(""))).ok());
        let kinds: Vec<&Value> =
            found["referrers"].as_array().unwrap().iter().map(|one| &one["artifactType"]).collect();
        assert_eq!(kinds, [&json!("application/vnd.in-toto+json"); 2], "{found}");
    }
}

/// A pair of keys in the test's folder, by this prefix.
fn pair(slipway: &Slipway, prefix: &str) -> (String, String) {
    let place = slipway.path(prefix).display().to_string();
    let mut command = slipway.command(["generate-key-pair", "--output-key-prefix", &place]);
    run(command.env("COSIGN_PASSWORD", "pw")).ok();
    (format!("{place}.key"), format!("{place}.pub"))
}

fn sign(slipway: &Slipway, words: &[&str]) -> crate::support::Ended {
    let mut command = slipway.command(["sign"].iter().chain(words));
    run(command.env("COSIGN_PASSWORD", "pw"))
}

#[test]
fn signatures_are_cosigns() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let ((key, public), (other_key, other)) = (pair(&slipway, "own"), pair(&slipway, "other"));
    let name = server.name("team/app:1");
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["push", "-q", &name]);
    let digest = slipway.ok(["digest", &name]).trim().to_owned();
    let unsigned = slipway.fails(1, ["verify", "--key", &public, &name]);
    assert!(unsigned.contains("is not signed by") && unsigned.contains("has 0 signatures"), "{unsigned}");
    assert_eq!(
        sign(&slipway, &["--key", &key, &name]).ok().trim(),
        format!("{}@{digest}", server.name("team/app"))
    );
    // the same again is there, another's is added
    sign(&slipway, &["--key", &key, &name]).ok();
    slipway.ok(["verify", "--key", &public, &name]);
    let wrong = slipway.fails(1, ["verify", "--key", &other, &name]);
    assert!(wrong.contains("has 1 signature,") && wrong.contains("other.pub"), "{wrong}");
    sign(&slipway, &["--key", &other_key, "--identity", "registry.example/app", &name]).ok();
    let said = json(&slipway.ok(["verify", "--json", "--key", &public, "--key", &other, &name]));
    assert_eq!(said.as_array().unwrap().len(), 2, "{said}");
    assert_eq!(said[0]["critical"]["image"]["docker-manifest-digest"], digest);
    assert_eq!(said[1]["critical"]["identity"]["docker-reference"], "registry.example/app");
    // attached, and along with a copy
    let attached = server.name("team/attached:1");
    slipway.ok(["tag", "base", &attached]);
    slipway.ok(["push", "-q", &attached]);
    sign(&slipway, &["--attach", "--key", &key, &attached]).ok();
    slipway.ok(["verify", "--key", &public, &attached]);
    let copy = server.name("team/copy:1");
    slipway.ok(["copy", "--referrers", &attached, &copy]);
    slipway.ok(["verify", "--key", &public, &copy]);
    assert_eq!(slipway.ok(["tags", &server.name("team/attached")]), "1\n");
    // mistakes
    let run_with = |password: &str, words: &[&str]| {
        let mut command = slipway.command(words);
        run(command.env("COSIGN_PASSWORD", password))
    };
    let failed = run_with("wrong", &["sign", "--key", &key, &name]).fails(1);
    assert!(failed.contains("the password is not the key's"), "{failed}");
    let failed = run_with("pw", &["verify", "--key", &key, &name]).fails(1);
    assert!(failed.contains("cosign.pub"), "{failed}");
    let prefix = slipway.path("own").display().to_string();
    let failed = run_with("pw", &["generate-key-pair", "--output-key-prefix", &prefix]).fails(1);
    assert!(failed.contains("is there already"), "{failed}");
    // with cosign itself, where somebody has it: it takes minutes to build
    if let Some(cosign) = find("cosign") {
        let cosign = |words: &[&str]| {
            let mut command = Command::new(&cosign);
            run(command.args(words).env("HOME", slipway.path("")).env("COSIGN_PASSWORD", "pw"))
        };
        let own = ["verify", "--key", &public, "--insecure-ignore-tlog=true", "--allow-insecure-registry"];
        cosign(&[&own[..], &[&name]].concat()).ok();
        let theirs = server.name("team/theirs:1");
        slipway.ok(["tag", "base", &theirs]);
        slipway.ok(["push", "-q", &theirs]);
        let at = format!("{}@{digest}", server.name("team/theirs"));
        for form in [&["--new-bundle-format", "--use-signing-config=false"][..], &[]] {
            let sign = ["sign", "--key", &key, "--tlog-upload=false", "--allow-insecure-registry", "-y"];
            cosign(&[&sign[..], form, &[&at]].concat()).ok();
            slipway.ok(["verify", "--key", &public, &theirs]);
        }
        let others = ["verify", "--key", &other, "--insecure-ignore-tlog=true", "--allow-insecure-registry"];
        cosign(&[&others[..], &[&name]].concat()).ok();
    }
}

#[test]
fn images_are_used_as_the_policy_says() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let ((key, public), (other, _)) = (pair(&slipway, "own"), pair(&slipway, "other"));
    let (signed, unsigned) = (server.name("team/signed:1"), server.name("team/unsigned:1"));
    for name in [&signed, &unsigned] {
        slipway.ok(["tag", "base", name]);
        slipway.ok(["push", "-q", name]);
    }
    sign(&slipway, &["--key", &key, &signed]).ok();
    sign(&slipway, &["--key", &other, &unsigned]).ok();
    let file = slipway.path("policy.json").display().to_string();
    let address = server.address.clone();
    let asks = |requirement: Value| {
        let policy = json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { &address: [requirement] } },
        });
        std::fs::write(&file, policy.to_string()).unwrap();
    };
    let user = slipway.another("user");
    let own = |words: &[&str]| user.run(["--signature-policy", &file].iter().chain(words));
    let by_key = json!({ "type": "sigstoreSigned", "keyPath": public, "signedIdentity": { "type": "matchRepository" } });
    asks(by_key.clone());
    let refused = own(&["pull", "-q", &unsigned]).fails(1);
    for words in ["policy.json", "team/unsigned:1", "own.pub", "has 1 signature", &address] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert!(user.ok(["images", "-q"]).is_empty(), "nothing of it is kept");
    own(&["pull", "-q", &signed]).ok();
    own(&["run", "--rm", &signed, "true"]).ok();
    // as the base of a build too, and what was built is one's own
    let build = |name: &str| {
        let context = user.context("built", &[("Dockerfile", &format!("FROM {name}\nRUN true\n"))]);
        own(&["build", "-q", "-t", &server.name("team/built:1"), context.to_str().unwrap()])
    };
    build(&signed).ok();
    own(&["run", "--rm", &server.name("team/built:1"), "true"]).ok();
    let refused = build(&unsigned).fails(1);
    assert!(refused.contains("own.pub") && refused.contains("FROM"), "{refused}");
    // what was pulled before is asked for it as well
    user.ok(["pull", "-q", &unsigned]);
    for ended in [own(&["run", "--rm", &unsigned, "true"]), own(&["create", &unsigned]), build(&unsigned)] {
        assert!(!ended.status.success() && ended.stderr.contains("own.pub"), "{}", ended.stderr);
    }
    // a signature that was good once is kept: the registry is asked no more
    drop(server);
    own(&["run", "--rm", &signed, "true"]).ok();
    for (requirement, words) in [
        (json!({ "type": "reject" }), "no image of it is used"),
        (json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": public }), "GPG"),
        (json!({ "type": "sigstoreSigned", "keyPath": public, "rekorPublicKeyPath": public }), "Rekor"),
        (json!({ "type": "unheard" }), "unheard"),
        (json!({ "type": "sigstoreSigned", "keyPath": "/nowhere" }), "/nowhere"),
    ] {
        asks(requirement);
        let refused = own(&["run", "--rm", &signed, "true"]);
        assert!(!refused.status.success() && refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let absent = user.run(["--signature-policy", "/nowhere/policy.json", "run", "--rm", &signed, "true"]);
    assert!(!absent.status.success() && absent.stderr.contains("/nowhere/policy.json"), "{}", absent.stderr);
}
