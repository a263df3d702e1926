//! Results of builds in every form, read by others' programs.

use crate::{
    interop::Containers,
    support::{Slipway, http::try_request, image::Image, run, server::Server},
};
use slipway_skip::{need, need_root};
use std::{fs, path::Path, process::Command};

const RECIPE: &str = "FROM base
RUN mkdir -p /made/sub && echo content > /made/file && ln /made/file /made/hard && ln -s file /made/soft
RUN rm /etc/motd && chmod 4755 /made/file && rm -r /made/sub
COPY Dockerfile /made/recipe
";
/// What is in `/made`, in whatever form it comes: the hard link was broken by the change of the mode, which another layer has.
const SCRIPT: &str =
    "cd /made && stat -c '%n %a' * | sort && cat file && readlink soft && ls /etc/motd 2>/dev/null";
const SEEN: &str = "file 4755\nhard 644\nrecipe 644\nsoft 777\ncontent\nfile\n";

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").args(["--insecure-policy"]).args(arguments)).ok()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The same as [`SEEN`] of a folder of the host.
fn seen(folder: &Path) -> String {
    let script = SCRIPT
        .replace("/made", &format!("{}/made", folder.display()))
        .replace("/etc", &format!("{}/etc", folder.display()));
    let mut command = Command::new("sh");
    let ended = run(command.args(["-c", &format!("{script}; true")]));
    ended.ok()
}

#[test]
fn several_results_of_one_build_are_what_they_say() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("Dockerfile", RECIPE)]);
    let place = |name: &str| slipway.path(name).display().to_string();
    let (oci, docker, layout, folder) = (place("o.tar"), place("d.tar"), place("layout"), place("out"));
    let (tar, metadata) = (place("t.tar"), place("m.json"));
    let outputs = [
        format!("type=oci,dest={oci},annotation.own=x"),
        format!("type=docker,dest={docker}"),
        format!("type=oci,tar=false,dest={layout},compression=gzip,\"name=a:1,b:2\""),
        folder.clone(),
        format!("type=tar,dest={tar}"),
        "type=image".to_owned(),
    ];
    let mut line =
        vec!["build", "-t", "app:1", "--annotation", "all=1", "--annotation", "manifest-descriptor:b=2"];
    line.extend(outputs.iter().flat_map(|output| ["-o", output]));
    line.extend(["--metadata-file", &metadata, context.to_str().unwrap()]);
    slipway.ok(&line);
    // the store's
    assert_eq!(Image::read(&slipway, "app:1").manifest["annotations"], serde_json::json!({"all": "1"}));
    let said = json(Path::new(&metadata));
    assert_eq!(said["image.name"], "app:1,a:1,b:2");
    assert!(said["buildx.build.ref"].as_str().unwrap().starts_with("slipway/slipway/"));
    for key in ["containerimage.digest", "containerimage.config.digest"] {
        assert!(said[key].as_str().unwrap().starts_with("sha256:"), "{said}");
    }
    // the layout's names, with what the index says of the manifest
    let index = json(&Path::new(&layout).join("index.json"));
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["1", "2"]);
    assert_eq!(index["manifests"][0]["annotations"]["b"], "2");
    // each archive in a store of its own
    for archive in [&oci, &docker] {
        let other = slipway.another(&format!("store-{}", archive.rsplit('/').next().unwrap()));
        other.ok(["load", "-i", archive]);
        assert_eq!(other.run(["run", "--rm", "app:1", "sh", "-c", &format!("{SCRIPT}; true")]).ok(), SEEN);
    }
    // the files
    assert_eq!(seen(Path::new(&folder)), SEEN.replace("4755", "755"), "whose files lend nobody");
    let unpacked = slipway.context("unpacked", &[]);
    run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&unpacked)).ok();
    assert_eq!(seen(&unpacked), SEEN);
    // once more over what is there, and what else is there stays
    fs::write(Path::new(&folder).join("mine"), "mine").unwrap();
    slipway.ok(["build", "-o", &folder, context.to_str().unwrap()]);
    assert_eq!(seen(Path::new(&folder)), SEEN.replace("4755", "755"), "whose files lend nobody");
    assert_eq!(fs::read_to_string(Path::new(&folder).join("mine")).unwrap(), "mine");
    // files alone put no image into the list
    assert_eq!(slipway.ok(["images", "-q", "--filter", "dangling=true"]), "");
}

