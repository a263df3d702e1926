//! Mirrors as clients use them: podman's and skopeo's `registries.conf`, our own client, containerd's and docker's requests; of another
//! `slipway serve` and of Debian's registry.

use crate::interop::Containers;
use crate::remote::{debians, indexed};
use crate::support::http::request;
use crate::support::server::{Server, counted, free_address};
use crate::support::{Slipway, run, run_with_input};
use serde_json::Value;
use slipway_oci::Digest;
use slipway_skip::{need, need_root};
use std::{fs, path::Path, process::Command};

const KINDS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// A server that mirrors these, and its address.
fn mirror(slipway: &Slipway, settings: &[&str]) -> Server {
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--storage"]);
    command.arg(slipway.path("mirror")).env("MIRROR_PASSWORD", "secret");
    let log = fs::File::options().create(true).append(true).open(slipway.path("mirror.log")).unwrap();
    for setting in settings {
        command.args(["--mirror", &setting.replace("OWN", &address)]);
    }
    Server::start(command.stderr(log), &address)
}

/// podman's file that sends names of `registry` to a mirror's prefix.
fn registries(slipway: &Slipway, registry: &str, location: &str) -> std::path::PathBuf {
    let path = slipway.path("registries.conf");
    let text = format!(
        "[[registry]]\nlocation = \"{registry}\"\n[[registry.mirror]]\nlocation = \"{location}\"\ninsecure = true\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn skopeo(conf: &Path, words: &[&str]) -> String {
    // an option that its help does not show, and that every version has
    let flags = ["--insecure-policy", "--registries-conf"];
    run(Command::new("skopeo").args(flags).arg(conf).args(words)).ok()
}

#[test]
fn other_clients_pull_through_mirrors_of_two_registries() {
    need!("skopeo", "docker-registry");
    let slipway = Slipway::new();
    let (ours, debian) = (Server::slipway(&slipway, &slipway.path("upstream")), debians(&slipway, "debian"));
    let digest = indexed(&slipway, &ours, "team/app");
    for (upstream, name) in [(&ours, "library/base:1"), (&debian, "library/base:1")] {
        slipway.ok(["push", "-q", "base", &upstream.name(name)]);
    }
    let (to_ours, asked) = counted(&ours.address);
    let settings = [
        format!("one=http://{to_ours} ns=one.example host=localhost.localdomain:80 fresh=24h"),
        format!("two=http://{} prefix=debian fresh=0s", debian.address),
    ];
    let own = mirror(&slipway, &settings.each_ref().map(String::as_str));
    // by prefix: skopeo and our own client, what they get is what upstream has
    for (name, from) in [
        ("mirror/one/team/app:amd64", ours.name("team/app:amd64")),
        ("debian/library/base:1", debian.name("library/base:1")),
    ] {
        let expected = slipway.ok(["digest", &from]).trim().to_owned();
        let shown = skopeo(
            Path::new("/dev/null"),
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &format!("docker://{}", own.name(name)),
            ],
        );
        assert_eq!(shown.trim(), expected, "{name}");
        slipway.another(&name.replace(['/', ':'], "-")).ok(["pull", "-q", &own.name(name)]);
    }
    // by podman's file: the registry's own name leads nowhere
    let conf = registries(&slipway, "one.example", &own.name("mirror/one"));
    let layout = format!("oci:{}:1", slipway.path("layout").display());
    skopeo(&conf, &["copy", "-q", "docker://one.example/library/base:1", &layout]);
    let client = slipway.another("client");
    run(client
        .command(["pull", "-q", "one.example/library/base:1"])
        .env("CONTAINERS_REGISTRIES_CONF", &conf))
    .ok();
    // as containerd asks, and docker with `registry-mirrors`
    let get = |path: &str, headers: &[(&str, &str)]| {
        request(&own.address, "GET", path, &[&[("accept", KINDS)], headers].concat(), b"")
    };
    let by_ns = get("/v2/team/app/manifests/1?ns=one.example", &[]);
    assert_eq!((by_ns.status, Digest::sha256(&by_ns.body).to_string()), (200, digest.clone()));
    assert_eq!(by_ns.header("oci-namespace"), "one.example");
    // only what was asked for: the index and one of its images
    let index: Value = serde_json::from_slice(&by_ns.body).unwrap();
    let child = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(get(&format!("/v2/team/app/manifests/{child}?ns=one.example"), &[]).status, 200);
    assert_eq!(get("/v2/team/app/manifests/1?ns=two.example", &[]).status, 404);
    let refused = get("/v2/team/app/manifests/1", &[]);
    assert_eq!(refused.status, 404, "no name of this registry's own");
    // nothing of that is asked for again, and it stays when both are gone
    let before = asked.load(std::sync::atomic::Ordering::SeqCst);
    let again = slipway.another("again");
    again.ok(["pull", "-q", &own.name("mirror/one/library/base:1")]);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), before, "no connection for what is here");
    drop((ours, debian));
    for name in ["mirror/one/library/base:1", "debian/library/base:1"] {
        let other = slipway.another(&format!("gone-{}", name.replace(['/', ':'], "-")));
        other.ok(["pull", "-q", &own.name(name)]);
    }
    let stale = get("/v2/debian/library/base/manifests/1", &[]);
    assert_eq!(stale.status, 200);
    assert!(
        stale.header("warning").starts_with("299 - \"the upstream of this mirror does not answer"),
        "{stale:?}"
    );
    slipway.fails(1, ["push", "base", &own.name("mirror/one/library/base:2")]);
    let log = fs::read_to_string(slipway.path("mirror.log")).unwrap();
    assert!(log.contains("debian/library/base"), "the operator hears of it: {log}");
}

