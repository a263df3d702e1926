//! Object stores: versitygw over a folder, and three nodes of Garage.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Guard, Pair, folder, pair};
use crate::find;

/// Starts the nodes and kills them likewise.
const GUARD: &str = r#"
    trap '' INT HUP
    start() {
        case $KIND in
            versitygw) "$BIN" --port "$PLACE" --access "$ID" --secret "$SECRET" --quiet posix --sidecar "$HERE/side" "$HERE/data" >>"$HERE/log" 2>&1 & ;;
            garage) RUST_LOG=garage=warn "$BIN" -c "$HERE/$1.toml" server >>"$HERE/log-$1" 2>&1 & ;;
        esac
        eval "pid$1=$!"
    }
    end() { eval "kill -9 \$pid$1; wait \$pid$1" 2>/dev/null; }
    for node in $NODES; do start $node; done
    while read -r order node; do
        for one in ${node:-$NODES}; do
            end $one
            case $order in restart) start $one ;; esac
        done
        echo ready
    done
    for node in $NODES; do end $node; done
    rm -rf "$HERE"
"#;

/// Which store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One gateway over a folder.
    Versitygw,
    /// Three nodes, each of which has everything.
    Garage,
}

impl Kind {
    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Kind::Versitygw => "versitygw",
            Kind::Garage => "garage",
        }
    }
}

/// An S3-compatible store with a bucket called `registry`.
pub struct Store {
    kind: Kind,
    guard: Guard,
    folder: PathBuf,
    /// Where each node speaks S3.
    places: Vec<String>,
}

/// Another process could take it in between: none of the house's takes one that it did not ask for.
fn free_place() -> String {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    port.to_string()
}

impl Store {
    /// Starts the one of this run's pair, or versitygw; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    pub fn start() -> Option<Store> {
        Store::start_kind(match pair() {
            Pair::Shared(kind) => kind,
            Pair::Folder | Pair::FolderAndPostgres => Kind::Versitygw,
        })
    }

    /// Starts one of a kind.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    pub fn start_kind(kind: Kind) -> Option<Store> {
        let program = find(kind.program())?;
        let folder = folder("store");
        let nodes = if kind == Kind::Garage { 3 } else { 1 };
        let places: Vec<String> = (0..nodes).map(|_| free_place()).collect();
        match kind {
            Kind::Versitygw => {
                for name in ["data", "data/registry", "side"] {
                    std::fs::create_dir(folder.join(name)).expect("a folder");
                }
            }
            Kind::Garage => configure(&folder, &places),
        }
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).env("BIN", &program).env("HERE", &folder).env("PLACE", &places[0]);
        guard.env("ID", STORE_KEY.0).env("SECRET", STORE_KEY.1).env("KIND", kind.program());
        guard.env("NODES", ["0", "0 1 2"][usize::from(nodes > 1)]);
        let store = Store { kind, guard: Guard::start(&mut guard), folder, places };
        store.wait();
        if kind == Kind::Garage {
            found(&program, &store.folder);
        }
        Some(store)
    }

    fn wait(&self) {
        for place in &self.places {
            let answers = (0..600).any(|_| {
                let answers = TcpStream::connect(place).is_ok();
                if !answers {
                    std::thread::sleep(Duration::from_millis(50));
                }
                answers
            });
            assert!(answers, "{} does not answer: see `{}`", self.kind.program(), self.folder.display());
        }
    }

    /// Lets nodes that have begun know each other again, which by themselves they do after a minute.
    fn gather(&self) {
        if self.kind == Kind::Garage {
            let program = find(self.kind.program()).expect("it was started");
            connect(&program, &self.folder);
            for node in 0..self.places.len() {
                tell(&program, &self.folder, node, &["bucket", "info", "registry"]);
            }
        }
    }

    /// Kills all of it and starts it again.
    pub fn restart(&mut self) {
        self.guard.order("restart");
        self.wait();
        self.gather();
    }

    /// Kills all of it.
    pub fn stop(&mut self) {
        self.guard.order("stop");
    }

    /// Kills one node.
    pub fn stop_node(&mut self, node: usize) {
        self.guard.order(&format!("stop {}", node % self.places.len()));
    }

    /// Kills one node, if it is there, and starts it again.
    pub fn restart_node(&mut self, node: usize) {
        self.guard.order(&format!("restart {}", node % self.places.len()));
        self.wait();
        self.gather();
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        self.endpoint_of(0)
    }

    /// The address of one of its nodes; there are as many as are asked for, some of them the same.
    pub fn endpoint_of(&self, node: usize) -> String {
        format!("http://{}", self.places[node % self.places.len()])
    }

    /// Where the bytes of its bucket lie, if they lie in files of the same names.
    pub fn bucket(&self) -> Option<PathBuf> {
        (self.kind == Kind::Versitygw).then(|| self.folder.join("data/registry"))
    }
}

/// Writes the configuration of each node.
fn configure(folder: &Path, places: &[String]) {
    for (node, place) in places.iter().enumerate() {
        let here = folder.join(node.to_string());
        let rpc = free_place();
        let mut text = String::new();
        let secret = "5a".repeat(32);
        writeln!(text, "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"", here.display()).expect("text");
        writeln!(
            text,
            "db_engine = \"lmdb\"\nreplication_factor = {}\ncompression_level = \"none\"",
            places.len()
        )
        .expect("text");
        writeln!(text, "rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{secret}\"")
            .expect("text");
        writeln!(text, "[s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"{place}\"").expect("text");
        std::fs::write(folder.join(format!("{node}.toml")), text).expect("a configuration");
    }
}

/// What a node answers to an order, which one that has just begun does not take yet.
fn tell(program: &Path, folder: &Path, node: usize, words: &[&str]) -> String {
    let mut last = String::new();
    for _ in 0..100 {
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join(format!("{node}.toml"))).args(words).env("RUST_LOG", "error");
        let output = command.output().expect("garage");
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("garage {}: {last}", words.join(" "))
}

/// Lets each node know the others; their names.
fn connect(program: &Path, folder: &Path) -> Vec<String> {
    let tell = |node: usize, words: &[&str]| tell(program, folder, node, words);
    let names: Vec<String> = (0..3).map(|node| tell(node, &["node", "id", "-q"])).collect();
    for node in 0..names.len() {
        for name in names.iter().skip(node + 1) {
            tell(node, &["node", "connect", name]);
        }
    }
    names
}

/// Makes the nodes one cluster with a key and a bucket.
fn found(program: &Path, folder: &Path) {
    let tell = |node: usize, words: &[&str]| tell(program, folder, node, words);
    let names = connect(program, folder);
    for name in &names {
        let id = name.split('@').next().expect("an id");
        tell(0, &["layout", "assign", "-z", "here", "-c", "10G", id]);
    }
    tell(0, &["layout", "apply", "--version", "1"]);
    tell(0, &["key", "import", "--yes", "-n", "slipway", STORE_KEY.0, STORE_KEY.1]);
    tell(0, &["bucket", "create", "registry"]);
    tell(0, &["bucket", "allow", "--read", "--write", "--owner", "registry", "--key", STORE_KEY.0]);
}

/// The store that the tests of one process share, each with a prefix of its own; `None` where it is not installed.
pub fn store() -> Option<&'static Store> {
    static STORE: OnceLock<Option<Store>> = OnceLock::new();
    STORE.get_or_init(Store::start).as_ref()
}

/// The key that opens such a store: its name and its secret, in the only form that Garage takes.
pub const STORE_KEY: (&str, &str) =
    ("GK736c697077617900736c6970", "6e6f742d612d7365637265742d6e6f742d612d7365637265742d6e6f742d612d");
