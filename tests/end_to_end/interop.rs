//! Proof by others: skopeo, podman, buildah, umoci and Debian's registry against ours.

use crate::support::image::Image;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, find, run};
use slipway_skip::{need, need_root};
use std::fs;
use std::process::Command;

const RECIPE: &str = "FROM base
RUN mkdir -p /made/sub && echo content > /made/file && ln /made/file /made/hard && ln -s file /made/soft
RUN rm /etc/motd && chmod 4755 /made/file && rm -r /made/sub
ENV GREETING=hello
WORKDIR /made
CMD [\"/bin/sh\", \"-c\", \"echo $GREETING $(pwd) $(cat soft)\"]
";

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").args(["--insecure-policy"]).args(arguments)).ok()
}

#[test]
fn skopeo_copies_from_and_to_our_registry() {
    need!("skopeo");
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    for (number, compression) in ["zstd", "gzip"].into_iter().enumerate() {
        let name = server.name(&format!("app:{number}"));
        let local = format!("app-{number}");
        slipway.build_with(&local, RECIPE, &[], &["--compression", compression]).ok();
        slipway.ok(["tag", &local, &name]);
        slipway.ok(["push", &name]);
        let digest = slipway.digest(&name);
        let remote = format!("docker://{name}");
        let inspected = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &remote]);
        assert_eq!(inspected.trim(), digest);
        // out to a layout and a folder, and back in under another name
        for transport in ["oci", "dir"] {
            let place = format!("{transport}:{}", slipway.path(&format!("{transport}-{number}")).display());
            let place = if transport == "oci" { format!("{place}:tag") } else { place };
            skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &remote, &place]);
            let back = server.name(&format!("back-{transport}:{number}"));
            skopeo(&[
                "copy",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &place,
                &format!("docker://{back}"),
            ]);
            let other = slipway.another(&format!("{transport}-store-{number}"));
            other.ok(["pull", &back]);
            assert_eq!(other.digest(&back), digest, "{transport} {compression}");
        }
        let copy = server.name(&format!("copied/app:{number}"));
        let flags = ["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(&[&flags[..], &[&remote, &format!("docker://{copy}")]].concat());
        let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}", server.name("app"))]);
        assert!(tags.contains(&format!("\"{number}\"")), "{tags}");
        skopeo(&["delete", "--tls-verify=false", &format!("docker://{copy}")]);
        slipway.another("gone").fails(1, ["pull", &copy]);
    }
}

