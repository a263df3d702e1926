//! Layer compression: parallel, and the same bytes whatever the number of threads.
//!
//! The uncompressed stream is cut into pieces of [`PIECE_BYTES`]; each becomes a zstd frame or gzip member of its own,
//! and the pieces are joined in order. RFC 8878 §3.1 and RFC 1952 §2.2 both say that such a row is one stream, and
//! Go's, libarchive's and containerd's readers take it so. Piece size and levels are part of what digests depend on:
//! changing them changes every image, so they are pinned here and nowhere else.

use crate::{spec::media_type, unpacking};
use std::{
    collections::VecDeque,
    io::{self, BufRead, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

/// Bytes of uncompressed stream in one piece.
pub const PIECE_BYTES: usize = 4 << 20;
/// Nearly the size of level 3 in half the time on source trees (`zstd -b1 -e3 -i1` on a tar of the bench's COPY tree).
const ZSTD_LEVEL: i32 = 2;
const GZIP_LEVEL: u32 = 6;

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, for old pullers.
    Gzip,
    /// zstd, the default.
    #[default]
    Zstd,
}

impl Compression {
    /// The OCI media type of a layer compressed so.
    pub const fn layer_media_type(self) -> &'static str {
        match self {
            Compression::None => media_type::OCI_LAYER,
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// The name in flags and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    fn compress(self, piece: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(piece),
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(piece.len() / 2), level);
                encoder.write_all(&piece)?;
                encoder.finish()
            }
            Compression::Zstd => zstd::bulk::compress(&piece, ZSTD_LEVEL),
        }
    }
}

/// Compresses what is written to it, on as many threads as the machine has cores once a stream is long enough.
pub struct Compressor<W: Write + Send + 'static> {
    compression: Compression,
    piece: Vec<u8>,
    pieces: u64,
    state: Option<State<W>>,
}

enum State<W> {
    /// Short streams stay on the caller's thread: starting threads costs more than compressing them.
    Inline(W),
    Parallel(Pipeline<W>),
}

/// A piece, and where its compressed form goes.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);
type Answer = Receiver<io::Result<Vec<u8>>>;

/// Workers that compress, and one thread that joins their answers in order.
struct Pipeline<W> {
    jobs: Vec<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    answers: SyncSender<Answer>,
    joiner: JoinHandle<io::Result<W>>,
    next: usize,
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Compresses into `output`.
    pub fn new(output: W, compression: Compression) -> Compressor<W> {
        Compressor { compression, piece: Vec::new(), pieces: 0, state: Some(State::Inline(output)) }
    }

    fn flush_piece(&mut self, last: bool) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        self.pieces += 1;
        if !last && self.pieces == 1 && self.compression != Compression::None {
            let Some(State::Inline(output)) = self.state.take() else {
                unreachable!("first piece starts inline")
            };
            self.state = Some(State::Parallel(Pipeline::start(output, self.compression)));
        }
        let is_taken = match self.state.as_mut() {
            Some(State::Inline(output)) => {
                let written = self.compression.compress(piece).and_then(|piece| output.write_all(&piece));
                if written.is_err() {
                    self.state = None;
                }
                return written;
            }
            Some(State::Parallel(pipeline)) => pipeline.submit(piece),
            None => false,
        };
        if is_taken { Ok(()) } else { Err(self.failure()) }
    }

    /// Why nothing more can be written.
    fn failure(&mut self) -> io::Error {
        let reason = match self.state.take() {
            // the thread that writes has ended, and knows
            Some(State::Parallel(pipeline)) => pipeline.finish().err(),
            _ => None,
        };
        reason.unwrap_or_else(|| io::Error::other("the compressed stream could not be written"))
    }

    /// Compresses the rest and hands the output back.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.piece.is_empty() || self.pieces == 0 {
            self.flush_piece(true)?;
        }
        match self.state.take() {
            Some(State::Inline(output)) => Ok(output),
            Some(State::Parallel(pipeline)) => pipeline.finish(),
            None => Err(self.failure()),
        }
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PIECE_BYTES - self.piece.len();
            let count = room.min(rest.len());
            self.piece.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if self.piece.len() == PIECE_BYTES {
                self.flush_piece(false)?;
                self.piece.reserve(PIECE_BYTES);
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send + 'static> Pipeline<W> {
    fn start(mut output: W, compression: Compression) -> Pipeline<W> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let mut jobs = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..cores {
            let (send, receive) = sync_channel::<Job>(1);
            jobs.push(send);
            workers.push(std::thread::spawn(move || {
                while let Ok((piece, answer)) = receive.recv() {
                    // nobody waits for the answer once the stream was given up
                    let _ = answer.send(compression.compress(piece));
                }
            }));
        }
        let (answers, order) = sync_channel::<Answer>(cores * 2);
        let joiner = std::thread::spawn(move || {
            for answer in order {
                let piece =
                    answer.recv().map_err(|_| io::Error::other("a compression thread ended early"))??;
                output.write_all(&piece)?;
            }
            Ok(output)
        });
        Pipeline { jobs, workers, answers, joiner, next: 0 }
    }

    /// Hands a piece on; whether anybody takes it.
    fn submit(&mut self, piece: Vec<u8>) -> bool {
        let (send, receive) = sync_channel(1);
        let worker = self.next % self.jobs.len();
        self.next += 1;
        // the order first: the joiner waits for this piece before any later one
        self.answers.send(receive).is_ok() && self.jobs[worker].send((piece, send)).is_ok()
    }

    fn finish(self) -> io::Result<W> {
        drop(self.answers);
        drop(self.jobs);
        let output = self.joiner.join().map_err(|_| io::Error::other("the writing thread panicked"))?;
        for worker in self.workers {
            worker.join().map_err(|_| io::Error::other("a compression thread panicked"))?;
        }
        output
    }
}