#[test]
fn a_private_upstream_is_opened_by_the_mirror_s_own_password() {
    need!("skopeo");
    let slipway = Slipway::new();
    let users = slipway.path("users");
    let mut htpasswd = slipway.command(["registry", "htpasswd", "--password-stdin", "mirror"]);
    let hash = run_with_input(&mut htpasswd, b"secret\n").ok();
    fs::write(&users, hash).unwrap();
    let address = free_address();
    let mut command = slipway.command(["serve", "--access", "private", "--listen", &address, "--storage"]);
    command.arg(slipway.path("upstream")).arg("--htpasswd").arg(&users);
    let upstream = Server::start(&mut command, &address);
    let login = ["login", "-u", "mirror", "--password-stdin", &upstream.address];
    run_with_input(&mut slipway.command(login), b"secret\n").ok();
    slipway.ok(["push", "-q", "base", &upstream.name("team/base:1")]);
    let file = slipway.path("password");
    fs::write(&file, "secret\n").unwrap();
    let settings = [
        format!("a=http://{address} ns=a.example user=mirror password-env=MIRROR_PASSWORD"),
        format!("b=http://{address} ns=b.example user=mirror password-file={}", file.display()),
        format!("c=http://{address} ns=c.example user=mirror password=mistaken"),
    ];
    // one address for three: each is called by another name
    let own = mirror(&slipway, &[&settings[0]]);
    let stranger = slipway.another("stranger");
    stranger.ok(["pull", "-q", &own.name("mirror/a/team/base:1")]);
    drop(own);
    let own = mirror(&slipway, &[&settings[1]]);
    slipway.another("second").ok(["pull", "-q", &own.name("mirror/b/team/base:1")]);
    drop(own);
    let own = mirror(&slipway, &[&settings[2]]);
    slipway.another("third").fails(1, ["pull", "-q", &own.name("mirror/c/team/base:1")]);
    let log = fs::read_to_string(slipway.path("mirror.log")).unwrap();
    assert!(log.contains("refuses") && !log.contains("mistaken") && !log.contains("secret"), "{log}");
}

#[test]
fn privileged_podman_pulls_through_a_mirror() {
    need_root!();
    need!("podman", "unshare");
    let slipway = Slipway::new();
    let upstream = Server::slipway(&slipway, &slipway.path("upstream"));
    slipway.ok(["push", "-q", "base", &upstream.name("library/base:1")]);
    let own = mirror(&slipway, &[&format!("one=http://{}", upstream.address)]);
    let containers = Containers::new(&slipway);
    let conf = registries(&slipway, "one.example", &own.name("mirror/one"));
    let policy = containers.policy.clone();
    let pull = ["pull", "--quiet", "--signature-policy", &policy, "one.example/library/base:1"];
    containers.run_with("podman", &pull, &conf).ok();
    drop(upstream);
    containers.run_with("podman", &["rmi", "--force", "one.example/library/base:1"], &conf).ok();
    containers.run_with("podman", &pull, &conf).ok();
}
