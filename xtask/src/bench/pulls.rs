//! What a machine that is born empty waits for: an image is pulled into an empty store and something runs on it.
//!
//! Podman pulls from the same registry. A large image is measured against its own floor: `zstd -d` of its layers, as many
//! at a time as there are cores, written into files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Case, Settings, input};
use crate::process::{find, quiet, seconds};
use crate::registry::Registry;
use crate::{Failure, base, failed, house};

/// Layers of the large image.
const LAYERS: usize = 8;
/// Files in each of them, and bytes in all.
const FILES: usize = 30_000 / LAYERS;
const LAYER_BYTES: usize = (800 << 20) / LAYERS;

/// Measures every row; prints each as it comes.
pub(super) fn measure(slipway: &Path, settings: &Settings) -> Result<Vec<Case>, Failure> {
    let registry = Registry::start(slipway, &house::empty_folder("bench/registry")?)?;
    let (debian, large) = (format!("{}/base:1", registry.address), format!("{}/large:1", registry.address));
    let store = house::empty_folder("bench/pulls")?;
    let command = |words: &[&str]| {
        let mut command = Command::new(slipway);
        command.env("SLIPWAY_ROOT", &store).args(words);
        command
    };
    quiet(command(&["import"]).arg(base::provide()?.archive).arg(&debian))?;
    quiet(&mut command(&["push", "-q", &debian]))?;
    house::empty_folder("bench/pulls")?;
    quiet(command(&["import"]).arg(input::base()?).arg("bench-base"))?;
    note_version(1)?;
    quiet(command(&["build", "--progress", "quiet", "-t", &large]).arg(large_context()?))?;
    quiet(&mut command(&["push", "-q", &large]))?;
    let layers = layers_of(&store)?;
    let next = format!("{}/large:2", registry.address);
    note_version(2)?;
    quiet(command(&["build", "--progress", "quiet", "-t", &next]).arg(large_context()?))?;
    quiet(&mut command(&["push", "-q", &next]))?;
    let mut cases = Vec::new();
    for (name, image) in [("base", &debian), ("large", &large)] {
        let mut ours = case(&format!("pull {name} + run"), "slipway");
        let mut podmans = case(&format!("pull {name} + run"), "podman");
        for _ in 0..settings.rounds {
            house::empty_folder("bench/pulls")?;
            let pulled = quiet(&mut command(&["pull", "-q", image]))?.1;
            ours.times.push(pulled + quiet(&mut command(&["run", "--rm", image, "true"]))?.1);
            if find("podman").is_some() {
                podmans.times.push(podman(image)?);
            }
        }
        cases.push(ours);
        if !podmans.times.is_empty() {
            cases.push(podmans);
        }
    }
    cases.extend(next_version(&command, &large, &next, settings.rounds)?);
    let mut floor = case("pull large + run", "zstd -d");
    for _ in 0..settings.rounds {
        floor.times.push(decompress(&layers)?);
    }
    cases.push(floor);
    for case in &cases {
        println!("{:8} {:30} {}", case.builder, case.name, seconds(case.median()));
    }
    for folder in ["bench/pulls", "bench/layers"] {
        fs::remove_dir_all(house::folder(folder)?).map_err(failed("cannot empty the store"))?;
    }
    Ok(cases)
}

/// Pulls an image's next version, in which each layer has another file, beside the first and without it.
fn next_version(
    command: &dyn Fn(&[&str]) -> Command,
    first: &str,
    next: &str,
    rounds: usize,
) -> Result<Vec<Case>, Failure> {
    let mut cases = [
        case("pull its next version", "slipway"),
        case("pull that alone", "slipway"),
        case("pull its next version", "podman"),
    ];
    for _ in 0..rounds {
        house::empty_folder("bench/pulls")?;
        quiet(&mut command(&["pull", "-q", first]))?;
        let before = layers_bytes()?;
        cases[0].times.push(quiet(&mut command(&["pull", "-q", next]))?.1);
        println!("layers that are mounted: {} KiB, then {} KiB", before >> 10, layers_bytes()? >> 10);
        house::empty_folder("bench/pulls")?;
        cases[1].times.push(quiet(&mut command(&["pull", "-q", next]))?.1);
        if find("podman").is_some() {
            podman(first)?;
            cases[2].times.push(quiet(&mut podmans(&["pull", "-q", "--tls-verify=false", next])?)?.1);
        }
    }
    Ok(cases.into_iter().filter(|case| !case.times.is_empty()).collect())
}

