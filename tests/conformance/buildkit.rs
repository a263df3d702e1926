//! BuildKit itself, for recording: a buildkitd that listens on `SLIPWAY_BUILDKIT` (`unix:///path`), asked through buildctl.
//!
//! Both come from the Go module `github.com/moby/buildkit`: `go build ./cmd/buildkitd ./cmd/buildctl` in its folder. The
//! daemon needs runc, and `--oci-worker-net=host` to reach the cases' own servers. Base images are given to it as OCI
//! layouts by name, so that no registry is asked.

use crate::support::{self, Ended, Slipway};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The release that cases are recorded from.
pub(crate) const VERSION: &str = "BuildKit 0.32.2";

pub(crate) struct BuildKit {
    address: String,
    folder: PathBuf,
    /// Layouts by the image's digest.
    layouts: Mutex<BTreeMap<String, PathBuf>>,
}

impl BuildKit {
    /// The daemon that the environment names.
    pub(crate) fn new(folder: PathBuf) -> BuildKit {
        let address = std::env::var("SLIPWAY_BUILDKIT").expect("SLIPWAY_BUILDKIT names buildkitd's address");
        std::fs::create_dir_all(&folder).unwrap();
        BuildKit { address, folder, layouts: Mutex::default() }
    }

    /// The layout of an image of the store: folder and digest.
    fn layout(&self, slipway: &Slipway, name: &str) -> (PathBuf, String) {
        let digest = slipway.digest(name);
        let mut layouts = self.layouts.lock().unwrap();
        let next = self.folder.join(format!("layout-{}", layouts.len()));
        let folder = layouts.entry(digest.clone()).or_insert_with(|| {
            slipway.ok(["save", "--format", "oci-dir", "-o", next.to_str().unwrap(), name]);
            next
        });
        (folder.clone(), digest)
    }

    /// Builds a recipe on `images` of the store, and reads the result into the store as `name`; `None` where buildctl has
    /// no way to say a flag.
    pub(crate) fn build(
        &self,
        slipway: &Slipway,
        name: &str,
        context: &Path,
        images: &[&str],
        flags: &[String],
    ) -> Option<Result<(), Ended>> {
        let archive = self.folder.join("made.tar");
        let mut command = Command::new("buildctl");
        command.args(["--addr", &self.address, "build", "--progress", "plain", "--no-cache"]);
        command
            .args(["--frontend", "dockerfile.v0"])
            .arg("--local")
            .arg(format!("context={}", context.display()));
        command.arg("--output").arg(format!("type=oci,dest={}", archive.display()));
        let mut contexts: Vec<(String, String)> = Vec::new();
        contexts.extend(images.iter().map(|image| (image.to_string(), format!("docker-image://{image}"))));
        let mut recipe = context.join("Dockerfile");
        let mut words = flags.iter();
        while let Some(flag) = words.next() {
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, value.to_owned()),
                None => (flag.as_str(), words.next().cloned().unwrap_or_default()),
            };
            match flag {
                "--build-arg" | "--label" => {
                    command.arg("--opt").arg(format!("{}:{value}", &flag[2..]));
                }
                "--target" | "--platform" => {
                    command.arg("--opt").arg(format!("{}={value}", &flag[2..]));
                }
                "--network" => {
                    command.arg("--opt").arg(format!("force-network-mode={value}"));
                }
                "--secret" | "--ssh" | "--allow" => {
                    command.arg(flag).arg(value);
                }
                "--build-context" => {
                    let (name, value) = value.split_once('=').unwrap();
                    contexts.push((name.to_owned(), value.to_owned()));
                }
                "-f" => recipe = PathBuf::from(value),
                _ => return None,
            }
        }
        command.arg("--local").arg(format!("dockerfile={}", recipe.parent().unwrap().display()));
        command.arg("--opt").arg(format!("filename={}", recipe.file_name().unwrap().to_str().unwrap()));
        for (name, value) in contexts {
            self.context(slipway, &mut command, &name, &value);
        }
        let ended = support::run(&mut command);
        if !ended.status.success() {
            return Some(Err(ended));
        }
        let loaded = slipway.ok(["load", "-q", "-i", archive.to_str().unwrap()]);
        slipway.ok(["tag", loaded.lines().last().unwrap(), name]);
        Some(Ok(()))
    }

    fn context(&self, slipway: &Slipway, command: &mut Command, name: &str, value: &str) {
        if let Some(image) = value.strip_prefix("docker-image://") {
            let (folder, digest) = self.layout(slipway, image);
            let layout = folder.file_name().unwrap().to_str().unwrap();
            command.arg("--oci-layout").arg(format!("{layout}={}", folder.display()));
            command.arg("--opt").arg(format!("context:{name}=oci-layout://{layout}@{digest}"));
        } else if value.contains("://") {
            command.arg("--opt").arg(format!("context:{name}={value}"));
        } else {
            command.arg("--local").arg(format!("named-{name}={value}"));
            command.arg("--opt").arg(format!("context:{name}=local:named-{name}"));
        }
    }
}
