//! Servers on loopback: our own registry, and others'.

use slipway_skip::engines::{self, Pair};
use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::{Slipway, wait_until};

/// A loopback address that nobody listens on.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A running server; killed when this goes.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Server {
    /// Starts `command`, which listens on `address`.
    #[track_caller]
    pub fn start(command: &mut Command, address: &str) -> Server {
        lay(command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Server { child, address: address.to_owned() };
        wait_until("the server answers", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended at once: {status}");
            }
            TcpStream::connect(&server.address).is_ok()
        });
        server
    }

    /// `slipway serve` with its storage in the test's folder.
    #[track_caller]
    pub fn slipway(slipway: &Slipway, storage: &Path) -> Server {
        Server::slipway_at(slipway, storage, &free_address())
    }

    #[track_caller]
    pub fn slipway_at(slipway: &Slipway, storage: &Path, address: &str) -> Server {
        let mut command = slipway.command(["serve", "--listen", address, "--storage"]);
        let log = std::fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
        Server::start(command.arg(storage).stderr(log), address)
    }

    /// A name in this registry.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.end(rustix::process::Signal::TERM)
    }

    /// A signal that ends it, and the exit status.
    pub fn end(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        self.terminate_wait()
    }

    /// The exit status of one that was told to end.
    pub fn terminate_wait(&mut self) -> std::process::ExitStatus {
        wait_until("the server stops", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lays a server of ours on the engines of this run (`SLIPWAY_ENGINES`), in the place of the folder of its `--storage`: by the
/// variables of its settings, so that whatever the test itself says of them holds.
fn lay(command: &mut Command) {
    let Pair::Shared(_) = engines::pair() else { return };
    let mut words = command.get_args();
    let is_ours = words.next().is_some_and(|word| word == "serve");
    let words: Vec<&std::ffi::OsStr> = words.collect();
    let after = |flag: &str| Some(*words.get(words.iter().position(|word| *word == flag)? + 1)?);
    let settings = after("--config").and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    // a replica has engines of its own
    let Some(folder) = after("--storage").filter(|_| is_ours && !settings.contains("database")) else {
        return;
    };
    let (server, store) = (engines::postgres().unwrap(), engines::store().unwrap());
    static DATABASES: OnceLock<Mutex<HashMap<PathBuf, String>>> = OnceLock::new();
    let folder = PathBuf::from(folder);
    let mut databases = DATABASES.get_or_init(Mutex::default).lock().unwrap();
    let database = databases.entry(folder).or_insert_with(|| server.database()).clone();
    let prefix = database.split(['/', '?']).nth(3).unwrap();
    let content = format!("s3://registry/{prefix} endpoint={}", store.endpoint());
    command.env("SLIPWAY_DATABASE", &database).env("SLIPWAY_CONTENT", content).envs(keys());
}

/// The key of the tests' object stores, as a server's settings have it.
pub fn keys() -> [(&'static str, &'static str); 2] {
    let (id, secret) = engines::STORE_KEY;
    [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
}

/// An address that leads to another one, and how many connections it has had.
pub fn counted(to: &str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (to, counts) = (to.to_owned(), count.clone());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(&to)) else { return };
            counts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            // whoever hangs up has the other side hung up on
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client, &mut server);
                let _ = server.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut forth);
                let _ = forth.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (address, count)
}

/// An address that leads to another one, so many bytes a second for each connection and way.
pub fn slow(to: &str, bytes_a_second: u64) -> String {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let to = to.to_owned();
    let pump = move |mut from: TcpStream, mut to: TcpStream| {
        let mut piece = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_micros(count as u64 * 1_000_000 / bytes_a_second));
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || pump(client, server));
            std::thread::spawn(move || pump(back, forth));
        }
    });
    address
}
