//! Servers on loopback: our own registry, and others'.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
