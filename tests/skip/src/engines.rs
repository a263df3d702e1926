//! Engines that tests run against, each with a folder of its own and gone with the process that started it, however that ends.

use std::fs::{Permissions, set_permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
    guard: Child,
    replies: BufReader<std::process::ChildStdout>,
}

/// The users that servers run as where the tests are root's: PostgreSQL refuses to be root.
fn unprivileged() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("slipway-{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder for an engine");
    folder
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
        let mut guard =
            guard.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().expect("a shell");
        let replies = BufReader::new(guard.stdout.take().expect("it is piped"));
        let mut server = Postgres { folder, guard, replies };
        server.hear();
        Some(server)
    }

    fn hear(&mut self) {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "PostgreSQL did not start: see `{}`", self.folder.display());
    }

    fn order(&mut self, word: &str) {
        let input = self.guard.stdin.as_mut().expect("it is piped");
        writeln!(input, "{word}").expect("its guard lives");
        self.hear();
    }

    /// Kills it and starts it again, as after a crash.
    pub fn restart(&mut self) {
        self.order("restart");
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.order("stop");
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
    pub fn tell(&self, database: &str, statement: &str) -> String {
        let program = find("psql").expect("it comes with the server");
        let mut psql = Command::new(program);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "slipway", "-d", database, "-c", statement]);
        let output = psql.arg("-h").arg(&self.folder).output().expect("psql");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Starts a gateway on a port and kills it likewise.
const STORE_GUARD: &str = r#"
    trap '' INT HUP
    start() { "$BIN" --port "$PLACE" --access slipway --secret not-a-secret --quiet posix --sidecar "$HERE/side" "$HERE/data" >>"$HERE/log" 2>&1 & }
    start
    while read -r order; do
        kill -9 $!; wait $! 2>/dev/null
        case $order in restart) start ;; esac
        echo ready
    done
    kill -9 $!
    rm -rf "$HERE"
"#;

/// An S3-compatible store over a folder (versitygw), with a bucket called `registry`.
pub struct Store {
    guard: Child,
    replies: BufReader<std::process::ChildStdout>,
    folder: PathBuf,
    place: String,
}

impl Store {
    /// Starts one; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    pub fn start() -> Option<Store> {
        let program = find("versitygw")?;
        let folder = folder("store");
        for name in ["data", "data/registry", "side"] {
            std::fs::create_dir(folder.join(name)).expect("a folder");
        }
        // another process could take the port in between: none of the house's takes one that it did not ask for
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let place = port.to_string();
        let mut guard = Command::new("sh");
        guard.args(["-c", STORE_GUARD]).env("BIN", program).env("HERE", &folder).env("PLACE", &place);
        let mut guard =
            guard.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().expect("a shell");
        let replies = BufReader::new(guard.stdout.take().expect("it is piped"));
        let store = Store { guard, replies, folder, place };
        store.wait();
        Some(store)
    }

    fn wait(&self) {
        for _ in 0..600 {
            if TcpStream::connect(&self.place).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("versitygw does not answer: see `{}`", self.folder.display());
    }

    /// Kills it and starts it again where that is asked for.
    fn order(&mut self, word: &str) {
        let input = self.guard.stdin.as_mut().expect("it is piped");
        writeln!(input, "{word}").expect("its guard lives");
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("a line");
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        self.order("restart");
        self.wait();
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.order("stop");
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.place)
    }

    /// Where the bytes of its bucket lie.
    pub fn bucket(&self) -> PathBuf {
        self.folder.join("data/registry")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The store that the tests of one process share, each with a prefix of its own; `None` where it is not installed.
pub fn store() -> Option<&'static Store> {
    static STORE: OnceLock<Option<Store>> = OnceLock::new();
    STORE.get_or_init(Store::start).as_ref()
}

/// The key that opens such a store: its name and its secret.
pub const STORE_KEY: (&str, &str) = ("slipway", "not-a-secret");

/// The server that the tests of one process share; `None` where it is not installed.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).as_ref()
}