/// What the store's mounted layers take on the disk, in bytes.
fn layers_bytes() -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let folder = house::folder("bench/pulls")?.join("layers");
    let mut inodes = std::collections::HashMap::new();
    for entry in fs::read_dir(&folder).map_err(failed("cannot list the layers"))? {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(failed("cannot list the layers"))?;
        inodes.insert(metadata.ino(), metadata.blocks() * 512);
    }
    Ok(inodes.values().sum())
}

fn case(name: &str, builder: &'static str) -> Case {
    Case { name: name.to_owned(), builder, times: Vec::new() }
}

/// Pulls and runs with a store of its own, which is empty before.
fn podman(image: &str) -> Result<Duration, Failure> {
    // its folders hold mounts, which it takes away itself
    quiet(&mut podmans(&["system", "reset", "--force"])?)?;
    let pulled = quiet(&mut podmans(&["pull", "-q", "--tls-verify=false", image])?)?.1;
    // limits that a root without CAP_SYS_RESOURCE may set, and a runtime that takes cgroups of both versions
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let words = ["--runtime", "runc", "run", "--rm", "--network", "host"];
    let words = [&words[..], &limits, &[image, "true"]].concat();
    Ok(pulled + quiet(&mut podmans(&words)?)?.1)
}

/// A command of podman, in a store of its own.
fn podmans(words: &[&str]) -> Result<Command, Failure> {
    let (root, run) = (house::folder("bench/podman")?, house::folder("bench/podman-run")?);
    let mut command = Command::new("podman");
    command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
    command.arg("--root").arg(&root).arg("--runroot").arg(&run).args(words);
    Ok(command)
}

/// Says in each layer which version it is.
fn note_version(version: u32) -> Result<(), Failure> {
    let context = large_context()?;
    (0..LAYERS).try_for_each(|layer| {
        let note = context.join(layer.to_string()).join("version");
        fs::write(note, version.to_string()).map_err(failed("cannot write"))
    })
}

/// A recipe of eight layers, and their files: text, none of it twice near by.
fn large_context() -> Result<PathBuf, Failure> {
    let folder = house::folder("bench/large")?;
    let lines: String = (0..LAYERS).map(|layer| format!("COPY {layer} /{layer}\n")).collect();
    fs::write(folder.join("Dockerfile"), format!("FROM bench-base\n{lines}"))
        .map_err(failed("cannot write"))?;
    if folder.join("done").exists() {
        return Ok(folder);
    }
    for layer in 0..LAYERS {
        let text = input::text_of(layer as u64 + 1, LAYER_BYTES / 8);
        for file in 0..FILES {
            // from a few bytes to several times the mean
            let bytes = LAYER_BYTES / FILES * (file % 5) / 2;
            let begin = (file * 7_919_003) % (text.len() - bytes);
            let place = folder.join(layer.to_string()).join((file / 100).to_string());
            fs::create_dir_all(&place).map_err(failed("cannot make the files"))?;
            let made = fs::File::create(place.join(file.to_string()));
            let written = made.and_then(|mut made| made.write_all(&text[begin..begin + bytes]));
            written.map_err(failed("cannot make the files"))?;
        }
    }
    fs::write(folder.join("done"), "").map_err(failed("cannot write"))?;
    Ok(folder)
}

/// The larger layers of a store, copied beside it.
fn layers_of(store: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = house::empty_folder("bench/layers")?;
    let blobs = fs::read_dir(store.join("blobs/sha256")).map_err(failed("cannot list the store"))?;
    let mut layers = Vec::new();
    for blob in blobs {
        let blob = blob.map_err(failed("cannot list the store"))?.path();
        let is_layer = fs::read(&blob)
            .is_ok_and(|bytes| bytes.len() > 1 << 20 && bytes.starts_with(b"\x28\xb5\x2f\xfd"));
        if is_layer {
            let place = folder.join(layers.len().to_string());
            fs::copy(&blob, &place).map_err(failed("cannot copy a layer"))?;
            layers.push(place);
        }
    }
    Ok(layers)
}

/// Decompresses all into files, on all cores.
fn decompress(layers: &[PathBuf]) -> Result<Duration, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let begun = Instant::now();
    let work = || -> Result<(), Failure> {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(layer) = layers.get(number) else { return Ok(()) };
            let output = layer.with_extension("tar");
            quiet(Command::new("zstd").args(["-q", "-d", "-f", "-o"]).arg(&output).arg(layer))?;
        }
    };
    let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    results.into_iter().collect::<Result<(), Failure>>()?;
    Ok(begun.elapsed())
}
