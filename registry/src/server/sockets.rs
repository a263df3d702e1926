//! The sockets that a server listens on: addresses, names of this machine, files, and what a service manager hands over.

use rustix::{
    fs::{FlockOperation, Mode},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};
use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::{TcpListener, UnixListener};

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Listen {
    /// One address; port 0 takes a free one.
    Address(SocketAddr),
    /// A port of every loopback address that this machine has.
    Localhost(u16),
    /// A port of every address, of both families where this machine has both.
    Everywhere(u16),
    /// A socket in the file system, for its owner alone. One that nobody listens on any more is replaced.
    File(PathBuf),
    /// A socket that listens already, as systemd passes it (`sd_listen_fds(3)`).
    Passed(Arc<OwnedFd>),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// An address that is spoken to over TLS.
    Secure(SocketAddr),
    /// A socket in the file system; one that was passed may have no name.
    File(PathBuf),
}

/// Connections per socket that wait to be accepted; std's number.
const BACKLOG: i32 = 128;

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    /// The file is held for its end.
    Unix {
        listener: UnixListener,
        _file: Option<OwnFile>,
    },
}

/// The file of a socket, which goes away with it.
#[derive(Debug)]
pub(super) struct OwnFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        // another server may have taken the place since; and what cannot be removed is replaced the next time
        if found.is_ok_and(|found| found == self.device_and_inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Socket {
    pub(super) fn place(&self) -> io::Result<Place> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().map(Place::Address),
            Socket::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                Ok(Place::File(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
            }
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Address(address) => write!(formatter, "{address}"),
            Listen::Localhost(port) => write!(formatter, "localhost:{port}"),
            Listen::Everywhere(port) => write!(formatter, ":{port}"),
            Listen::File(path) => write!(formatter, "unix:{}", path.display()),
            Listen::Passed(_) => formatter.write_str("a socket that was passed"),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Address(address) => write!(formatter, "http://{address}"),
            Place::Secure(address) => write!(formatter, "https://{address}"),
            Place::File(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Takes the sockets of one place. Needs tokio's reactor.
pub(super) async fn open(listen: &Listen) -> io::Result<Vec<Socket>> {
    let one = async |address: SocketAddr| TcpListener::bind(address).await;
    match listen {
        Listen::Address(address) => Ok(vec![Socket::Tcp(one(*address).await?)]),
        Listen::Localhost(port) => {
            let first = one(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await?;
            // the same port of the other family; where that one is taken from a free choice, the first is enough
            let same = first.local_addr()?.port();
            let mut all = vec![Socket::Tcp(first)];
            match one(SocketAddr::from((Ipv6Addr::LOCALHOST, same))).await {
                Ok(second) => all.push(Socket::Tcp(second)),
                Err(error) if *port != 0 && error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                // a machine without IPv6
                Err(_) => {}
            }
            Ok(all)
        }
        Listen::Everywhere(port) => {
            // an IPv6 socket takes IPv4 too (ipv6(7), IPV6_V6ONLY)
            let both = one(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))).await;
            match both {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    Ok(vec![Socket::Tcp(one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))).await?)])
                }
                both => Ok(vec![Socket::Tcp(both?)]),
            }
        }
        Listen::File(path) => file(path).map(|socket| vec![socket]),
        Listen::Passed(socket) => passed(socket).map(|socket| vec![socket]),
    }
}

/// A socket in the file system. It is its owner's alone before it listens: nobody gets in between.
fn file(path: &Path) -> io::Result<Socket> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(parent)?;
    // two servers that find the same stale socket: one replaces it, the other then sees that somebody listens
    rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
    clear(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let made = fs::symlink_metadata(path)?;
    let own = OwnFile { path: path.to_owned(), device_and_inode: (made.dev(), made.ino()) };
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
    Ok(Socket::Unix { listener, _file: Some(own) })
}

/// Removes a socket that nobody listens on; nothing else is ever removed.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else than a socket is there",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn passed(socket: &OwnedFd) -> io::Result<Socket> {
    let wrong = |words: &'static str| io::Error::new(io::ErrorKind::InvalidInput, words);
    if sockopt::socket_type(socket)? != SocketType::STREAM || !sockopt::socket_acceptconn(socket)? {
        return Err(wrong("it is no stream socket that listens"));
    }
    let family = sockopt::socket_domain(socket)?;
    let own = socket.try_clone()?;
    rustix::io::ioctl_fionbio(&own, true)?;
    match family {
        AddressFamily::INET | AddressFamily::INET6 => {
            Ok(Socket::Tcp(TcpListener::from_std(std::net::TcpListener::from(own))?))
        }
        AddressFamily::UNIX => {
            let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(own))?;
            Ok(Socket::Unix { listener, _file: None })
        }
        _ => Err(wrong("it is neither of TCP nor of the file system")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn within<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
    }

    #[test]
    fn a_socket_s_file_is_replaced_only_when_nobody_listens() {
        within(async {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("s");
            let listen = Listen::File(path.clone());
            let first = open(&listen).await.expect("the first");
            let mode = fs::metadata(&path).expect("socket").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let error = open(&listen).await.expect_err("somebody listens");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            drop(first);
            assert!(!path.exists(), "its file goes with it");
            // killed: the file stays, and nobody listens
            drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
            assert!(path.exists());
            let second = open(&listen).await.expect("a stale one is replaced");
            // another took the place: that one's file is not the first's to remove
            fs::remove_file(&path).expect("remove");
            let other = std::os::unix::net::UnixListener::bind(&path).expect("bind");
            drop(second);
            assert!(path.exists());
            drop(other);
            fs::remove_file(&path).expect("remove");
            for (name, make) in [("file", true), ("folder", false)] {
                let path = folder.path().join(name);
                if make { fs::write(&path, "x") } else { fs::create_dir(&path) }.expect("made");
                assert!(open(&Listen::File(path.clone())).await.is_err(), "{name}");
                assert!(path.exists(), "{name} is left alone");
            }
        });
    }

    #[test]
    fn localhost_is_every_address_that_it_has() {
        within(async {
            let all = open(&Listen::Localhost(0)).await.expect("open");
            let places: Vec<Place> = all.iter().map(|socket| socket.place().expect("place")).collect();
            let Place::Address(first) = places[0] else { panic!("{places:?}") };
            assert!(first.ip().is_loopback() && first.is_ipv4());
            for place in &places[1..] {
                assert_eq!(*place, Place::Address(SocketAddr::from((Ipv6Addr::LOCALHOST, first.port()))));
            }
            assert!(open(&Listen::Localhost(first.port())).await.is_err(), "it is taken");
            let every = open(&Listen::Everywhere(0)).await.expect("open");
            let Place::Address(every) = every[0].place().expect("place") else { panic!("no address") };
            assert!(every.ip().is_unspecified());
        });
    }

    #[test]
    fn what_is_passed_must_listen() {
        within(async {
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            let at = tcp.local_addr().expect("address");
            let socket = open(&Listen::Passed(Arc::new(tcp.into()))).await.expect("taken");
            assert_eq!(socket[0].place().expect("place"), Place::Address(at));
            let (pair, _other) = UnixStream::pair().expect("pair");
            assert!(open(&Listen::Passed(Arc::new(pair.into()))).await.is_err());
            let file = fs::File::open("/dev/null").expect("open");
            assert!(open(&Listen::Passed(Arc::new(file.into()))).await.is_err());
        });
    }
}
