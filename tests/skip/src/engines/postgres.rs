//! PostgreSQL, which lives while a shell does that reads from the test.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Guard, folder};
use crate::find;

/// Starts a server and stops it when nobody holds the other end of its standard input any more.
const GUARD: &str = r#"
    trap '' INT HUP
    "$BIN/initdb" -D "$HERE/data" -U slipway -A trust -E UTF8 --locale=C --no-sync >"$HERE/initdb.log" 2>&1 || { cat "$HERE/initdb.log"; exit 1; }
    start() { "$BIN/pg_ctl" -D "$HERE/data" -w -l "$HERE/log" -o "-k $HERE -c listen_addresses='' -c fsync=off -c max_connections=300 \
        -c shared_preload_libraries=pg_stat_statements -c unix_socket_permissions=0777" start >/dev/null 2>&1; }
    start || { cat "$HERE/log"; exit 1; }
    echo ready
    while read -r order; do
        "$BIN/pg_ctl" -D "$HERE/data" -w -m immediate stop >/dev/null 2>&1
        case $order in restart) start ;; esac
        echo ready
    done
    "$BIN/pg_ctl" -D "$HERE/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$HERE"
"#;

/// A PostgreSQL server that listens on a Unix socket.
pub struct Postgres {
    folder: PathBuf,
    guard: Guard,
}

/// The users that servers run as where the tests are root's: PostgreSQL refuses to be root.
fn unprivileged() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

impl Postgres {
    /// Starts one; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    pub fn start() -> Option<Postgres> {
        let programs = find("initdb")?.parent()?.to_owned();
        let folder = folder("postgres");
        set_permissions(&folder, Permissions::from_mode(0o755)).expect("a mode");
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).env("BIN", programs).env("HERE", &folder).current_dir("/");
        if crate::is_root() {
            let (user, group) = unprivileged()?;
            chown(&folder, Some(user), Some(group)).expect("an owner");
            guard.uid(user).gid(group);
        }
        let mut server = Postgres { folder, guard: Guard::start(&mut guard) };
        server.guard.hear();
        Some(server)
    }

    /// Kills it and starts it again, as after a crash.
    pub fn restart(&mut self) {
        self.guard.order("restart");
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.guard.order("stop");
    }

    /// Has it take what it is asked and answer nothing, or go on.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn stand_still(&self, still: bool) {
        let text = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        let first = text.lines().next().expect("its process");
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap_or_default();
        let signal = if still { Signal::STOP } else { Signal::CONT };
        for process in [first].into_iter().chain(children.split_whitespace()) {
            let process = process.parse().ok().and_then(Pid::from_raw).expect("a process");
            // one may have ended meanwhile
            let _ = kill_process(process, signal);
        }
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of a database on it.
    pub fn address(&self, database: &str) -> String {
        format!("postgresql:///{database}?host={}&user=slipway", self.folder.display())
    }

    /// The address of a new, empty database.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("d{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.tell("postgres", &format!("CREATE DATABASE {name}"));
        self.address(&name)
    }

    /// Drops a database, whoever is connected to it.
    pub fn forget(&self, address: &str) {
        let name = address.split(['/', '?']).nth(3).expect("an address names a database");
        self.tell("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    }

    /// What the server answers to a statement, without heads.
    ///
    /// # Panics
    /// Where it refuses it.
    pub fn tell(&self, database: &str, statement: &str) -> String {
        self.teller().try_tell(database, statement).unwrap_or_else(|words| panic!("{statement}: {words}"))
    }

    /// What tells it statements, whoever else has it.
    pub fn teller(&self) -> Teller {
        Teller(self.folder.clone())
    }
}

/// Tells a server statements.
pub struct Teller(PathBuf);

impl Teller {
    /// What the server answers to a statement, without heads.
    ///
    /// # Errors
    /// Its words, where it refuses or is away.
    pub fn try_tell(&self, database: &str, statement: &str) -> Result<String, String> {
        let program = find("psql").expect("it comes with the server");
        let mut psql = Command::new(program);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "slipway", "-d", database, "-c", statement]);
        let output = psql.arg("-h").arg(&self.0).output().expect("psql");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// The server that the tests of one process share; `None` where it is not installed.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).as_ref()
}
