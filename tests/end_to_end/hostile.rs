//! Archives and images made by somebody who means harm.

use crate::support::image::blob;
use crate::support::server::Server;
use crate::support::{Slipway, find, run, run_with_input};
use serde_json::json;
use slipway_oci::Digest;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One entry of a hostile archive.
struct Bad {
    path: &'static str,
    kind: tar::EntryType,
    link: &'static str,
    content: &'static str,
}

fn file(path: &'static str) -> Bad {
    Bad { path, kind: tar::EntryType::Regular, link: "", content: "owned" }
}

fn link(path: &'static str, link: &'static str) -> Bad {
    Bad { path, kind: tar::EntryType::Symlink, link, content: "" }
}

fn hard(path: &'static str, link: &'static str) -> Bad {
    Bad { path, kind: tar::EntryType::Link, link, content: "" }
}

/// An archive whose names are taken as they are; the tar crate would refuse some.
fn archive(entries: &[Bad]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.content.len() as u64);
        let fields = header.as_old_mut();
        fields.name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        fields.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        builder.append(&header, entry.content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Everything below a folder, with contents, so that a change shows.
fn picture(folder: &Path) -> String {
    run(Command::new("find").arg(folder).args([
        "-mindepth",
        "1",
        "-not",
        "-path",
        "*/store*",
        "-printf",
        "%P %y %s %T@ %l\n",
    ]))
    .ok()
}

#[test]
fn archives_that_reach_out_are_refused_or_kept_in() {
    let cases: Vec<(&str, Vec<Bad>)> = vec![
        ("dots", vec![file("../../outside/owned")]),
        ("deep dots", vec![file("a/../../../outside/owned")]),
        ("absolute", vec![file("/outside-owned")]),
        ("through a link", vec![link("door", "../../../outside"), file("door/owned")]),
        ("through an absolute link", vec![link("door", "/tmp"), file("door/slipway-owned-by-a-test")]),
        ("through two links", vec![link("a", "."), link("a/b", "../../.."), file("b/outside/owned")]),
        ("hard link out", vec![hard("stolen", "../../../outside/secret")]),
        ("hard link through a link", vec![link("door", "../../../outside"), hard("stolen", "door/secret")]),
        ("whiteout out", vec![file("../../../outside/.wh.secret")]),
        ("whiteout of dots", vec![file(".wh...")]),
        ("whiteout of a dot", vec![file(".wh..")]),
        ("opaque through a link", vec![link("door", "../../../outside"), file("door/.wh..wh..opq")]),
        (
            "folder on a link",
            vec![
                link("etc2", "/etc"),
                Bad { path: "etc2", kind: tar::EntryType::Directory, link: "", content: "" },
                file("etc2/slipway-owned"),
            ],
        ),
    ];
    for (name, entries) in cases {
        let slipway = Slipway::new();
        let outside = slipway.context("outside", &[("secret", "secret")]);
        let bytes = archive(&entries);
        let place = slipway.path("bad.tar");
        fs::write(&place, &bytes).unwrap();
        let before = picture(slipway.path("").as_path());
        let import = slipway.run(["import".as_ref(), place.as_os_str(), "bad".as_ref()]);
        if import.status.success() {
            // what was taken in must be harmless when it is unpacked
            let script = "ls -la / /door 2>/dev/null; cat /stolen 2>/dev/null; true";
            let seen =
                slipway.build("use", &format!("FROM base\nCOPY --from=bad / /bad\nRUN {script}\n"), &[]);
            assert!(!seen.stderr.contains("panicked"), "{name}: {}", seen.stderr);
            assert!(
                !seen.stderr.lines().any(|line| line.trim_end().ends_with(" secret")),
                "{name}: {}",
                seen.stderr
            );
            let ran = slipway.run(["run", "--rm", "bad", "/nothing"]);
            assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
            fs::remove_dir_all(slipway.path("context-use")).unwrap();
        } else {
            assert_eq!(import.code(), Some(1), "{name}");
            assert!(import.stderr.contains("bad.tar"), "{name}: {}", import.stderr);
            assert_eq!(slipway.ok(["images"]).lines().count(), 2, "{name}");
        }
        assert_eq!(picture(slipway.path("").as_path()), before, "{name}");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret", "{name}");
        assert!(
            !Path::new("/tmp/slipway-owned-by-a-test").exists() && !Path::new("/etc/slipway-owned").exists(),
            "{name}"
        );
        assert!(!Path::new("/outside-owned").exists(), "{name}");
        assert_eq!(slipway.leftovers(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn archives_that_are_broken_are_named() {
    let slipway = Slipway::new();
    let whole = archive(&[file("a"), file("b")]);
    let mut zeroes = vec![0; 4096];
    zeroes.extend(b"rest");
    for (name, bytes) in [
        ("text", b"this is no archive, however one looks at it".repeat(30)),
        ("cut", whole[..514].to_vec()),
        ("gzip", [&b"\x1f\x8b\x08\x00"[..], &[0x55; 400]].concat()),
        ("zstd", [&b"\x28\xb5\x2f\xfd"[..], &[0x55; 400]].concat()),
    ] {
        let place = slipway.path(name);
        fs::write(&place, bytes).unwrap();
        for command in ["import", "load"] {
            let flag = if command == "load" { "-i" } else { "--" };
            let message = slipway.fails(1, [command.as_ref(), flag.as_ref(), place.as_os_str()]);
            assert!(!message.contains("panicked"), "{message}");
        }
    }
    assert_eq!(slipway.ok(["images"]).lines().count(), 2);
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

/// Writes an OCI layout of a manifest and blobs, whose names are given and need not be true.
fn layout(folder: &Path, manifest: &serde_json::Value, blobs: &[(String, Vec<u8>)]) {
    let place = folder.join("blobs/sha256");
    fs::create_dir_all(&place).unwrap();
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    fs::write(place.join(digest.hex()), &bytes).unwrap();
    for (digest, bytes) in blobs {
        fs::write(place.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": bytes.len(),
            "annotations": {"org.opencontainers.image.ref.name": "bad:1"},
        }],
    });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn manifest(config: &[u8], layer: &[u8], claimed: &str) -> serde_json::Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": claimed, "size": layer.len()}],
    })
}

fn config(diff_id: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    config.to_string().into_bytes()
}

#[test]
fn content_that_is_not_what_it_says_is_refused() {
    let layer = archive(&[file("a")]);
    let honest = Digest::sha256(&layer).to_string();
    let false_digest = Digest::sha256(b"something else").to_string();
    for (name, claimed, diff_id) in [("blob", &false_digest, &honest), ("diff id", &honest, &false_digest)] {
        let slipway = Slipway::new();
        let config = config(diff_id);
        let folder = slipway.path("layout");
        let blobs = [(Digest::sha256(&config).to_string(), config.clone()), (claimed.clone(), layer.clone())];
        layout(&folder, &manifest(&config, &layer, claimed), &blobs);
        let load = slipway.run(["load".as_ref(), "-i".as_ref(), folder.as_os_str()]);
        let ended = match load.status.success() {
            // a diff id can only be checked once the layer is unpacked
            true => slipway.run(["run", "--rm", "bad:1", "/a"]),
            false => load,
        };
        assert!(matches!(ended.code(), Some(1 | 125)), "{name}: {} {}", ended.status, ended.stderr);
        assert!(
            ended.stderr.contains("sha256:") || ended.stderr.contains("digest"),
            "{name}: {}",
            ended.stderr
        );
        assert_eq!(slipway.leftovers(), Vec::<String>::new(), "{name}");
        let built = slipway.build("use", "FROM bad:1\nRUN /a\n", &[]);
        assert_eq!(built.code(), Some(1), "{name}: {}", built.stderr);
    }
}

#[test]
fn a_registry_that_lies_is_not_believed() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let server = Server::slipway(&slipway, &storage);
    let name = server.name("lies:1");
    slipway.ok(["tag", "base", &name]);
    slipway.ok(["push", &name]);
    let digest = slipway.digest("base");
    let manifest: serde_json::Value = serde_json::from_slice(&blob(&slipway, &digest)).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let found = run(Command::new("find").arg(&storage).args(["-name", layer, "-type", "f"])).ok();
    let mut changed = 0;
    for place in found.lines() {
        let mut bytes = fs::read(place).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // the storage's files may be read-only and shared
        fs::remove_file(place).unwrap();
        fs::write(place, bytes).unwrap();
        changed += 1;
    }
    assert!(changed > 0, "the layer is a file of the storage");
    let other = slipway.another("other");
    let pull = other.run(["pull", &name]);
    let ended = match pull.status.success() {
        true => other.run(["run", "--rm", &name, "true"]),
        false => pull,
    };
    assert!(!ended.status.success());
    assert!(ended.stderr.contains(layer) || ended.stderr.contains("digest"), "{}", ended.stderr);
    assert!(!other.root.join("blobs/sha256").join(layer).exists(), "a wrong blob is not kept");
}

#[test]
fn requests_beyond_all_bounds_are_answered() {
    let slipway = Slipway::empty();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let long = "a".repeat(70_000);
    for target in [format!("/v2/{long}/manifests/x"), format!("/v2/a/manifests/{long}"), format!("/{long}")] {
        if let Ok(reply) = crate::support::http::try_request(&server.address, "GET", &target, &[], b"") {
            assert!((400..500).contains(&reply.status), "{}", reply.status);
        }
    }
    let large = vec![b' '; 6 << 20];
    let kind = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    if let Ok(reply) =
        crate::support::http::try_request(&server.address, "PUT", "/v2/a/manifests/x", &kind, &large)
    {
        assert_eq!(reply.status, 413);
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let reply =
        crate::support::http::request(&server.address, "PUT", "/v2/a/manifests/x", &kind, nested.as_bytes());
    assert!((400..500).contains(&reply.status), "{}", reply.status);
    assert_eq!(crate::support::http::request(&server.address, "GET", "/v2/", &[], b"").status, 200);
}

#[test]
fn a_recipe_beyond_all_bounds_is_refused() {
    let slipway = Slipway::new();
    let nested = format!("FROM base\nENV A={}x{}\n", "${B:-".repeat(5000), "}".repeat(5000));
    slipway.build("nested", &nested, &[]).fails(1);
    let large = format!("FROM base\n{}", "RUN true && echo and on and on\n".repeat(200_000));
    slipway.build("large", &large, &[]).fails(1);
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

/// CVE-2019-5736: a container that gets hold of `/proc/…/exe` of a process that is still slipway's finds a file on a
/// mount that cannot be written, whatever it may do.
#[test]
fn privileged_the_programs_own_file_is_out_of_reach() {
    use rustix::fs::StatVfsMountFlags;
    let slipway = Slipway::new();
    let started = crate::support::start(&mut slipway.command(["run", "--rm", "base", "sleep", "5731"]));
    crate::support::wait_until("the container runs", || crate::support::processes_with("5731") > 0);
    let own = fs::File::open(format!("/proc/{}/exe", started.child.id())).unwrap();
    assert!(rustix::fs::fstatvfs(&own).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY));
    started.signal(rustix::process::Signal::KILL);
    drop(started.wait());
    // an entry point that is slipway's own file runs slipway, inside, with nothing but the container's rights
    let ended = slipway.run(["run", "--rm", "base", "/proc/self/exe", "no-such-command"]);
    // 2: its usage error; 127: a build that is not static finds no loader there
    assert!(matches!(ended.code(), Some(2 | 127)));
}

/// Bytes of the file of zeros in [`bomb`]; its archive is small in every form.
const BOMB_BYTES: usize = 48 << 20;

/// A tar archive of one file of zeros, passed through `program`.
fn bomb(slipway: &Slipway, program: &str) -> Option<std::path::PathBuf> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(BOMB_BYTES as u64);
    builder.append_data(&mut header, "zeros", vec![0; BOMB_BYTES].as_slice()).unwrap();
    let plain = slipway.path("bomb.tar");
    fs::write(&plain, builder.into_inner().unwrap()).unwrap();
    if program == "cat" {
        return Some(plain);
    }
    find(program)?;
    let packed = slipway.path(&format!("bomb.{program}"));
    let output = Command::new(program).arg("-c").arg(&plain).output().unwrap();
    assert!(output.status.success());
    fs::write(&packed, output.stdout).unwrap();
    Some(packed)
}

fn bytes_below(folder: &Path) -> u64 {
    let listed = run(Command::new("du").args(["-s", "--block-size=1"]).arg(folder)).ok();
    listed.split_whitespace().next().unwrap().parse().unwrap()
}

/// Issue 7, A11: the whole that is written is capped by everything that unpacks, and the word says how to raise it.
#[test]
fn bombs_do_not_fill_the_disk() {
    let slipway = Slipway::new();
    let folder = slipway.context("add", &[("Dockerfile", "FROM scratch\nADD bomb /\n")]);
    for program in ["cat", "gzip", "xz", "bzip2", "zstd"] {
        let Some(bomb) = bomb(&slipway, program) else { continue };
        fs::copy(&bomb, folder.join("bomb")).unwrap();
        let bytes = fs::read(&bomb).unwrap();
        let import = || slipway.command(["import".as_ref(), bomb.as_os_str(), "imported".as_ref()]);
        let load = || slipway.command(["load".as_ref(), "-i".as_ref(), bomb.as_os_str()]);
        let add = || slipway.command(["build".as_ref(), "--no-cache".as_ref(), folder.as_os_str()]);
        let context = || slipway.command(["build", "-"]);
        for (what, mut command, input) in [
            ("import", import(), &[][..]),
            ("load", load(), &[]),
            ("ADD", add(), &[]),
            ("context", context(), &bytes),
        ] {
            let before = bytes_below(&slipway.root);
            let words = run_with_input(command.env("SLIPWAY_MAX_UNPACKED", "8m"), input).fails(1);
            assert!(words.contains("--max-unpacked"), "{program} {what}: {words}");
            assert!(words.contains("8388608 bytes"), "{program} {what}: {words}");
            let grown = bytes_below(&slipway.root).saturating_sub(before);
            assert!(grown < 4 << 20, "{program} {what}: the store grew by {grown} bytes");
            assert_eq!(slipway.leftovers(), Vec::<String>::new(), "{program} {what}");
        }
        run(import().env("SLIPWAY_MAX_UNPACKED", "64m")).ok();
        run(add().args(["--max-unpacked", "64m"])).ok();
    }
}

/// The same of layers that a registry sends: as they travel, and as they are unpacked.
#[test]
fn bombs_of_registries_do_not_fill_the_disk() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("registry"));
    let bomb = bomb(&slipway, "cat").unwrap();
    for compression in ["zstd", "uncompressed"] {
        let name = server.name(&format!("bomb:{compression}"));
        let folder = slipway.context("pushed", &[("Dockerfile", "FROM scratch\nADD bomb.tar /\n")]);
        fs::copy(&bomb, folder.join("bomb.tar")).unwrap();
        let maker = slipway.another(&format!("maker-{compression}"));
        maker.build_folder(&name, &folder, &["--compression", compression]).ok();
        maker.ok(["push", &name]);
        let victim = slipway.another(compression);
        let pull = run(victim.command(["pull", &name]).env("SLIPWAY_MAX_UNPACKED", "8m"));
        // a layer of a few bytes may travel; it cannot be unpacked
        let words = match compression {
            "zstd" => {
                pull.ok();
                let used = victim.context(
                    "used",
                    &[("Dockerfile", &format!("FROM {name}\nCOPY --from={name} /zeros /x\n"))],
                );
                run(victim.command(["build"]).arg(&used).env("SLIPWAY_MAX_UNPACKED", "8m")).fails(1)
            }
            _ => pull.fails(1),
        };
        assert!(words.contains("--max-unpacked"), "{compression}: {words}");
        // 4 MiB of it are the store's own reserve (oci/src/reserve.rs)
        assert!(bytes_below(&victim.root) < 8 << 20, "{compression}");
        run(victim.command(["pull", &name]).env("SLIPWAY_MAX_UNPACKED", "64m")).ok();
    }
}