#[test]
fn others_read_the_archives() {
    need!("skopeo");
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("Dockerfile", RECIPE)]);
    let place = |name: &str| slipway.path(name).display().to_string();
    let (oci, docker, layout) = (place("o.tar"), place("d.tar"), place("layout"));
    let outputs = [
        format!("type=oci,dest={oci},compression=gzip,force-compression=true"),
        format!("type=docker,dest={docker}"),
        format!("type=oci,tar=false,dest={layout},compression=gzip,force-compression=true"),
    ];
    let mut line = vec!["build", "-t", "app:1"];
    line.extend(outputs.iter().flat_map(|output| ["-o", output]));
    line.push(context.to_str().unwrap());
    slipway.ok(&line);
    let [from_oci, from_layout] = [format!("oci-archive:{oci}"), format!("oci:{layout}:1")]
        .map(|place| skopeo(&["inspect", "--format", "{{.Digest}}", &place]));
    assert_eq!(from_oci, from_layout);
    let config = skopeo(&["inspect", "--config", &format!("docker-archive:{docker}")]);
    assert!(config.contains("\"diff_ids\""), "{config}");
    if slipway.is_roots() && crate::support::find("umoci").is_some() {
        let bundle = slipway.path("bundle");
        run(Command::new("umoci").args(["unpack", "--image", &format!("{layout}:1")]).arg(&bundle)).ok();
        assert_eq!(seen(&bundle.join("rootfs")), SEEN);
    }
}

/// podman fetches files of layers in chunks by range, as their tables say.
#[test]
fn privileged_podman_takes_layers_in_chunks_by_their_tables() {
    need_root!();
    need!("podman", "unshare");
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let (storage, policy) = (slipway.path("storage.conf"), Containers::new(&slipway).policy);
    // podman refuses a longer folder than 50 characters for what runs
    let short = tempfile::Builder::new().prefix("slipway-").tempdir_in("/var/tmp").unwrap();
    let (graph, running) = (slipway.path("containers").display().to_string(), short.path().display());
    let options = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{graph}\"\nrunroot = \"{running}\"\n[storage.options]\n\
         pull_options = {{enable_partial_images = \"true\"}}\n"
    );
    fs::write(&storage, options).unwrap();
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).env("CONTAINERS_STORAGE_CONF", &storage);
        run(command.args(arguments))
    };
    for (tag, compression) in [("es", "estargz"), ("zc", "zstd:chunked")] {
        let name = server.name(&format!("app:{tag}"));
        let flags = ["--compression", compression, "--force-compression", "--push"];
        slipway.build_with(&name, RECIPE, &[], &flags).ok();
        let image = Image::read(&slipway, &name);
        let layers = image.manifest["layers"].as_array().unwrap();
        assert!(layers.iter().all(|layer| !layer["annotations"].is_null()), "{}", image.manifest);
        // built again, it is found and not written again
        let again = slipway.build_with("again", RECIPE, &[], &flags[..3]).ok();
        assert!(again.is_empty());
        assert_eq!(slipway.digest("again"), slipway.digest(&name));
        // podman of Debian 12 knows the annotations by their first names
        let old = server.name(&format!("app:{tag}-old"));
        let text = image.manifest.to_string().replace("io.github.containers.zstd", "io.containers.zstd");
        let kind = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let path = format!("/v2/app/manifests/{tag}-old");
        let put = try_request(&server.address, "PUT", &path, &kind, text.as_bytes()).unwrap();
        assert_eq!(put.status, 201);
        let ended =
            podman(&["--log-level=debug", "pull", "--tls-verify=false", "--signature-policy", &policy, &old]);
        let log = ended.stderr.clone();
        ended.ok();
        let partial = log.matches("Retrieved partial blob").count();
        assert_eq!(partial, layers.len(), "{compression}: {log}");
        let inside = format!("ls \"$(podman image mount {old})/made\"; podman image umount {old} >&2");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &inside]).env("CONTAINERS_STORAGE_CONF", &storage);
        assert_eq!(run(&mut command).ok(), "file\nhard\nrecipe\nsoft\n", "{compression}");
        podman(&["rmi", "--force", "--all"]).ok();
    }
}

