//! The plain user of the tests without root (xtask/src/user.rs makes it).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Ended, base, binary, run};

const NAME: &str = "slipway-e2e";

/// The user, a folder that it owns, and a copy of the binary that it can reach.
pub struct User {
    folder: tempfile::TempDir,
    uid: u32,
    gid: u32,
}

impl User {
    /// The user of the tests, with subordinate ids.
    pub fn new() -> Option<User> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let line = passwd.lines().find(|line| line.starts_with(&format!("{NAME}:")))?;
        let mut ids = line.split(':').skip(2).filter_map(|id| id.parse().ok());
        Some(User::with_ids(ids.next()?, ids.next()?))
    }

    /// A user that no file knows: no name, no subordinate ids.
    pub fn nameless() -> User {
        User::with_ids(54_329, 54_329)
    }

    fn with_ids(uid: u32, gid: u32) -> User {
        // the checkout may lie in a folder that only root can enter
        let folder = tempfile::Builder::new().prefix("slipway-e2e-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = folder.path().join("slipway");
        // never written by this process: a test that forks meanwhile would hold it, and who executes it would hear that it is busy
        if fs::hard_link(binary(), &program).is_err() {
            run(Command::new("cp").arg(binary()).arg(&program)).ok();
        }
        fs::copy(base::busybox(), folder.path().join("base.tar")).unwrap();
        fs::set_permissions(folder.path().join("base.tar"), PermissionsExt::from_mode(0o644)).unwrap();
        let user = User { folder, uid, gid };
        for name in ["home", "context"] {
            fs::create_dir(user.path(name)).unwrap();
            chown(user.path(name), Some(uid), Some(gid)).unwrap();
        }
        user
    }

    /// `user:group`, as chown(1) takes it.
    pub fn owner(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts files into the context, as the user's.
    pub fn context(&self, files: &[(&str, &str)]) -> PathBuf {
        let context = self.path("context");
        super::write_tree(&context, files);
        run(Command::new("chown").args(["-R", &self.owner()]).arg(&context)).ok();
        context
    }

    /// The binary, run by the user in its home.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid))
            .arg("--clear-groups");
        command.arg(self.path("slipway")).args(arguments).current_dir(self.path("home")).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.path("home"));
        command.env("XDG_DATA_HOME", self.path("home/data"));
        command
    }

    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        run(&mut self.command(arguments)).ok()
    }

    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        run(&mut self.command(arguments))
    }
}
