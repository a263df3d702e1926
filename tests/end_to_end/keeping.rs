//! What the operator of a registry's folder does beside serving it, with the real binary.

use crate::support::http::{request, try_request};
use crate::support::server::Server;
use crate::support::{Slipway, run, wait_until};
use serde_json::Value;
use slipway_oci::Digest;
use std::fs;
use std::path::{Path, PathBuf};

/// A registry with two tags, stopped; its address, and its folder.
fn stopped(slipway: &Slipway) -> (String, PathBuf) {
    let storage = slipway.path("storage");
    let mut server = Server::slipway(slipway, &storage);
    for name in ["team/app:1", "team/other:2"] {
        let name = server.name(name);
        slipway.build(&name, &format!("FROM base\nRUN echo {name} > /file\n"), &[]).ok();
        slipway.ok(["push", &name]);
    }
    assert!(server.terminate().success());
    (server.address.clone(), storage)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Some layer, in the folder of content.
fn largest(storage: &Path) -> PathBuf {
    let blobs = fs::read_dir(storage.join("blobs/sha256")).unwrap();
    blobs.map(|entry| entry.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn damage_is_found_taken_out_of_service_and_healed_by_a_push() {
    let slipway = Slipway::new();
    let (address, storage) = stopped(&slipway);
    let verify = ["registry", "verify", "--storage", text(&storage)];
    let said = slipway.ok(verify);
    assert!(said.ends_with(": all right\n"), "{said}");
    let layer = largest(&storage);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[1000] ^= 4;
    fs::write(&layer, &bytes).unwrap();
    // it may be served meanwhile
    let server = Server::slipway_at(&slipway, &storage, &address);
    let output = slipway.run(["registry", "verify", "--json", "--storage", text(&storage)]);
    assert_eq!(output.code(), Some(1));
    let found: Value = serde_json::from_str(&output.stdout).unwrap();
    let digest = found["damaged"][0]["digest"].as_str().unwrap();
    assert_eq!(digest.strip_prefix("sha256:"), layer.file_name().unwrap().to_str());
    assert_eq!(found["damaged"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["damaged"][0]["quarantined"], false);
    let output = slipway.run(["registry", "verify", "--quarantine", "--storage", text(&storage)]);
    assert_eq!(output.code(), Some(1));
    assert!(!layer.exists());
    let other = slipway.another("other");
    let message = other.fails(1, ["pull", &server.name("team/app:1")]);
    assert!(message.contains(digest), "{message}");
    slipway.ok(["push", &server.name("team/app:1")]);
    other.ok(["pull", &server.name("team/app:1")]);
    other.ok(["pull", &server.name("team/other:2")]);
    slipway.ok(verify);
}

/// Everything that a registry has comes out of it: tags, each pulled by a store of its own.
fn pull_all(slipway: &Slipway, server: &Server, store: &str) -> usize {
    let other = slipway.another(store);
    let mut count = 0;
    for number in 0..3 {
        let name = server.name(&format!("storm/{number}"));
        let tags = slipway.run(["tags", &name]);
        for tag in tags.stdout.lines() {
            other.ok(["pull", &format!("{name}:{tag}")]);
            count += 1;
        }
    }
    count
}

#[test]
fn a_backup_beside_pushes_and_deletes_comes_back_whole() {
    let slipway = Slipway::new();
    let (address, storage) = stopped(&slipway);
    let server = Server::slipway_at(&slipway, &storage, &address);
    // what nobody deletes
    let kept = server.name("storm/0:kept");
    slipway.build(&kept, "FROM base\nRUN echo kept > /file\n", &[]).ok();
    slipway.ok(["push", &kept]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let backup = slipway.path("backup");
    // as many as the longest machine needs
    let commands = |writer: usize| -> Vec<_> {
        let of = |number: usize| {
            let name = server.name(&format!("storm/{writer}:t{}", number % 4));
            let copy = slipway.command(["copy", "-q", &server.name("team/app:1"), &name]);
            [Some(copy), (!number.is_multiple_of(3)).then(|| slipway.command(["delete", &name]))]
        };
        (0..3000).flat_map(of).flatten().collect()
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (commands, stop) = (commands(writer), &stop);
                scope.spawn(move || {
                    for mut command in commands {
                        run(&mut command);
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            return;
                        }
                    }
                })
            })
            .collect();
        for round in 0..4 {
            slipway.ok(["registry", "backup", "-q", "--storage", text(&storage), text(&backup)]);
            let again = slipway.path(&format!("again {round}"));
            slipway.ok(["registry", "restore", "-q", "--storage", text(&again), text(&backup)]);
            slipway.ok(["registry", "verify", "-q", "--storage", text(&again)]);
            let restored = Server::slipway(&slipway, &again);
            assert!(pull_all(&slipway, &restored, &format!("pulled {round}")) > 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    // as one file, and by a pipe
    let file = slipway.path("backup.tar");
    slipway.ok(["registry", "backup", "-q", "--storage", text(&storage), text(&file)]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    slipway.ok(["registry", "restore", "-q", "--storage", text(&slipway.path("from file")), text(&file)]);
    slipway.ok(["registry", "verify", "-q", "--storage", text(&slipway.path("from file"))]);
    let piped = slipway.path("piped.tar");
    let mut command = slipway.command(["registry", "backup", "-q", "--storage", text(&storage), "-"]);
    let ended =
        command.stdout(fs::File::create(&piped).unwrap()).stderr(std::process::Stdio::piped()).output();
    assert!(String::from_utf8(ended.unwrap().stderr).unwrap().contains(" contents, "));
    let mut command =
        slipway.command(["registry", "restore", "-q", "--storage", text(&slipway.path("from pipe")), "-"]);
    let ended = command.stdin(fs::File::open(&piped).unwrap()).output().unwrap();
    assert!(ended.status.success());
    slipway.ok(["registry", "verify", "-q", "--storage", text(&slipway.path("from pipe"))]);
    let message = slipway.fails(1, ["registry", "restore", "--storage", text(&storage), text(&backup)]);
    assert!(message.contains("in use") || message.contains("already"), "{message}");
}

#[test]
fn the_scrub_says_what_the_disk_damaged() {
    let slipway = Slipway::new();
    let (address, storage) = stopped(&slipway);
    let layer = largest(&storage);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[1000] ^= 4;
    fs::write(&layer, &bytes).unwrap();
    let audit = slipway.path("audit");
    let log = fs::File::options().append(true).open(slipway.path("serve.log")).unwrap();
    let mut command =
        slipway.command(["serve", "--listen", &address, "--scrub", "1GiB/s every 1s", "--audit-log"]);
    let server = Server::start(command.arg(&audit).arg("--storage").arg(&storage).stderr(log), &address);
    let hex = layer.file_name().unwrap().to_str().unwrap();
    let aside = storage.join("quarantine").join(format!("sha256-{hex}"));
    wait_until("it is found", || aside.exists() && fs::metadata(&audit).is_ok_and(|found| found.len() > 0));
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    let told: Value =
        serde_json::from_str(fs::read_to_string(&audit).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!((&told["action"], &told["quarantined"]), (&"damaged".into(), &true.into()), "{told}");
    assert_eq!(told["digest"], format!("sha256:{hex}"));
    wait_until("it is said", || {
        let said = fs::read_to_string(slipway.path("serve.log")).unwrap();
        said.contains(&format!(
            "error: `sha256:{hex}` of team/app, team/other is damaged: its bytes have digest"
        ))
    });
    slipway.ok(["push", &server.name("team/app:1")]);
    slipway.another("other").ok(["pull", &server.name("team/other:2")]);
}

#[test]
fn what_was_answered_before_a_kill_comes_back_without_the_database() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let empty = Digest::sha256(b"{}");
    let mut answered = Vec::new();
    for round in 0..4 {
        let mut server = Server::slipway(&slipway, &storage);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let address = server.address.clone();
        let done: Vec<Vec<(String, String)>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let (address, empty, stop) = (&address, &empty, &stop);
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        let repository = format!("r{writer}");
                        for number in 0..2000 {
                            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                                break;
                            }
                            let blob = format!("/v2/{repository}/blobs/uploads/?digest={empty}");
                            let _ = try_request(address, "POST", &blob, &[], b"{}");
                            let entry = format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}}"#);
                            let text = format!(r#"{{"schemaVersion":2,"config":{entry},"layers":[],"annotations":{{"n":"{round} {number}"}}}}"#);
                            let tag = format!("{repository}/manifests/t{round}-{}", number % 50);
                            let put = try_request(address, "PUT", &format!("/v2/{tag}"), &kind, text.as_bytes());
                            match put {
                                Ok(reply) if reply.status == 201 => {
                                    done.push((tag, Digest::sha256(text.as_bytes()).to_string()));
                                }
                                // whatever became of it, nobody was told
                                _ => {
                                    done.push((tag, String::new()));
                                    break;
                                }
                            }
                        }
                        done
                    })
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(400));
            server.kill();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        answered.extend(done.into_iter().flatten());
    }
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(storage.join(name));
    }
    slipway.ok(["registry", "reindex", "--storage", text(&storage)]);
    let server = Server::slipway(&slipway, &storage);
    let last: std::collections::BTreeMap<String, String> = answered.into_iter().collect();
    assert!(last.len() > 30, "{}", last.len());
    for (tag, digest) in last.into_iter().filter(|(_, digest)| !digest.is_empty()) {
        let found = request(&server.address, "GET", &format!("/v2/{tag}"), &[], b"");
        assert_eq!((found.status, found.header("docker-content-digest")), (200, digest.as_str()), "{tag}");
    }
    slipway.ok(["registry", "verify", "--storage", text(&storage)]);
}

#[test]
fn a_lost_database_is_made_again() {
    let slipway = Slipway::new();
    let (address, storage) = stopped(&slipway);
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(storage.join(name));
    }
    let reindex = ["registry", "reindex", "--storage", text(&storage)];
    let message = slipway.fails(1, ["registry", "verify", "--storage", text(&storage)]);
    assert!(message.contains("registry.db"), "{message}");
    let said = slipway.ok(reindex);
    assert!(said.starts_with("repositories: 2, tags: 2, manifests: 2"), "{said}");
    let server = Server::slipway_at(&slipway, &storage, &address);
    let message = slipway.fails(1, reindex);
    assert!(message.contains("in use"), "{message}");
    let other = slipway.another("other");
    for name in ["team/app:1", "team/other:2"] {
        other.ok(["pull", &server.name(name)]);
        assert_eq!(other.digest(&server.name(name)), slipway.digest(&server.name(name)));
    }
    slipway.ok(["registry", "verify", "--storage", text(&storage)]);
}
