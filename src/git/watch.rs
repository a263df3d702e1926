//! Running git while looking at what it writes.
//!
//! A server decides how much a fetch brings, and what it brings how much a checkout writes: a few kilobytes of a pack become
//! gigabytes of files. So the folder is measured while git runs, again and again, and all of git's processes are ended
//! when there is too much of it.

use crate::children;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use slipway_oci::{limits, unpacking};
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long git runs at least between two looks; also how many times as long as a look takes, so that looking at a large
/// tree does not become the work.
const PAUSE: Duration = Duration::from_millis(50);
const SHARE: u32 = 10;

/// How a run ended.
pub(super) struct Run {
    pub(super) status: ExitStatus,
    /// What it said, both cut to what is kept.
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Why git did not run to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It could not be run.
    Failed(io::Error),
    /// There was too much in its folder, then or before.
    Excess(Excess),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Failed(error)
    }
}

/// What there was too much of, and the most that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Bytes(u64),
    Entries(u64),
}

impl std::fmt::Display for Excess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Excess::Bytes(most) => write!(formatter, "more than {most} bytes"),
            Excess::Entries(most) => write!(formatter, "more than {most} files and folders"),
        }
    }
}

/// The caps of this process.
#[derive(Clone, Copy)]
struct Caps {
    bytes: u64,
    entries: u64,
}

impl Caps {
    fn of_process() -> Caps {
        let bytes = unpacking::allowed().unwrap_or(limits::REPOSITORY_BYTES);
        Caps { bytes, entries: limits::REPOSITORY_ENTRIES }
    }
}

/// Runs a command that writes below `folder`, without input; ends all of it when there is too much there.
pub(super) fn run(command: &mut Command, folder: &Path) -> Result<Run, Stopped> {
    run_within(command, folder, Caps::of_process())
}

fn run_within(command: &mut Command, folder: &Path, caps: Caps) -> Result<Run, Stopped> {
    // one that was ended is not tried by another way
    measure(folder, caps).map_err(Stopped::Excess)?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_child(&child);
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (thread::spawn(move || heard(stdout)), thread::spawn(move || heard(stderr)));
    let mut pause = PAUSE;
    let looked = loop {
        let mut ends = [PollFd::new(&end, PollFlags::IN)];
        let nanoseconds = pause.subsec_nanos().into();
        let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: nanoseconds };
        let has_ended = poll(&mut ends, Some(&timeout)).is_ok_and(|count| count > 0);
        let start = Instant::now();
        let looked = measure(folder, caps);
        if has_ended || looked.is_err() {
            break looked;
        }
        pause = PAUSE.max(start.elapsed() * SHARE);
    };
    if looked.is_err() {
        children::end_all(pid);
    }
    let status = child.wait()?;
    let said = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let run = Run { status, stdout: said(stdout), stderr: said(stderr) };
    looked.map(|()| run).map_err(Stopped::Excess)
}

/// Reads to the end, and keeps the beginning.
fn heard(stream: Option<impl Read>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // what cannot be read has not been said
        let _ = (&mut stream).take(limits::PROGRAM_OUTPUT_BYTES).read_to_end(&mut kept);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    kept
}

/// Looks at a tree that changes meanwhile, no longer than until there is too much of it.
fn measure(folder: &Path, caps: Caps) -> Result<(), Excess> {
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // what is gone again takes no room
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            entries += 1;
            if found.is_dir() {
                folders.push(entry.path());
            } else {
                bytes = bytes.saturating_add(found.len());
            }
            if bytes > caps.bytes {
                return Err(Excess::Bytes(caps.bytes));
            }
            if entries > caps.entries {
                return Err(Excess::Entries(caps.entries));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str, caps: Caps) -> Result<Run, Stopped> {
        run_within(Command::new("sh").args(["-c", script]).current_dir(folder), folder, caps)
    }

    #[test]
    fn what_writes_too_much_is_ended_with_its_children() {
        let caps = Caps { bytes: 1_000_000, entries: 300 };
        let one = "while :; do head -c 50000 /dev/zero; sleep 0.005; done";
        for (script, excess) in [
            (format!("{one} > big"), Excess::Bytes(1_000_000)),
            // a child does it, and several files do together
            (format!("({one} > a) & ({one} > b) & wait"), Excess::Bytes(1_000_000)),
            ("mkdir d; n=0; while :; do n=$((n+1)); : > d/$n; done".to_owned(), Excess::Entries(300)),
            // gone before anybody looks while it runs
            ("head -c 2000000 /dev/zero > big".to_owned(), Excess::Bytes(1_000_000)),
        ] {
            let folder = tempfile::tempdir().expect("folder");
            match shell(folder.path(), &script, caps) {
                Err(Stopped::Excess(found)) => assert_eq!(found, excess, "{script}"),
                other => panic!("{script}: {:?}", other.map(|run| run.status)),
            }
            assert!(matches!(shell(folder.path(), "true", caps), Err(Stopped::Excess(_))), "tried again");
            let size = || fs::metadata(folder.path().join("a")).map_or(0, |found| found.len());
            let before = size();
            thread::sleep(Duration::from_millis(30));
            assert_eq!(size(), before, "a child writes on");
        }
    }

    #[test]
    fn what_keeps_within_is_heard() {
        let folder = tempfile::tempdir().expect("folder");
        let caps = Caps { bytes: 10, entries: 2 };
        let run =
            shell(folder.path(), "printf 1234567890 > f; mkdir d; echo out; echo err >&2; exit 3", caps)
                .expect("run");
        assert_eq!(run.status.code(), Some(3));
        assert_eq!((&*run.stdout, &*run.stderr), (&b"out\n"[..], &b"err\n"[..]));
        // a link is no way out, and not followed
        shell(folder.path(), "rm -r d f; ln -s /usr link", caps).expect("run");
    }

    #[test]
    fn endless_talk_is_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let caps = Caps { bytes: 10, entries: 2 };
        let run = shell(folder.path(), "head -c 30000000 /dev/zero >&2; echo end", caps).expect("run");
        assert_eq!((run.stderr.len() as u64, &*run.stdout), (limits::PROGRAM_OUTPUT_BYTES, &b"end\n"[..]));
    }
}
