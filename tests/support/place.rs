//! File systems that a test mounts where nobody else sees them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Words for scripts.
const HELPERS: &str = "\
served=
trap '[ -z \"$served\" ] || kill $served' EXIT
serve() { \"$@\" < /dev/null > /dev/null 2>&1 & served=\"$served $!\"; }
until_mounted() { for wait in $(seq 100); do mountpoint -q \"$1\" && return; sleep 0.05; done; echo \"$1 is not mounted\" >&2; exit 1; }";

/// A mount namespace with what a script has mounted in it. All of it goes with this, and with the test's process too.
pub struct Place {
    holder: Child,
}

impl Place {
    /// Carries `script` out as root in a mount namespace of its own, where `$F` is `folder`. A server of a file system is
    /// started by `serve PROGRAM...`, which ends with the test, and waited for by `until_mounted FOLDER`.
    ///
    /// # Errors
    /// What the script said where it failed: this machine lacks something.
    pub fn new(folder: &Path, script: &str) -> Result<Place, String> {
        // the end of the test, however it comes, is the end of the input
        let script = format!("{HELPERS}\n{script}\necho ready; cat > /dev/null");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .env("F", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line == "ready\n" {
            return Ok(Place { holder });
        }
        let mut words = String::new();
        holder.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        holder.wait().unwrap();
        // a reason is a line
        Err((line + &words).split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// A program that sees what is mounted here.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(program);
        command
    }

    /// Where the test itself finds a path of this place.
    pub fn path(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
