//! An ssh agent for one step: a socket of the step's own, whose connections lead to the caller's agent.
//!
//! The agent's own socket would not do: its mode and owner are the caller's, the agent itself turns other users away, and a
//! step could have it forget its keys. As BuildKit has it (`session/sshforward/sshprovider`), a step asks which keys there are
//! and for signatures, and every other request fails (draft-ietf-sshm-ssh-agent, "Messages"). What begins as no agent's
//! message is another protocol, which passes as it is: sockets of other services are lent this way too.
//!
//! ```text
//! command ── socket (uid, gid, mode) ── accepted ── frame by frame, or as it is ── the caller's agent
//! ```

use crate::{StepError, limits};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chmodat, chownat, openat},
    io::Errno,
};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// The socket's name in its folder.
const NAME: &str = "agent";

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE` as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// Whose the socket is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// Owner and group; `None` where nobody else is mapped.
    pub(super) owner: Option<(u32, u32)>,
    /// Permission bits.
    pub(super) mode: u32,
}

/// A socket that leads to an agent, until it is dropped.
pub(super) struct Agent {
    socket: PathBuf,
    /// Its end ends the accepting.
    stop: Option<io::PipeWriter>,
    accepting: Option<JoinHandle<()>>,
    open: Arc<Mutex<Vec<Connection>>>,
}

/// A connection that may still be open.
struct Connection {
    streams: [UnixStream; 2],
    thread: JoinHandle<()>,
}

impl Agent {
    /// Makes the socket in `folder`, which must be empty and closed to other users.
    pub(super) fn serve(folder: &Path, upstream: &Path, access: Access) -> Result<Agent, StepError> {
        let socket = folder.join(NAME);
        let listener = listen(folder, access).map_err(StepError::io("make the agent's socket", &socket))?;
        let (stopped, stop) = io::pipe().map_err(StepError::io("serve the agent's socket", &socket))?;
        let (open, upstream) = (Arc::default(), upstream.to_owned());
        let connections = Arc::clone(&open);
        let accept = move || accept(&listener, &stopped, &upstream, &connections);
        let thread = thread::Builder::new().name("ssh agent".to_owned()).spawn(accept);
        let thread = thread.map_err(StepError::io("serve the agent's socket", &socket))?;
        Ok(Agent { socket, stop: Some(stop), accepting: Some(thread), open })
    }

    /// Where the socket is.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        // a panic of it has been told already
        let _ = self.accepting.take().map(JoinHandle::join);
        for connection in held(&self.open).drain(..) {
            // one whose other side has gone is what is wanted
            let _ = connection.streams.map(|stream| stream.shutdown(Shutdown::Both));
            let _ = connection.thread.join();
        }
    }
}

fn held(open: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Through the folder's descriptor: a store may lie deeper than an address is long (unix(7), 108 bytes).
fn listen(folder: &Path, access: Access) -> io::Result<UnixListener> {
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    if let Some((uid, gid)) = access.owner {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&folder, NAME, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // the mode that is meant, whatever the umask
    chmodat(&folder, NAME, Mode::from_raw_mode(access.mode & 0o777), AtFlags::empty())?;
    Ok(listener)
}

fn accept(listener: &UnixListener, stopped: &io::PipeReader, upstream: &Path, open: &Mutex<Vec<Connection>>) {
    loop {
        let mut events = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut events, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !events[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        // gone again, or no descriptor left: whoever waits is refused or asks again
        let Ok((client, _)) = listener.accept() else { continue };
        held(open).retain(|connection| !connection.thread.is_finished());
        if held(open).len() < limits::AGENT_CONNECTIONS {
            // without an agent the connection ends, which ssh calls a failure of communication
            held(open).extend(connect(client, upstream));
        }
    }
}

fn connect(client: UnixStream, upstream: &Path) -> io::Result<Connection> {
    client.set_nonblocking(false)?;
    let agent = UnixStream::connect(upstream)?;
    let streams = [client.try_clone()?, agent.try_clone()?];
    let work = move || {
        // either side has gone: both have, with it
        let _ = converse(&client, &agent);
        let _ = [client, agent].map(|stream| stream.shutdown(Shutdown::Both));
    };
    let thread = thread::Builder::new().name("ssh agent".to_owned()).spawn(work)?;
    Ok(Connection { streams, thread })
}

/// Passes requests and their answers until either side ends. No agent takes a message of 16 MiB, which is what a text would
/// begin as.
fn converse(mut client: &UnixStream, mut agent: &UnixStream) -> io::Result<()> {
    let mut is_first = true;
    loop {
        if is_first && speaks_first(client, agent)? {
            return pass(client, agent);
        }
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let bytes = u32::from_be_bytes(length);
        if is_first && length[0] != 0 {
            agent.write_all(&length)?;
            return pass(client, agent);
        }
        is_first = false;
        let request = message(client, bytes)?;
        if !request.first().is_some_and(|kind| ALLOWED.contains(kind)) {
            client.write_all(&FAILURE)?;
            continue;
        }
        agent.write_all(&[&length[..], &request].concat())?;
        agent.read_exact(&mut length)?;
        let answer = message(agent, u32::from_be_bytes(length))?;
        client.write_all(&[&length[..], &answer].concat())?;
    }
}

/// The rest of a message.
fn message(mut stream: &UnixStream, bytes: u32) -> io::Result<Vec<u8>> {
    if bytes > limits::AGENT_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; bytes as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Whether the service speaks before it is asked, which no agent does.
fn speaks_first(client: &UnixStream, agent: &UnixStream) -> io::Result<bool> {
    let mut events = [PollFd::new(client, PollFlags::IN), PollFd::new(agent, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut events, None))?;
    Ok(events[0].revents().is_empty())
}

/// Both directions as they are.
fn pass(client: &UnixStream, agent: &UnixStream) -> io::Result<()> {
    let copy = |mut from: &UnixStream, mut to: &UnixStream| {
        let copied = io::copy(&mut from, &mut to);
        // its end is passed on; the other direction may go on
        let _ = to.shutdown(Shutdown::Write);
        copied.map(drop)
    };
    thread::scope(|scope| {
        let back = scope.spawn(|| copy(agent, client));
        let there = copy(client, agent);
        back.join().unwrap_or(Ok(())).and(there)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    /// A service that answers each connection by a function.
    fn service(folder: &Path, answer: fn(UnixStream) -> io::Result<()>) -> PathBuf {
        let path = folder.join("upstream");
        let listener = UnixListener::bind(&path).expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream));
            }
        });
        path
    }

    /// An agent that answers with the request, as far as the tests tell it apart from a refusal.
    fn echo(mut stream: UnixStream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let request = message(&stream, u32::from_be_bytes(length))?;
            stream.write_all(&[&length[..], &request].concat())?;
        }
    }

    fn serve(answer: fn(UnixStream) -> io::Result<()>) -> (tempfile::TempDir, Agent) {
        let folder = tempfile::tempdir().expect("folder");
        let upstream = service(folder.path(), answer);
        let agent =
            Agent::serve(folder.path(), &upstream, Access { owner: None, mode: 0o640 }).expect("served");
        (folder, agent)
    }

    fn framed(kind: u8, rest: &[u8]) -> Vec<u8> {
        [&(1 + rest.len() as u32).to_be_bytes()[..], &[kind], rest].concat()
    }

    #[test]
    fn keys_and_signatures_are_asked_for_and_nothing_else() {
        let (_folder, agent) = serve(echo);
        assert_eq!(fs::metadata(agent.socket()).expect("socket").permissions().mode() & 0o777, 0o640);
        let mut client = UnixStream::connect(agent.socket()).expect("connected");
        let long = vec![7; 200_000];
        let ask = |client: &mut UnixStream, request: &[u8]| {
            client.write_all(request).expect("asked");
            let mut length = [0; 4];
            client.read_exact(&mut length).expect("answered");
            [&length[..], &message(client, u32::from_be_bytes(length)).expect("answered")].concat()
        };
        // list, sign; add, remove, remove all, add and remove by a card, lock, unlock, add with bounds, extension
        for kind in 0..=255 {
            for rest in [&b""[..], b"key", &long] {
                let request = framed(kind, rest);
                let expected = if matches!(kind, 11 | 13) { request.clone() } else { FAILURE.to_vec() };
                assert_eq!(ask(&mut client, &request), expected, "{kind}");
            }
        }
        // several at once, in their order
        let all = [framed(11, b"a"), framed(19, b""), framed(13, b"b")];
        client.write_all(&all.concat()).expect("asked");
        let expected = [framed(11, b"a"), FAILURE.to_vec(), framed(13, b"b")].concat();
        let mut seen = vec![0; expected.len()];
        client.read_exact(&mut seen).expect("answered");
        assert_eq!(seen, expected);
        // one that is too long ends the connection, as an empty one is refused
        assert_eq!(ask(&mut client, &[0, 0, 0, 0]), FAILURE);
        client.write_all(&u32::MAX.to_be_bytes()).expect("asked");
        assert_eq!(client.read(&mut [0]).expect("ended"), 0);
        // nor does one open the way for what follows
        for first in [&[0, 0, 0, 0][..], &[0, 0x10, 0, 0]] {
            let mut client = UnixStream::connect(agent.socket()).expect("connected");
            client.write_all(&[first, &framed(19, b"")].concat()).expect("asked");
            let mut seen = Vec::new();
            client.shutdown(Shutdown::Write).expect("ended");
            let _ = client.read_to_end(&mut seen);
            assert!(seen.chunks(5).all(|answer| answer == FAILURE), "{seen:?}");
        }
    }

    #[test]
    fn other_protocols_pass_as_they_are() {
        // it is asked in words, and ends when the caller does
        let (_folder, agent) = serve(|mut stream| {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            stream.write_all(text.to_uppercase().as_bytes())
        });
        for text in ["GET / HTTP/1.1\r\n\r\n", "hello"] {
            let mut client = UnixStream::connect(agent.socket()).expect("connected");
            client.write_all(text.as_bytes()).expect("said");
            client.shutdown(Shutdown::Write).expect("ended");
            assert_eq!(io::read_to_string(client).expect("answer"), text.to_uppercase());
        }
        // it speaks first
        let (_folder, agent) = serve(|mut stream| {
            stream.write_all(b"220 ready\r\n")?;
            let mut word = [0; 4];
            stream.read_exact(&mut word)?;
            stream.write_all(&word)
        });
        let mut client = UnixStream::connect(agent.socket()).expect("connected");
        let mut greeting = [0; 11];
        client.read_exact(&mut greeting).expect("greeting");
        client.write_all(b"QUIT").expect("said");
        assert_eq!(io::read_to_string(client).expect("answer"), "QUIT");
    }

    #[test]
    fn dropping_ends_what_is_open() {
        let (_folder, agent) = serve(echo);
        let mut clients: Vec<_> = (0..limits::AGENT_CONNECTIONS + 8)
            .map(|_| UnixStream::connect(agent.socket()).expect("connected"))
            .collect();
        // beyond the cap they end at once; of the others each waits for a request
        for client in &mut clients[limits::AGENT_CONNECTIONS..] {
            assert_eq!(client.read(&mut [0]).expect("ended"), 0);
        }
        let socket = agent.socket().to_owned();
        drop(agent);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).expect("ended"), 0);
        }
        assert!(UnixStream::connect(&socket).is_err());
        // an agent that has gone ends a connection
        let folder = tempfile::tempdir().expect("folder");
        let access = Access { owner: None, mode: 0o600 };
        let agent = Agent::serve(folder.path(), &folder.path().join("missing"), access).expect("served");
        let mut client = UnixStream::connect(agent.socket()).expect("connected");
        assert_eq!(client.read(&mut [0]).expect("ended"), 0);
    }
}
