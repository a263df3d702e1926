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
