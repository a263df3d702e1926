//! Ending at once without leaving anything behind, as the second Ctrl-C asks for.
//!
//! Other threads are at work in folders that are to go, and may be for long. So the process executes itself once more, under
//! [`NAME`]: that ends its threads and lets its leases go, whose folders are then the dead's to sweep. Children, which are
//! guards of containers and programs such as git, are still its own: they end first. A third Ctrl-C ends it there, and the
//! next command sweeps.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, getpid, wait};

use crate::app::App;
use crate::children;

/// What the process is called.
const NAME: &str = "slipway-leave";
/// The status of a program that an interrupt ended, as shells tell it.
const INTERRUPTED: u8 = 130;
/// How long the children's end is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the program at once; `root` is the store that it works in.
pub(crate) fn now(root: &Path) -> ! {
    // comes back only if it cannot be, and then the next command sweeps
    let _ = Command::new("/proc/self/exe").arg0(NAME).arg("--").arg(root).exec();
    std::process::exit(INTERRUPTED.into())
}

/// If this process was executed to clean up, does that and answers with the exit status.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut arguments = arguments.into_iter();
    if arguments.next()? != NAME || arguments.next()? != "--" {
        return None;
    }
    let root = PathBuf::from(arguments.next()?);
    end_children();
    // what fails here is left to the next command, whose words are wanted more
    if let Ok(app) = App::open_again(&root) {
        drop(app);
    }
    let _ = slipway_runtime::sweep();
    Some(INTERRUPTED)
}

/// Kills the children of the process that this one was, and waits for their end: with a guard ends its container.
fn end_children() {
    children::of(getpid()).into_iter().for_each(children::end);
    let start = Instant::now();
    while let Ok(ended) = wait(WaitOptions::NOHANG) {
        if start.elapsed() > PATIENCE {
            break;
        }
        if ended.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
