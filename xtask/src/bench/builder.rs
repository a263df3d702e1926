//! The builders that are measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::quiet;
use crate::{Failure, failed, house};

/// Something that builds images.
pub(crate) trait Builder {
    /// Its name in the table.
    fn name(&self) -> &'static str;

    /// Empties its store and puts the base into it. Not timed.
    fn empty(&mut self) -> Result<(), Failure>;

    /// Builds, and pushes if there is a registry to push to; answers how long that took.
    fn build(&mut self, context: &Path, registry: Option<&str>) -> Result<Duration, Failure>;
}

/// The house's own.
pub(crate) struct Slipway {
    binary: PathBuf,
    base: PathBuf,
    root: PathBuf,
}

impl Slipway {
    pub(crate) fn new(binary: PathBuf, base: PathBuf) -> Result<Slipway, Failure> {
        Ok(Slipway { binary, base, root: house::folder("bench/slipway")? })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("SLIPWAY_ROOT", &self.root);
        command
    }
}

impl Builder for Slipway {
    fn name(&self) -> &'static str {
        "slipway"
    }

    fn empty(&mut self) -> Result<(), Failure> {
        house::empty_folder("bench/slipway")?;
        quiet(self.command().arg("import").arg(&self.base).arg("bench-base")).map(|_| ())
    }

    fn build(&mut self, context: &Path, registry: Option<&str>) -> Result<Duration, Failure> {
        let mut command = self.command();
        let name = registry.map_or_else(|| "bench".to_owned(), |address| format!("{address}/bench:1"));
        command
            .args(["build", "--progress", "quiet", "-t", &name])
            .args(registry.map(|_| "--push"))
            .arg(context);
        quiet(&mut command).map(|(_, took)| took)
    }
}

/// A buildah that failed leaves its mounts behind.
fn unmount_below(folder: &Path) -> Result<(), Failure> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed("cannot read the mounts"))?;
    // the fifth field is where (proc_pid_mountinfo(5)); the last mount goes first
    for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if Path::new(place).starts_with(folder) {
            quiet(Command::new("umount").arg(place))?;
        }
    }
    Ok(())
}

/// buildah with layers, so that it caches, on a store of its own.
pub(crate) struct Buildah {
    base: PathBuf,
    root: PathBuf,
}

impl Buildah {
    pub(crate) fn new(base: PathBuf) -> Result<Buildah, Failure> {
        Ok(Buildah { base, root: house::folder("bench/buildah")? })
    }

    fn command(&self, words: &[&str]) -> Command {
        // crun refuses version 1 control groups with version 2 beside them: these are hidden from it
        let mut command = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", "buildah"]);
        command.env("CONTAINERS_CONF", self.root.with_extension("conf"));
        command.args(["--root".as_ref(), self.root.join("root").as_os_str()]);
        command.args(["--runroot".as_ref(), self.root.join("run").as_os_str()]);
        command.args(["--storage-driver", "overlay"]).args(words);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn empty(&mut self) -> Result<(), Failure> {
        unmount_below(&self.root)?;
        // the base is an archive, so a recipe can make an image of it
        let folder = house::empty_folder("bench/buildah-base")?;
        house::empty_folder("bench/buildah")?;
        // its default limits need CAP_SYS_RESOURCE, which this process may lack
        let conf = "[containers]\ndefault_ulimits = []\n";
        std::fs::write(self.root.with_extension("conf"), conf)
            .and_then(|()| std::fs::copy(&self.base, folder.join("base.tar")).map(|_| ()))
            .and_then(|()| std::fs::write(folder.join("Dockerfile"), "FROM scratch\nADD base.tar /\n"))
            .map_err(failed("cannot prepare buildah's base"))?;
        quiet(self.command(&["bud", "--quiet", "-t", "bench-base"]).arg(folder)).map(|_| ())
    }

    fn build(&mut self, context: &Path, registry: Option<&str>) -> Result<Duration, Failure> {
        let options = ["bud", "--layers", "--quiet", "--network", "host", "--pull-never", "-t", "bench"];
        let (_, mut took) = quiet(self.command(&options).arg(context))?;
        if let Some(address) = registry {
            let place = format!("docker://{address}/bench:1");
            took += quiet(&mut self.command(&["push", "--quiet", "--tls-verify=false", "bench", &place]))?.1;
        }
        Ok(took)
    }
}
