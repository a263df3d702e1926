//! Debian's buildah, for recording: a storage of its own under target/, the same base image.

use crate::harness::{Made, PATH};
use crate::listing::Files;
use crate::support::{self, Ended, base, image};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Buildah {
    folder: PathBuf,
}

impl Buildah {
    /// With an empty storage but for the base image.
    pub(crate) fn new(folder: PathBuf) -> Buildah {
        let buildah = Buildah { folder };
        let container = buildah.ok(&["from", "scratch"]);
        let container = container.trim();
        buildah.ok(&["add", container, base::busybox().to_str().unwrap(), "/"]);
        buildah.ok(&["config", "--env", &format!("PATH={PATH}"), container]);
        buildah.ok(&["commit", "--format", "docker", container, "base"]);
        buildah.ok(&["rm", container]);
        buildah
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        let storage = |name: &str| self.folder.join(name);
        command.arg("--root").arg(storage("storage")).arg("--runroot").arg(storage("run"));
        command.args(["--storage-driver", "overlay"]).env("BUILDAH_ISOLATION", "chroot");
        command
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        support::run(self.command().args(arguments)).ok()
    }

    pub(crate) fn build(&self, name: &str, context: &Path, recipe: &Path, flags: &[String]) -> Ended {
        let mut command = self.command();
        command.args(["bud", "--layers", "--pull-never", "--format", "docker", "-t", name, "-f"]).arg(recipe);
        support::run(command.args(flags).arg(context))
    }

    /// The image that is called `name`.
    pub(crate) fn read(&self, name: &str) -> Made {
        let folder = self.folder.join(format!("image-{name}"));
        self.ok(&["push", name, &format!("dir:{}", folder.display())]);
        let json = |file: &str| -> Value {
            serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
        };
        let hex =
            |descriptor: &Value| image::text(&descriptor["digest"]).split_once(':').unwrap().1.to_owned();
        let manifest = json("manifest.json");
        let config = json(&hex(&manifest["config"]));
        let mut files = Files::default();
        for layer in manifest["layers"].as_array().unwrap() {
            files.apply(&image::entries(&std::fs::read(folder.join(hex(layer))).unwrap()));
        }
        std::fs::remove_dir_all(&folder).unwrap();
        Made { files, config, wrong: None }
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // its containers hold mounts, and so does the storage itself; a build that was cut short is no reason to panic
        let _ = support::run(self.command().args(["rm", "--all"]));
        let _ =
            support::run(Command::new("umount").arg("--recursive").arg(self.folder.join("storage/overlay")));
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