#[test]
fn layers_are_squashed_on_their_base_or_with_it() {
    let slipway = Slipway::new();
    let base = Image::read(&slipway, "base");
    let count = |image: &Image| image.manifest["layers"].as_array().unwrap().len();
    for (flag, layers) in [("--squash", count(&base) + 1), ("--squash-all", 1)] {
        slipway.build_with("squashed", RECIPE, &[], &[flag]).ok();
        let image = Image::read(&slipway, "squashed");
        assert_eq!(count(&image), layers, "{flag}");
        let entries = image.config["history"].as_array().unwrap().iter();
        let full = entries.filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(full, layers, "a layer for each entry of the history that has one");
        assert_eq!(
            slipway.run(["run", "--rm", "squashed", "sh", "-c", &format!("{SCRIPT}; true")]).ok(),
            SEEN
        );
        // the same again, from what is kept
        let digest = slipway.digest("squashed");
        slipway.build_with("squashed", RECIPE, &[], &[flag]).ok();
        assert_eq!(slipway.digest("squashed"), digest);
    }
}

#[test]
fn levels_and_forms_do_not_change_what_others_get() {
    let slipway = Slipway::new();
    let layers = |flags: &[&str]| {
        slipway.build_with("app", RECIPE, &[], flags).ok();
        Image::read(&slipway, "app").manifest["layers"].to_string()
    };
    let plain = layers(&["--compression", "gzip"]);
    let best = layers(&["--compression", "gzip", "--compression-level", "9"]);
    let chunked = layers(&["--compression", "zstd:chunked"]);
    assert!(plain != best && chunked.contains("zstd-chunked"), "{chunked}");
    // whatever was made before, the usual form is the usual one
    assert_eq!(layers(&["--compression", "gzip"]), plain);
    assert_eq!(layers(&["--compression", "gzip", "--compression-level", "6"]), plain);
    assert_eq!(layers(&["--compression", "gzip", "--compression-level", "9"]), best);
    let other = Slipway::new();
    other.build_with("app", RECIPE, &[], &["--compression", "zstd:chunked"]).ok();
    assert_eq!(Image::read(&other, "app").manifest["layers"].to_string(), chunked);
    // docker's words
    slipway.build_with("app", RECIPE, &[], &["--format", "docker"]).ok();
    let manifest = Image::read(&slipway, "app").manifest;
    assert!(
        manifest["mediaType"].as_str().unwrap().contains("docker.distribution.manifest.v2"),
        "{manifest}"
    );
    assert!(!manifest.to_string().contains("vnd.oci"), "{manifest}");
    slipway.ok(["run", "--rm", "app", "true"]);
}

#[test]
fn an_index_is_made_for_several_platforms() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let name = server.name("app:1");
    // what runs on the build's own machine is made once
    let recipe = "FROM --platform=$BUILDPLATFORM base AS build
ARG TARGETARCH
RUN echo made for $TARGETARCH > /made
FROM scratch
COPY --from=build /made /made
";
    let context = slipway.context("context", &[("Dockerfile", recipe)]);
    let out = slipway.path("out");
    let (out, layout) = (out.display().to_string(), slipway.path("layout").display().to_string());
    let outputs = ["-o", &out, "-o", &format!("type=oci,tar=false,dest={layout}"), "-o", "type=registry"];
    let annotations = [
        "--annotation",
        "index:i=1",
        "--annotation",
        "manifest[linux/arm64]:a=2",
        "--annotation",
        "index-descriptor:d=3",
    ];
    let mut line = vec!["build", "--platform", "linux/amd64,linux/arm64", "-t", &name];
    line.extend(outputs.iter().chain(&annotations));
    line.push(context.to_str().unwrap());
    slipway.ok(&line);
    for arch in ["amd64", "arm64"] {
        let made = fs::read_to_string(format!("{out}/linux_{arch}/made")).unwrap();
        assert_eq!(made, format!("made for {arch}\n"));
    }
    let entry = json(&Path::new(&layout).join("index.json"))["manifests"][0].clone();
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(entry["annotations"]["d"], "3");
    let digest = entry["digest"].as_str().unwrap();
    let index = json(&Path::new(&layout).join("blobs/sha256").join(digest.trim_start_matches("sha256:")));
    assert_eq!(index["annotations"]["i"], "1");
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    // and in the registry
    let other = slipway.another("other");
    other.ok(["pull", "--all-platforms", &name]);
    let pulled = other.ok(["inspect", "--format", "{{.Digest}}", &name]);
    assert!(!pulled.trim().is_empty());
    assert_eq!(slipway.ok(["digest", &name]).trim(), digest);
}

