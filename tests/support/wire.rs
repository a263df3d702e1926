//! A wire between a server and what it depends on, which a test cuts, slows down and lets fall silent.

use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Carries everything.
    Whole,
    /// Carries each piece late.
    Slow,
    /// Takes connections and bytes, and carries none: half open.
    Silent,
    /// Resets whatever connects.
    Cut,
}

const MODES: [Mode; 4] = [Mode::Whole, Mode::Slow, Mode::Silent, Mode::Cut];

/// How late a slow wire is.
const LATE: Duration = Duration::from_millis(120);

/// Where a wire leads.
#[derive(Clone)]
pub enum End {
    /// An address.
    Address(String),
    /// A socket in the file system.
    Socket(PathBuf),
}

/// What reads, what writes, and what ends both.
type Ends = (Box<dyn Read + Send>, Box<dyn Write + Send>, Box<dyn Fn() + Send + Sync>);

enum Far {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Far {
    fn connect(end: &End) -> io::Result<Far> {
        match end {
            End::Address(address) => TcpStream::connect(address).map(Far::Tcp),
            End::Socket(path) => UnixStream::connect(path).map(Far::Unix),
        }
    }

    fn both(self) -> io::Result<Ends> {
        Ok(match self {
            Far::Tcp(stream) => {
                let (read, write) = (stream.try_clone()?, stream.try_clone()?);
                (Box::new(read), Box::new(write), Box::new(move || drop(stream.shutdown(Shutdown::Both))))
            }
            Far::Unix(stream) => {
                let (read, write) = (stream.try_clone()?, stream.try_clone()?);
                (Box::new(read), Box::new(write), Box::new(move || drop(stream.shutdown(Shutdown::Both))))
            }
        })
    }
}

#[derive(Default)]
struct State {
    mode: AtomicU8,
    /// Which connections live: those of an older number are reset.
    number: AtomicU64,
    open: Mutex<Vec<Open>>,
}

/// A connection that can be ended from outside.
struct Open {
    near: TcpStream,
    far: Box<dyn Fn() + Send + Sync>,
}

impl State {
    fn mode(&self) -> Mode {
        MODES[usize::from(self.mode.load(Ordering::SeqCst))]
    }
}

/// A wire with an address of its own.
pub struct Wire {
    /// `127.0.0.1:PORT`.
    pub address: String,
    state: Arc<State>,
}

impl Wire {
    /// Lays one.
    pub fn lay(end: End) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state: Arc<State> = Arc::default();
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (state, end) = (Arc::clone(&own), end.clone());
                // one that cannot be led on is closed
                std::thread::spawn(move || carry(&state, near, &end));
            }
        });
        Wire { address, state }
    }

    /// Changes what it does from now on. With `cut`, whatever is connected is reset, with what it still held.
    pub fn set(&self, mode: Mode, cut: bool) {
        let number = MODES.iter().position(|one| *one == mode).unwrap();
        if cut || mode == Mode::Cut {
            self.state.number.fetch_add(1, Ordering::SeqCst);
            for open in self.state.open.lock().unwrap().drain(..) {
                let _ = set_socket_linger(&open.near, Some(Duration::ZERO));
                let _ = open.near.shutdown(Shutdown::Both);
                (open.far)();
            }
        }
        self.state.mode.store(number as u8, Ordering::SeqCst);
    }
}

fn carry(state: &Arc<State>, near: TcpStream, end: &End) -> Option<()> {
    let number = state.number.load(Ordering::SeqCst);
    if state.mode() == Mode::Cut {
        let _ = set_socket_linger(&near, Some(Duration::ZERO));
        return None;
    }
    let (far_read, far_write, end) = Far::connect(end).ok()?.both().ok()?;
    let (near_read, near_write) = (near.try_clone().ok()?, near.try_clone().ok()?);
    state.open.lock().unwrap().push(Open { near: near.try_clone().ok()?, far: end });
    let own = Arc::clone(state);
    let forth = std::thread::spawn(move || pump(&own, number, near_read, far_write));
    pump(state, number, far_read, near_write);
    // whoever hung up has the other side hung up on
    let _ = near.shutdown(Shutdown::Both);
    forth.join().ok()
}

fn pump(state: &State, number: u64, mut from: impl Read, mut to: impl Write) {
    let mut piece = vec![0; 64 << 10];
    let lives = || state.number.load(Ordering::SeqCst) == number;
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if state.mode() == Mode::Slow {
            std::thread::sleep(LATE);
        }
        while lives() && state.mode() == Mode::Silent {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !lives() || to.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}
