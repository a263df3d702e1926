//! Where `serve` listens (issue 14, point 4): several places, sockets in the file system, and those that are passed.

use crate::support::server::{Server, free_address};
use crate::support::{Slipway, binary, wait_until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// What a registry answers to `GET /v2/`.
fn asks(mut stream: impl Read + Write) -> bool {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}

#[test]
fn several_places_at_once_and_all_of_them_end() {
    let slipway = Slipway::empty();
    let (socket, storage) = (slipway.path("s"), slipway.path("storage"));
    // left by a server that was killed
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (first, second) = (free_address(), free_address());
    let place = format!("unix:{}", socket.display());
    let port = second.rsplit_once(':').unwrap().1;
    let local = format!("localhost:{port}");
    let words = ["serve", "--listen", &first, "--listen", &place, "--listen", &local, "--storage"];
    let mut server = Server::start(slipway.command(words).arg(&storage).stderr(Stdio::null()), &second);
    assert!(asks(TcpStream::connect(&first).unwrap()) && asks(TcpStream::connect(&second).unwrap()));
    assert!(asks(UnixStream::connect(&socket).unwrap()));
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(asks(TcpStream::connect(format!("[::1]:{port}")).unwrap()));
    }
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // a second server is told
    let other = slipway.path("other");
    let words = ["serve", "--listen", &place, "--storage", other.to_str().unwrap()];
    let message = slipway.fails(1, words);
    assert!(message.contains(&place) && message.contains("another server listens there"), "{message}");
    assert!(server.end(Signal::TERM).success());
    assert!(!socket.exists(), "the socket's file goes with the server");
    assert!(TcpStream::connect(&first).is_err() && TcpStream::connect(&second).is_err());
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let slipway = Slipway::empty();
    let (socket, storage) = (slipway.path("s"), slipway.path("storage"));
    let address = free_address();
    let place = format!("unix:{}", socket.display());
    let words = ["serve", "--listen", &address, "--listen", &place, "--storage"];
    let mut server = Server::start(slipway.command(words).arg(&storage).stderr(Stdio::null()), &address);
    // the addresses are opened one after the other
    wait_until("the socket is listened on", || UnixStream::connect(&socket).is_ok());
    let mut stream = UnixStream::connect(&socket).unwrap();
    // half of an upload's body, then the signal, then the other half
    stream
        .write_all(b"POST /v2/a/blobs/uploads/?digest=sha256:9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0 \
                     HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\na")
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    wait_until("nothing new is taken", || TcpStream::connect(&address).is_err());
    stream.write_all(b"aa").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(server.terminate_wait().success());
}

#[test]
fn sockets_that_are_passed_are_served() {
    slipway_skip::need!("python3");
    let slipway = Slipway::empty();
    let address = free_address();
    // as systemd does: a listening socket at descriptor 3, and whose it is
    let script = "import os, socket, sys\n\
                  host, port = sys.argv[1].split(':')\n\
                  s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
                  s.bind((host, int(port))); s.listen(5)\n\
                  fd = os.dup(s.fileno()) if s.fileno() == 3 else s.fileno()\n\
                  os.dup2(fd, 3); os.set_inheritable(3, True)\n\
                  os.environ['LISTEN_FDS'] = '1'; os.environ['LISTEN_PID'] = str(os.getpid())\n\
                  os.execv(sys.argv[2], sys.argv[2:])\n";
    let mut command = Command::new("python3");
    command
        .args(["-c", script, &address])
        .arg(binary())
        .args(["serve", "--storage"])
        .arg(slipway.path("storage"));
    command.env("SLIPWAY_ROOT", &slipway.root).env_remove("SLIPWAY_LISTEN").stderr(Stdio::null());
    let mut server = Server::start(&mut command, &address);
    assert!(asks(TcpStream::connect(&address).unwrap()));
    assert!(server.end(Signal::TERM).success());
    // meant for another process: not taken
    let mut command = slipway.command(["serve", "--listen", &address, "--storage"]);
    command.arg(slipway.path("storage")).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").stderr(Stdio::null());
    let mut server = Server::start(&mut command, &address);
    assert!(asks(TcpStream::connect(&address).unwrap()));
    assert!(server.end(Signal::INT).success());
}
