//! Bytes of files that go from the kernel's cache to a socket without being copied here (sendfile(2)).
//!
//! hyper knows bodies of bytes alone. So a body that has a range of a file to send gives [`Outbox::put`] the range and hyper a
//! *stand-in*: as many bytes of [`STAND_IN`], which nobody reads. hyper hands what it has to write to the connection's stream
//! without a copy (`writev`), headers and stand-ins alike, and [`Direct`] knows a stand-in by where it lies in memory and sends
//! the range in its place, at the pace at which the socket takes it.
//!
//! The socket refers to the cache's pages until the peer has them: whoever changes a file in its place changes what is on its
//! way. Contents are never changed in place here, only removed by name.
//!
//! This holds for HTTP/1 over a bare socket: TLS and HTTP/2 read what they send. A connection that is one of them has no
//! outbox, or its requests do not see it ([`super::connection::Connection::outbox`]).

use super::storage::Reader;
use crate::limits;
use axum::body::Bytes;
use rustix::fs::sendfile;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};

/// What stands for bytes of files. It is never read, so that the kernel gives it no memory.
static STAND_IN: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; limits::PIECE_BYTES].into());

/// Whether memory is a part of [`STAND_IN`].
fn stands_in(slice: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}

/// A file that a reply keeps open, with its part of the descriptors.
pub(super) struct OpenFile {
    pub(super) reader: Arc<dyn Reader>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// A range of a file that a stand-in stands for.
struct Range {
    file: Arc<OpenFile>,
    offset: u64,
    left: usize,
}

/// What the stand-ins of one connection stand for, in their order.
#[derive(Default)]
pub(super) struct Outbox(Mutex<VecDeque<Range>>);

impl Outbox {
    fn ranges(&self) -> MutexGuard<'_, VecDeque<Range>> {
        self.0.lock().expect("no panic happens while the ranges are held")
    }