/// A stream's format, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// None of the others.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878, skippable frames included.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// The format that `start`, the first six or more bytes, announces.
pub fn sniff(start: &[u8]) -> Format {
    match start {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        _ => Format::Plain,
    }
}

/// Decompresses `input`, whose format is told by its first bytes.
///
/// What comes out is capped ([`crate::unpacking`]), also where nothing is decompressed.
pub fn decoder<'a, R: BufRead + Send + 'a>(input: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    unpacking::capped(input, uncapped)
}

pub(crate) fn uncapped<'a, R: BufRead + Send + 'a>(mut input: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let format = sniff(input.fill_buf()?);
    Ok(match format {
        Format::Plain => Box::new(input),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            // 128 MiB of window at most: what `zstd -d` takes without being asked, and a bound on memory
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Format::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
    })
}

/// A reader that decompresses on a thread of its own, so that the consumer's work runs beside it.
pub struct BackgroundReader {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: VecDeque<u8>,
    ended: bool,
}

impl BackgroundReader {
    /// Reads `source` to its end ahead of the consumer, a few pieces at most.
    pub fn new(mut source: Box<dyn Read + Send>) -> BackgroundReader {
        let (send, pieces) = sync_channel(8);
        std::thread::spawn(move || {
            loop {
                let mut piece = Vec::with_capacity(1 << 18);
                let result = source.by_ref().take(1 << 18).read_to_end(&mut piece).map(|_| piece);
                let done = result.as_ref().map_or(true, Vec::is_empty);
                // a consumer that went away ends the thread
                if send.send(result).is_err() || done {
                    return;
                }
            }
        });
        BackgroundReader { pieces, current: VecDeque::new(), ended: false }
    }
}

impl Read for BackgroundReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended {
            let piece = self
                .pieces
                .recv()
                .map_err(|_| io::Error::other("the decompression thread ended early"))??;
            self.ended = piece.is_empty();
            self.current = piece.into();
        }
        self.current.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x3f
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn every_length_round_trips_and_is_deterministic() {
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7] {
            let data = sample(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let compress = |steps: usize| {
                    let mut compressor = Compressor::new(Vec::new(), compression);
                    for part in data.chunks(steps) {
                        compressor.write_all(part).expect("write");
                    }
                    compressor.finish().expect("finish")
                };
                let packed = compress(1 << 16);
                assert_eq!(packed, compress(100_003), "{compression:?} {length}");
                let mut plain = Vec::new();
                decoder(&packed[..]).expect("decoder").read_to_end(&mut plain).expect("read");
                assert!(plain == data, "{compression:?} {length}");
                let mut ahead = Vec::new();
                let owned: Box<dyn Read + Send> = Box::new(io::Cursor::new(data.clone()));
                BackgroundReader::new(owned).read_to_end(&mut ahead).expect("read");
                assert!(ahead == data);
            }
        }
    }

    /// A disk with this much room.
    struct Small(usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_meets_the_failure_learns_the_reason() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for room in [0, PIECE_BYTES, 3 * PIECE_BYTES] {
                for pause in [0, 5] {
                    let mut compressor = Compressor::new(Small(room), compression);
                    let data = sample(PIECE_BYTES / 2);
                    let mut written = (0..40).try_for_each(|_| {
                        std::thread::sleep(std::time::Duration::from_millis(pause));
                        compressor.write_all(&data)
                    });
                    if written.is_ok() {
                        written = compressor.finish().map(drop);
                    } else {
                        assert!(compressor.write_all(&sample(2 * PIECE_BYTES)).is_err());
                        assert!(compressor.finish().is_err());
                    }
                    let kind = written.expect_err("no room").kind();
                    assert_eq!(kind, io::ErrorKind::StorageFull, "{compression:?} {room} {pause}");
                }
            }
        }
    }
}