/// kaniko's line, by its program's name too.
#[test]
fn kaniko_s_line_builds_pushes_and_says_what() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let context = slipway.context("context", &[("Dockerfile", RECIPE)]);
    let names = [server.name("a/app:1"), server.name("b/app:2")];
    let place = |name: &str| slipway.path(name).display().to_string();
    let (digest, named, tagged, tar) = (place("d"), place("n"), place("t"), place("o.tar"));
    let line = [
        &format!("--context=dir://{}", context.display()),
        "--destination",
        &names[0],
        &format!("--destination={}", names[1]),
        "--cache=true",
        &format!("--digest-file={digest}"),
        &format!("--image-name-with-digest-file={named}"),
        &format!("--image-name-tag-with-digest-file={tagged}"),
        &format!("--tar-path={tar}"),
        "--snapshot-mode=redo",
        "--verbosity=debug",
    ];
    let executor = slipway.path("executor");
    std::os::unix::fs::symlink(crate::support::binary(), &executor).unwrap();
    let known = slipway.command([""; 0]);
    let mut command = Command::new(&executor);
    command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = run(command.args(line));
    assert_eq!(ended.stderr.matches("`snapshot-mode` does nothing here").count(), 1, "{}", ended.stderr);
    ended.ok();
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let pushed = read(&digest);
    for name in &names {
        assert_eq!(slipway.ok(["digest", name]).trim(), pushed);
    }
    let repository = |name: &str| name.rsplit_once(':').unwrap().0.to_owned();
    assert_eq!(
        read(&named),
        names.each_ref().map(|name| format!("{}@{pushed}\n", repository(name))).concat()
    );
    assert_eq!(read(&tagged), names.each_ref().map(|name| format!("{name}@{pushed}\n")).concat());
    // the cache is beside the first destination, and an empty machine takes it
    let other = slipway.another("other");
    other.import_base();
    let line = [
        "kaniko",
        "--no-push",
        "--cache",
        &format!("--cache-repo={}/cache", repository(&names[0])),
        &format!("-c={}", context.display()),
    ];
    let said = other.run(line).stderr;
    assert!(said.contains(": 0 steps done, 3 cached"), "{said}");
    let third = slipway.another("third");
    third.ok(["load", "-i", &tar]);
    assert_eq!(third.run(["run", "--rm", &names[0], "sh", "-c", &format!("{SCRIPT}; true")]).ok(), SEEN);
}

#[test]
fn kaniko_s_contexts_are_folders_parts_of_them_and_archives() {
    let slipway = Slipway::new();
    let files = [("Dockerfile", RECIPE), ("sub/Dockerfile", "FROM base\nCOPY x /x\n"), ("sub/x", "x")];
    let context = slipway.context("context", &files);
    let packed = slipway.path("context.tar.gz").display().to_string();
    run(Command::new("tar").arg("-czf").arg(&packed).arg("-C").arg(&context).arg(".")).ok();
    slipway.ok(["kaniko", "--no-push", "-d", "packed", "-c", &format!("tar://{packed}")]);
    let mut command = slipway.command(["kaniko", "--no-push", "-d", "piped", "-c", "tar://stdin"]);
    crate::support::run_with_input(&mut command, &fs::read(&packed).unwrap()).ok();
    assert_eq!(slipway.digest("packed"), slipway.digest("piped"));
    slipway.ok([
        "kaniko",
        "--no-push",
        "-d",
        "part",
        "-c",
        context.to_str().unwrap(),
        "--context-sub-path",
        "sub",
    ]);
    assert_eq!(slipway.ok(["run", "--rm", "part", "cat", "/x"]), "x");
}

#[test]
fn a_program_of_another_machine_says_what_would_run_it() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("Dockerfile", "FROM scratch\nCOPY sh /bin/sh\nRUN true\n")]);
    // the head of a program for BPF, which no machine is
    let mut head = vec![0; 64];
    head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (head[16], head[18], head[20]) = (2, 0xf7, 1);
    fs::write(context.join("sh"), head).unwrap();
    run(Command::new("chmod").arg("755").arg(context.join("sh"))).ok();
    let other = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let message = slipway.fails(1, ["build", "--platform", other, context.to_str().unwrap()]);
    for part in [
        &format!("runs no programs for {other}"),
        "apt-get install qemu-user-static",
        "$BUILDPLATFORM",
        "Dockerfile:3",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}
