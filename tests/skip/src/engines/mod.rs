//! Engines that tests run against, each with a folder of its own and gone with the process that started it, however that ends.
//!
//! Which ones lie below the servers of a run is one variable's word, `SLIPWAY_ENGINES`: `cargo xtask test --cluster` runs what
//! speaks the protocol once for each [`Pair`].

mod postgres;
mod store;

pub use postgres::{Postgres, Teller, postgres};
pub use store::{Kind, STORE_KEY, Store, store};

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What lies below a server: its content, and its pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// A folder and SQLite, which a server has by itself.
    Folder,
    /// A folder and PostgreSQL: no settings make it, but storage holds for every pair of its two halves.
    FolderAndPostgres,
    /// An object store and PostgreSQL.
    Shared(Kind),
}

/// The pair of this run.
///
/// # Panics
/// Where the variable names none.
pub fn pair() -> Pair {
    match std::env::var("SLIPWAY_ENGINES").as_deref() {
        Err(_) | Ok("" | "folder+sqlite") => Pair::Folder,
        Ok("folder+postgresql") => Pair::FolderAndPostgres,
        Ok("versitygw+postgresql") => Pair::Shared(Kind::Versitygw),
        Ok("garage+postgresql") => Pair::Shared(Kind::Garage),
        Ok(other) => panic!("SLIPWAY_ENGINES: `{other}` is no pair of engines"),
    }
}

/// Whether servers have their folder and SQLite in this run. A test of what lies in a folder ends at once where they have not:
/// it is no test of theirs, and `cargo xtask test` runs it anyway.
pub fn in_folders() -> bool {
    pair() == Pair::Folder
}

/// A shell that starts and kills engines, and dies with what started it.
struct Guard {
    shell: Child,
    replies: BufReader<ChildStdout>,
}

impl Guard {
    fn start(command: &mut Command) -> Guard {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut shell = command.spawn().expect("a shell");
        let replies = BufReader::new(shell.stdout.take().expect("it is piped"));
        Guard { shell, replies }
    }

    fn hear(&mut self) {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "an engine did not start");
    }

    fn order(&mut self, words: &str) {
        let input = self.shell.stdin.as_mut().expect("it is piped");
        writeln!(input, "{words}").expect("its guard lives");
        self.hear();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("slipway-{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder for an engine");
    folder
}
