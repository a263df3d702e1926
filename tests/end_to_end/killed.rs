//! `kill -9` while layers are written, at moments drawn by chance: no half layer has a name, nothing is left on the machine or
//! after the next command, and what is done then comes out as if nothing had happened.
//!
//! `SLIPWAY_INSTANTS` says at how many moments for each shape of layers (`cargo xtask test --instants 200`), `SLIPWAY_SEED`
//! from where they are drawn.

use crate::support::chance::{Chance, number, seed};
use crate::support::image::Image;
use crate::support::server::Server;
use crate::support::{Ended, Slipway, run, start};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SHAPES: [&str; 3] = ["unpacked", "mounted", "loop"];

/// Moments for each shape in the plain run.
const INSTANTS: usize = 6;

/// The shapes of this run that the machine has.
fn shapes() -> Vec<&'static str> {
    let asked = slipway_skip::shape();
    let is_asked = |shape: &&str| asked.as_deref().is_none_or(|asked| asked == *shape);
    let has = |shape: &&str| {
        let mut slipway = Slipway::empty();
        slipway.environment.push(("SLIPWAY_LAYERS".to_owned(), (*shape).to_owned()));
        let has = slipway.ok(["info", "--format", "{{.Layers.Shape}}"]).trim() == *shape;
        if !has {
            slipway_skip::skip(&format!("layers cannot be {shape} here"));
        }
        has
    };
    SHAPES.into_iter().filter(is_asked).filter(has).collect()
}

/// What is killed.
struct Work {
    name: &'static str,
    /// Command lines, one after the other; the moment falls into any of them.
    lines: Vec<Vec<String>>,
    /// A script of the image, and the image.
    image: String,
    script: &'static str,
}

/// The base, the archives and the context that the work begins with.
struct Bench {
    /// A store that nothing was done in but an import.
    fresh: PathBuf,
    slipway: Slipway,
    works: Vec<Work>,
    /// What is pulled from; nobody kills it.
    _server: Server,
}