#[test]
fn skopeo_reads_what_we_save() {
    need!("skopeo");
    let slipway = Slipway::new();
    // skopeo of Debian 12 cannot make docker's older formats of zstd
    import_gzip(&slipway);
    let recipe = RECIPE.replace("FROM base\n", "FROM plain\n");
    slipway.build_with("saved:1", &recipe, &[], &["--compression", "gzip"]).ok();
    let layout = slipway.path("layout");
    slipway.ok(["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "saved:1"]);
    let archive = slipway.path("docker.tar");
    slipway.ok(["save", "--format", "docker-archive", "-o", archive.to_str().unwrap(), "saved:1"]);
    let oci = format!("oci:{}", layout.display());
    let digest = skopeo(&["inspect", "--format", "{{.Digest}}", &oci]);
    assert_eq!(digest.trim(), slipway.digest("saved:1"));
    let config = skopeo(&["inspect", "--config", &format!("docker-archive:{}", archive.display())]);
    assert!(config.contains("GREETING=hello"), "{config}");
    // and we read what skopeo writes
    let written = slipway.path("written.tar");
    skopeo(&["copy", &oci, &format!("docker-archive:{}:written:1", written.display())]);
    let other = slipway.another("other");
    other.ok(["load", "-i", written.to_str().unwrap()]);
    assert_eq!(other.ok(["run", "--rm", "written:1"]), "hello /made content\n");
    let written = slipway.path("written-oci.tar");
    skopeo(&["copy", &oci, &format!("oci-archive:{}:written:2", written.display())]);
    other.ok(["load", "-i", written.to_str().unwrap()]);
    assert_eq!(other.ok(["run", "--rm", "written:2"]), "hello /made content\n");
}

/// podman and buildah on a store of the test's own.
pub(crate) struct Containers {
    /// Their sockets' paths are bounded: podman refuses a longer folder than 50 characters.
    run: tempfile::TempDir,
    root: std::path::PathBuf,
    conf: std::path::PathBuf,
    /// Signatures are not asked for.
    pub(crate) policy: String,
}

impl Containers {
    pub(crate) fn new(slipway: &Slipway) -> Containers {
        let (conf, policy) = (slipway.path("containers.conf"), slipway.path("policy.json"));
        // the default limits need CAP_SYS_RESOURCE
        fs::write(&conf, "[containers]\ndefault_ulimits = []\n[engine]\nevents_logger = \"none\"\n").unwrap();
        fs::write(&policy, "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}").unwrap();
        let run = tempfile::Builder::new().prefix("slipway-").tempdir_in("/var/tmp").unwrap();
        let policy = policy.to_str().unwrap().to_owned();
        Containers { run, root: slipway.path("containers"), conf, policy }
    }

    /// crun refuses version 1 control groups with version 2 beside them, so these are hidden from it in a mount
    /// namespace of its own.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> crate::support::Ended {
        self.run_with(program, arguments, std::path::Path::new("/dev/null"))
    }

    /// The same with a file of registries.
    pub(crate) fn run_with(
        &self,
        program: &str,
        arguments: &[&str],
        registries: &std::path::Path,
    ) -> crate::support::Ended {
        let mut command = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", program]).env("CONTAINERS_CONF", &self.conf);
        command.env("CONTAINERS_REGISTRIES_CONF", registries);
        command.arg("--root").arg(&self.root).arg("--runroot").arg(self.run.path());
        command.args(["--storage-driver", "overlay"]);
        if program == "podman" {
            command.args(["--cgroup-manager", "cgroupfs", "--runtime", "crun"]);
        }
        run(command.args(arguments))
    }
}

#[test]
fn privileged_podman_runs_what_we_built() {
    need_root!();
    need!("podman", "crun", "unshare");
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let name = server.name("app:1");
    slipway.build(&name, RECIPE, &[]).ok();
    slipway.ok(["push", &name]);
    let containers = Containers::new(&slipway);
    let policy = containers.policy.as_str();
    containers
        .run("podman", &["pull", "--quiet", "--tls-verify=false", "--signature-policy", policy, &name])
        .ok();
    let flags = ["run", "--rm", "--cgroups=disabled", "--network=none"];
    let seen = containers.run("podman", &[&flags[..], &[&name]].concat()).ok();
    assert_eq!(seen, "hello /made content\n");
    let script = "stat -c '%a %h' /made/file; ls /etc/motd /made/sub 2>/dev/null; cat /etc/group | head -n 1";
    let seen = containers.run("podman", &[&flags[..], &[&name, "/bin/sh", "-c", script]].concat()).ok();
    assert_eq!(seen, slipway.shell(&name, script));
    // the docker archive too
    let archive = slipway.path("app.tar");
    slipway.ok(["save", "--format", "docker-archive", "-o", archive.to_str().unwrap(), &name]);
    containers.run("podman", &["rmi", "--force", &name]).ok();
    let load = ["load", "--signature-policy", policy, "-i", archive.to_str().unwrap()];
    containers.run("podman", &load).ok();
    assert_eq!(containers.run("podman", &[&flags[..], &[&name]].concat()).ok(), "hello /made content\n");
}

#[test]
fn privileged_buildah_builds_on_what_we_built_and_we_on_its_images() {
    need_root!();
    need!("buildah", "unshare");
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let name = server.name("app:1");
    slipway.build(&name, RECIPE, &[]).ok();
    slipway.ok(["push", &name]);
    let recipe = format!("FROM {name}\nRUN echo built on > /upon && rm /made/soft\n");
    let context = slipway.context("buildah", &[("Dockerfile", &recipe)]);
    let containers = Containers::new(&slipway);
    let (policy, context) = (containers.policy.as_str(), context.to_str().unwrap());
    let flags = [
        "bud",
        "--tls-verify=false",
        "--isolation=chroot",
        "--signature-policy",
        policy,
        "-t",
        "upon",
        context,
    ];
    containers.run("buildah", &flags).ok();
    let upon = format!("docker://{}", server.name("upon:1"));
    containers
        .run("buildah", &["push", "--tls-verify=false", "--signature-policy", policy, "upon", &upon])
        .ok();
    let other = slipway.another("other");
    let script = "cat /upon /made/file; ls /made";
    assert_eq!(
        other.shell(&pulled(&other, &server.name("upon:1")), script),
        "built on\ncontent\nfile\nhard\n"
    );
}

fn pulled(slipway: &Slipway, name: &str) -> String {
    slipway.ok(["pull", name]);
    name.to_owned()
}

#[test]
fn debians_registry_takes_and_gives() {
    need!("docker-registry");
    let slipway = Slipway::new();
    let address = free_address();
    let storage = slipway.context("distribution", &[]);
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
         delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    let place = slipway.path("config.yml");
    fs::write(&place, config).unwrap();
    let mut command = Command::new(find("docker-registry").unwrap());
    let log = fs::File::create(slipway.path("distribution.log")).unwrap();
    let server = Server::start(command.arg("serve").arg(&place).stderr(log), &address);
    for compression in ["zstd", "gzip", "uncompressed"] {
        let name = server.name(&format!("team/app:{compression}"));
        let context = slipway.context("app", &[("Dockerfile", RECIPE)]);
        slipway.build_folder(&name, &context, &["--push", "--compression", compression]).ok();
        let other = slipway.another(compression);
        other.ok(["pull", &name]);
        assert_eq!(other.digest(&name), slipway.digest(&name));
        assert_eq!(other.ok(["run", "--rm", &name]), "hello /made content\n");
        // a push of what is there already, and under another name
        other.ok(["push", &name]);
        let renamed = server.name(&format!("other/app:{compression}"));
        other.ok(["tag", &name, &renamed]);
        other.ok(["push", &renamed]);
    }
    let missing = server.name("team/none:1");
    let message = slipway.fails(1, ["pull", &missing]);
    assert!(message.contains("team/none"), "{message}");
}

/// Makes `plain`: the base with its layer in gzip.
fn import_gzip(slipway: &Slipway) {
    let flags = ["--compression", "gzip"];
    slipway.build_with("plain", "FROM scratch\nCOPY --from=base / /\n", &[], &flags).ok();
}

/// A tree as text: path, kind, mode, owner, size, links and link target.
fn tree(folder: &std::path::Path) -> Vec<String> {
    let mut command = Command::new("find");
    command.arg(folder).args(["-mindepth", "1", "-printf", "%P %y %m %U:%G %n %l\n"]);
    let text = run(&mut command).ok();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn privileged_umoci_unpacks_a_saved_layout_to_the_same_tree() {
    need_root!();
    need!("umoci");
    let slipway = Slipway::new();
    // umoci of Debian 12 does not know zstd
    import_gzip(&slipway);
    let recipe = RECIPE.replace("FROM base\n", "FROM plain\n");
    slipway.build_with("app:1", &recipe, &[], &["--compression", "gzip"]).ok();
    let image = Image::read(&slipway, "app:1");
    assert!(image.manifest["layers"].to_string().contains("tar+gzip"), "{}", image.manifest);
    let layout = slipway.path("layout");
    slipway.ok(["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "app:1"]);
    let bundle = slipway.path("bundle");
    let tags = run(Command::new("umoci").args(["list", "--layout"]).arg(&layout)).ok();
    let image = format!("{}:{}", layout.display(), tags.lines().next().expect("the layout names its image"));
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle)).ok();
    // what the container itself sees; etc, dev, proc and sys are partly the sandbox's
    let seen = slipway.path("seen");
    fs::create_dir(&seen).unwrap();
    let volume = format!("{}:/out", seen.display());
    let script = "cd / && for f in bin home made root tmp usr var; do cp -a $f /out/; done";
    slipway.ok(["run", "--rm", "-v", &volume, "app:1", "/bin/sh", "-c", script]);
    let ours = tree(&seen);
    let theirs: Vec<String> = tree(&bundle.join("rootfs"))
        .into_iter()
        .filter(|line| !["dev", "etc", "proc", "sys"].contains(&line.split([' ', '/']).next().unwrap()))
        .collect();
    assert!(ours.len() > 100, "{}", ours.len());
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    assert_eq!(only(&ours, &theirs), only(&theirs, &ours));
    assert!(!bundle.join("rootfs/etc/motd").exists() && bundle.join("rootfs/etc/passwd").exists());
}