    /// What stands for the next bytes of a file that are in the kernel's cache, at most `most` of them; `None` where the disk
    /// would have to be waited for, or there is no file. It has to be the next that is sent on this connection.
    pub(super) fn put(&self, file: &Arc<OpenFile>, offset: u64, most: u64) -> Option<Bytes> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(STAND_IN.len());
        if most == 0 || !file.reader.is_at_hand(offset, most) {
            return None;
        }
        self.ranges().push_back(Range { file: Arc::clone(file), offset, left: most });
        let stand_in: &'static [u8] = &STAND_IN;
        Some(Bytes::from_static(&stand_in[..most]))
    }

    /// Sends of the first range what the socket takes, at most `most` bytes.
    fn poll_send(
        &self,
        socket: &impl Port,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut ranges = self.ranges();
        let lost = || io::Error::other("nothing is there to be sent");
        let range = ranges.front_mut().ok_or_else(lost)?;
        let file = range.file.reader.as_file().ok_or_else(lost)?;
        loop {
            ready!(socket.poll_takes(context))?;
            let mut offset = range.offset;
            let sent = socket.sent(|| Ok(sendfile(socket, file, Some(&mut offset), most.min(range.left))?));
            match sent {
                // a file that became shorter breaks the reply off: never a wrong answer that looks complete
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    range.offset += count as u64;
                    range.left -= count;
                    if range.left == 0 {
                        ranges.pop_front();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// A socket that tells when it takes more.
pub(super) trait Port: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static {
    /// Whether it takes something.
    fn poll_takes(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes to it by other means; where those would block, it is waited for the next time.
    fn sent(&self, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

impl Port for TcpStream {
    fn poll_takes(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn sent(&self, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, send)
    }
}

impl Port for UnixStream {
    fn poll_takes(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn sent(&self, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, send)
    }
}

/// A bare socket that sends ranges of files where their stand-ins come.
pub(super) struct Direct<S> {
    socket: S,
    outbox: Arc<Outbox>,
}

impl<S: Port> Direct<S> {
    pub(super) fn new(socket: S, outbox: Arc<Outbox>) -> Direct<S> {
        Direct { socket, outbox }
    }
}

impl<S: Port> AsyncRead for Direct<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Port> AsyncWrite for Direct<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let begin = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(0);
        let slices = &slices[begin..];
        match slices.iter().position(|slice| stands_in(slice)) {
            Some(0) => self.outbox.poll_send(&self.socket, slices[0].len(), context),
            next => {
                let plain = &slices[..next.unwrap_or(slices.len())];
                Pin::new(&mut self.socket).poll_write_vectored(context, plain)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        // else hyper would copy what it sends into one piece
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Read, os::unix::fs::FileExt};
    use tokio::{io::AsyncWriteExt, sync::Semaphore};

    /// A file of which `at_hand` is in the cache.
    struct Stored {
        file: File,
        at_hand: std::ops::Range<u64>,
    }

    impl Reader for Stored {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.file.read_exact_at(buffer, offset)
        }

        fn as_file(&self) -> Option<&File> {
            Some(&self.file)
        }

        fn is_at_hand(&self, offset: u64, length: usize) -> bool {
            self.at_hand.contains(&offset) && offset + length as u64 <= self.at_hand.end
        }
    }

    fn stored(bytes: &[u8], at_hand: std::ops::Range<u64>) -> Arc<OpenFile> {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("bytes");
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
        Arc::new(OpenFile { reader: Arc::new(Stored { file, at_hand }), _permit: permit })
    }

    /// Writes the pieces at once, as hyper does, until all of them are gone.
    async fn write_all(stream: &mut Direct<UnixStream>, pieces: &[&[u8]]) -> io::Result<()> {
        let mut left: Vec<&[u8]> = pieces.to_vec();
        while left.iter().any(|piece| !piece.is_empty()) {
            let slices: Vec<IoSlice<'_>> = left.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut gone = stream.write_vectored(&slices).await?;
            assert_ne!(gone, 0);
            for piece in &mut left {
                let part = gone.min(piece.len());
                *piece = &piece[part..];
                gone -= part;
            }
        }
        Ok(())
    }

    fn pair() -> (UnixStream, std::thread::JoinHandle<Vec<u8>>) {
        let (own, mut other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        own.set_nonblocking(true).expect("nonblocking");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            other.read_to_end(&mut all).expect("bytes");
            all
        });
        (UnixStream::from_std(own).expect("a socket"), reader)
    }

    #[tokio::test]
    async fn ranges_come_where_their_stand_ins_are() {
        let bytes: Vec<u8> = (0..1_500_000_u32).map(|at| (at % 251) as u8).collect();
        let length = bytes.len() as u64;
        let file = stored(&bytes, 0..length);
        let (socket, reader) = pair();
        let outbox = Arc::new(Outbox::default());
        let mut stream = Direct::new(socket, Arc::clone(&outbox));
        let first = outbox.put(&file, 3, length).expect("a piece");
        assert_eq!(first.len(), limits::PIECE_BYTES, "no more than a piece");
        let second = outbox.put(&file, 0, 10).expect("a piece");
        let (empty, other) = (Bytes::new(), vec![0_u8; 300]);
        write_all(&mut stream, &[b"head", &empty, &first, &second, b"between", &other]).await.expect("sent");
        let last = outbox.put(&file, length - 5, 100).map(|piece| piece.len());
        assert_eq!(last, None, "beyond the end is not at hand");
        let last = outbox.put(&file, length - 5, 5).expect("a piece");
        write_all(&mut stream, &[&empty, &last, b"tail"]).await.expect("sent");
        drop(stream);
        let got = reader.join().expect("all");
        let expected = [
            b"head",
            &bytes[3..3 + limits::PIECE_BYTES],
            &bytes[..10],
            b"between",
            &other,
            &bytes[bytes.len() - 5..],
            b"tail",
        ]
        .concat();
        assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
        assert!(outbox.ranges().is_empty());
    }

    #[tokio::test]
    async fn nothing_else_is_ever_sent_in_its_place() {
        let (socket, reader) = pair();
        let outbox = Arc::new(Outbox::default());
        let mut stream = Direct::new(socket, Arc::clone(&outbox));
        // what is not in the cache, or no file at all
        let file = stored(b"0123456789", 0..5);
        assert!(outbox.put(&file, 5, 5).is_none() && outbox.put(&file, 0, 0).is_none());
        // a file that became shorter
        let stand_in = outbox.put(&file, 2, 3).expect("a piece");
        rustix::fs::ftruncate(file.reader.as_file().expect("a file"), 3).expect("shorter");
        let error = write_all(&mut stream, &[&stand_in]).await.expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        // a stand-in that nothing was put for
        let forged = Outbox::default().put(&stored(b"abc", 0..3), 0, 3).expect("a piece");
        outbox.ranges().clear();
        write_all(&mut stream, &[&forged]).await.expect_err("nothing is there");
        drop(stream);
        assert_eq!(reader.join().expect("all"), b"2", "what was there");
    }
}