const RECIPE: &str = "\
FROM base
COPY tree /tree
RUN cat /tree/d0/* > /all && rm -r /tree/d1 && mkdir /tree/d1 && echo new > /tree/d1/new && ln /all /again && \\
    head -c 3000000 /dev/zero | tr '\\0' x > /large
COPY --from=base /etc /etc2
RUN ls /etc2 > /seen && rm /large
";

impl Bench {
    fn new(shape: &str) -> Bench {
        let mut slipway = Slipway::empty();
        slipway.environment.push(("SLIPWAY_LAYERS".to_owned(), shape.to_owned()));
        // or it is that of this repository's last commit, which may be another before the test ends
        slipway.environment.push(("SOURCE_DATE_EPOCH".to_owned(), "1600000000".to_owned()));
        slipway.import_base();
        let context = slipway.context("context", &[("Dockerfile", RECIPE)]);
        for folder in 0..4 {
            let files: Vec<(String, String)> = (0..30)
                .map(|file| (format!("tree/d{folder}/{file}"), format!("{folder} {file} ").repeat(2000)))
                .collect();
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            crate::support::write_tree(&context, &files);
        }
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let build = ["build", "-q", "-t", "made", context.to_str().unwrap()];
        // the same image as an archive, and its root alone
        let maker = slipway.another("maker");
        maker.import_base();
        maker.ok(build);
        let (archive, root) = (slipway.path("made.tar"), slipway.path("root.tar"));
        maker.ok(["save", "-o", archive.to_str().unwrap(), "made"]);
        fs::copy(crate::support::base::busybox(), &root).unwrap();
        let server = Server::slipway(&slipway, &slipway.path("registry"));
        let pulled = server.name("made:1");
        maker.ok(["tag", "made", &pulled]);
        maker.ok(["push", "-q", &pulled]);
        let import = ["import", root.to_str().unwrap(), "imported"];
        let run = |image: &str| words(&["run", "--rm", "--network", "none", image, "true"]);
        let works = vec![
            Work {
                name: "build",
                lines: vec![words(&build)],
                image: "made".to_owned(),
                script: "cat /tree/d1/* /seen /again; ls /tree /tree/d0",
            },
            Work {
                name: "import",
                lines: vec![words(&import), run("imported")],
                image: "imported".to_owned(),
                script: "cat /etc/motd; ls /bin | wc -l",
            },
            Work {
                name: "load",
                lines: vec![words(&["load", "-q", "-i", archive.to_str().unwrap()]), run("made")],
                image: "made".to_owned(),
                script: "cat /tree/d1/* /seen /again; ls /tree /tree/d0",
            },
            Work {
                name: "pull",
                lines: vec![words(&["pull", "-q", &pulled]), run(&pulled)],
                image: pulled,
                script: "cat /tree/d1/* /seen /again; ls /tree /tree/d0",
            },
        ];
        Bench { fresh: slipway.root.clone(), slipway, works, _server: server }
    }

    /// Another store that is as the fresh one.
    fn copy(&self, name: &str) -> Slipway {
        let copy = self.slipway.another(name);
        run(Command::new("cp").arg("-a").arg(&self.fresh).arg(&copy.root)).ok();
        copy
    }
}

/// How an undisturbed run ends.
struct Whole {
    took: Duration,
    /// Manifest and configuration.
    image: String,
    output: String,
    /// What is in `layers/`.
    layers: BTreeMap<String, Vec<String>>,
}

fn carry_out(slipway: &Slipway, work: &Work) -> Ended {
    let mut ended = slipway.run(&work.lines[0]);
    for line in &work.lines[1..] {
        assert!(ended.status.success(), "{}: {}", work.name, ended.stderr);
        ended = slipway.run(line);
    }
    ended
}

/// What the digest is of, so that a difference shows itself.
fn image(slipway: &Slipway, work: &Work) -> String {
    let read = Image::read(slipway, &work.image);
    format!("{}\n{:#}\n{:#}", read.digest, read.manifest, read.config)
}

fn whole(bench: &Bench, work: &Work) -> Whole {
    let slipway = bench.copy("whole");
    let begun = Instant::now();
    carry_out(&slipway, work).ok();
    let took = begun.elapsed();
    let (image, output) = (image(&slipway, work), slipway.shell(&work.image, work.script));
    let layers = layers(&slipway.root);
    assert!(!layers.is_empty());
    fs::remove_dir_all(&slipway.root).unwrap();
    Whole { took, image, output, layers }
}

/// Everything that has a name in `layers/`, and what is in it.
fn layers(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.join("layers")).unwrap().flatten() {
        let mut lines = Vec::new();
        describe(&entry.path(), "", &mut lines);
        found.insert(entry.file_name().to_string_lossy().into_owned(), lines);
    }
    found
}

/// Names, kinds, owners and contents. Times are of the moment where a step made something, but for files, which are
/// clamped.
fn describe(path: &Path, shown: &str, lines: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    if metadata.is_dir() {
        lines.push(format!("{shown}/ {mode:o} {uid}:{gid}"));
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for name in names {
            let shown = format!("{shown}/{}", name.file_name().unwrap().to_string_lossy());
            describe(&name, &shown, lines);
        }
        return;
    }
    let content = match metadata.is_symlink() {
        true => fs::read_link(path).unwrap().display().to_string(),
        false if metadata.is_file() => slipway_oci::Digest::sha256(&fs::read(path).unwrap()).short(),
        false => String::new(),
    };
    // overlayfs makes deletions of links to one in its work folder, which goes with that; and a layer's own file has a second
    // name while a later one that may refer to it is written (`Names`), which the next command sweeps
    let links = if metadata.is_file() && !shown.is_empty() { metadata.nlink() } else { 1 };
    let device = metadata.rdev();
    lines.push(format!("{shown} {mode:o} {uid}:{gid} {links} {device} {content}"));
}

/// Mounts and loop devices of the store on this machine. What the kernel takes away by itself is given a moment.
fn on_the_machine(root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let look = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut found: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(root) || line.contains(" - erofs "))
            .map(str::to_owned)
            .collect();
        for device in fs::read_dir("/sys/block").unwrap().flatten() {
            let shown = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if shown.starts_with(root) {
                found.push(format!("{}: {shown}", device.path().display()));
            }
        }
        found
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !look().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    look()
}

/// Carries the work out and kills it after `pause`: the command alone, or with all of its processes.
fn kill(slipway: &Slipway, work: &Work, pause: Duration, with_children: bool) {
    let until = Instant::now() + pause;
    for line in &work.lines {
        let mut command = slipway.command(line);
        let started = start(command.process_group(0));
        let pid = Pid::from_raw(started.child.id() as i32).unwrap();
        let mut child = started;
        while Instant::now() < until {
            if child.child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let is_over = child.child.try_wait().unwrap().is_some();
        if !is_over {
            if with_children {
                // one that has ended meanwhile is as good
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = kill_process(pid, Signal::KILL);
        }
        child.wait();
        if !is_over {
            return;
        }
    }
}

/// One moment: everything that must hold after it.
fn one(bench: &Bench, work: &Work, whole: &Whole, pause: Duration, with_children: bool, said: &str) {
    let slipway = bench.copy("killed");
    kill(&slipway, work, pause, with_children);
    assert_eq!(on_the_machine(&slipway.root), [] as [String; 0], "{said}");
    // what has a name is whole, before anybody has mended anything
    for (name, lines) in layers(&slipway.root) {
        let expected = whole.layers.get(&name).unwrap_or_else(|| panic!("{said}: `{name}` is of nobody"));
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        let differences = (only(expected, &lines), only(&lines, expected));
        assert_eq!(differences, (Vec::new(), Vec::new()), "{said}: half of `{name}`");
    }
    slipway.ok(["images"]);
    assert_eq!(slipway.leftovers(), [] as [String; 0], "{said}");
    let leases = fs::read_dir(slipway.root.join("leases")).into_iter().flatten().count();
    assert_eq!(leases, 0, "{said}");
    carry_out(&slipway, work).ok();
    assert_eq!(image(&slipway, work), whole.image, "{said}");
    assert_eq!(slipway.shell(&work.image, work.script), whole.output, "{said}");
    assert_eq!(layers(&slipway.root), whole.layers, "{said}");
    slipway.ok(["prune", "--all", "--force"]);
    assert_eq!(layers(&slipway.root), BTreeMap::new(), "{said}: the collector leaves something");
    assert_eq!(on_the_machine(&slipway.root), [] as [String; 0], "{said}");
    fs::remove_dir_all(&slipway.root).unwrap();
}

#[test]
fn privileged_kills_at_any_moment_leave_no_half_layer_and_nothing_on_the_machine() {
    slipway_skip::need_root!();
    let seed = seed();
    let instants = number("SLIPWAY_INSTANTS").map_or(INSTANTS, |count| count as usize);
    for shape in shapes() {
        let bench = Bench::new(shape);
        let wholes: Vec<Whole> = bench.works.iter().map(|work| whole(&bench, work)).collect();
        let mut chance = Chance(seed);
        for instant in 0..instants {
            // builds have the most moments
            let place = [0, 0, 1, 2][instant % 4];
            let (work, whole) = (&bench.works[place], &wholes[place]);
            let most = whole.took.as_micros() as u64 * 11 / 10;
            let pause = Duration::from_micros(chance.below(most));
            let with_children = chance.below(2) == 0;
            let said = format!(
                "{shape}, {}, after {pause:?}, children {with_children}, moment {instant} of seed {seed}",
                work.name
            );
            one(&bench, work, whole, pause, with_children, &said);
        }
    }
}
