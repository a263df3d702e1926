//! Layer compression: parallel, and the same bytes whatever the number of threads.
//!
//! The uncompressed stream is cut into pieces of [`PIECE_BYTES`] at most, and earlier where the writer says so
//! ([`Compressor::cut`]); each becomes a zstd frame or gzip member of its own, and the pieces are joined in order. RFC 8878 §3.1 and RFC 1952 §2.2 both say that such a row is one stream, and
//! Go's, libarchive's and containerd's readers take it so. Piece sizes and levels are part of what digests depend on:
//! changing them changes every image, so they are pinned here and nowhere else.

use crate::{
    Algorithm, Digest, Hasher,
    digest::CONTENT,
    limits::{AHEAD_BYTES, PIECES_AHEAD},
    pieces::{Content, Known, Piece},
    pool::{Pool, Pooled},
    spec::media_type,
    unpacking,
};
use std::{
    io::{self, BufRead, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// Most bytes of uncompressed stream in one piece.
pub const PIECE_BYTES: usize = 4 << 20;
/// Nearly the size of level 3 in half the time on source trees (`zstd -b1 -e3 -i1` on a tar of the bench's COPY tree).
const ZSTD_LEVEL: i32 = 2;
const GZIP_LEVEL: i32 = 6;

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

    /// The levels that there are, and the one that is taken where none is said; `None` where there is nothing to choose.
    pub fn levels(self) -> Option<(std::ops::RangeInclusive<i32>, i32)> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some((0..=9, GZIP_LEVEL)),
            Compression::Zstd => Some((1..=22, ZSTD_LEVEL)),
        }
    }

    /// Compresses one piece, all of it at hand, at a level that [`Compression::levels`] has.
    pub(crate) fn compress(self, piece: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(piece.to_vec()),
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(GZIP_LEVEL).unsigned_abs());
                let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(piece.len() / 2), level);
                encoder.write_all(piece)?;
                encoder.finish()
            }
            Compression::Zstd => zstd::bulk::compress(piece, level.unwrap_or(ZSTD_LEVEL)),
        }
    }
}

fn shared(bytes: Vec<u8>) -> Arc<Pooled> {
    Arc::new(bytes.into())
}

/// How pieces are compressed.
#[derive(Clone)]
struct Packer {
    compression: Compression,
    /// Where it is not the compression's own.
    level: Option<i32>,
    /// Where compressed pieces may be already; without it nobody wants to know the pieces.
    known: Option<Arc<Known>>,
}

/// A compressed piece, and what there is to remember of it.
type Packed = (Arc<Pooled>, Option<Piece>);

impl Packer {
    fn pack(&self, plain: &Arc<Pooled>, contents: &[Content]) -> io::Result<Packed> {
        if self.compression == Compression::None {
            return Ok((plain.clone(), None));
        }
        let compress = || self.compression.compress(plain, self.level).map(shared);
        let Some(known) = &self.known else { return Ok((compress()?, None)) };
        if let Some((packed, piece)) = known.find(plain, contents) {
            return Ok((shared(packed), Some(piece)));
        }
        let packed = compress()?;
        let piece = Piece::new(plain, contents, &packed);
        Ok((packed, Some(piece)))
    }
}

/// Compresses what is written to it, on as many threads as the machine has cores once a stream is long enough.
pub struct Compressor<W: Write + Send + 'static> {
    packer: Packer,
    /// The bytes before compression, where somebody wants their digest.
    digests: bool,
    plain_bytes: u64,
    /// How many pieces were handed over.
    count: usize,
    piece: Pooled,
    /// Those bytes of the piece whose digest is known.
    contents: Vec<Content>,
    pool: Pool,
    state: Option<State<W>>,
}

enum State<W> {
    /// Short streams stay on the caller's thread: starting threads costs more than compressing them.
    Inline(W),
    Parallel(Pipeline<W>),
}

/// A stream that was compressed.
pub struct Compressed<W> {
    /// Where it was written.
    pub output: W,
    /// Digest of the stream before, where it was asked for ([`Compressor::describing`]).
    pub plain_digest: Option<Digest>,
    /// Its length in bytes.
    pub plain_bytes: u64,
    /// Its pieces in order, where they were asked for.
    pub pieces: Vec<Piece>,
    /// How many bytes each piece has once it is compressed, in order.
    pub packed_bytes: Vec<u64>,
}

fn given_up() -> io::Error {
    io::Error::other("the compressed stream could not be written")
}

/// A piece, and where its compressed form goes.
type Job = (Arc<Pooled>, Vec<Content>, SyncSender<io::Result<Packed>>);
type Answer = Receiver<io::Result<Packed>>;

/// The output, what there is to remember of its pieces, and how many bytes each has.
type Joined<W> = (W, Vec<Piece>, Vec<u64>);

/// A thread that digests what it is given.
type Digester = (SyncSender<Arc<Pooled>>, JoinHandle<Hasher>);

/// Workers that compress, one thread that joins their answers in order, and one that digests what they are given.
struct Pipeline<W> {
    jobs: Vec<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    answers: SyncSender<Answer>,
    joiner: JoinHandle<io::Result<Joined<W>>>,
    digester: Option<Digester>,
    next: usize,
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Compresses into `output`.
    pub fn new(output: W, compression: Compression) -> Compressor<W> {
        let packer = Packer { compression, level: None, known: None };
        let state = Some(State::Inline(output));
        Compressor {
            packer,
            digests: false,
            plain_bytes: 0,
            count: 0,
            piece: Pooled::default(),
            contents: Vec::new(),
            pool: Pool::default(),
            state,
        }
    }

    /// Compresses at a level that [`Compression::levels`] has.
    pub fn at_level(mut self, level: Option<i32>) -> Compressor<W> {
        self.packer.level = level;
        self
    }

    /// Ends the piece, and answers which one of the stream begins with what is written next.
    pub fn begin_piece(&mut self) -> io::Result<usize> {
        self.cut(1)?;
        Ok(self.count)
    }

    /// Digests the stream too, on a thread of its own once it is long, notes its pieces, and takes from `known` what is
    /// there.
    pub fn describing(mut self, known: Arc<Known>) -> Compressor<W> {
        (self.packer.known, self.digests) = (Some(known), true);
        self
    }

    /// Writes bytes whose digest by [`CONTENT`] is known, so that they need not be digested for their piece again.
    pub fn write_known(&mut self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        let (begin, end) = (self.piece.len(), self.piece.len() + bytes.len());
        if digest.algorithm() == CONTENT
            && end < PIECE_BYTES
            && let Ok(digest) = digest.as_bytes().try_into()
        {
            self.contents.push(Content { begin: begin as u32, end: end as u32, digest });
        }
        self.write_all(bytes)
    }

    /// Ends a piece before what is written next, unless the piece is shorter than `least_bytes`: streams that are cut where
    /// the same things begin have pieces in common.
    pub fn cut(&mut self, least_bytes: usize) -> io::Result<()> {
        if self.piece.is_empty() || self.piece.len() < least_bytes {
            return Ok(());
        }
        self.flush_piece()
    }

    /// Hands over a piece that is not the last one.
    fn flush_piece(&mut self) -> io::Result<()> {
        let piece = Arc::new(std::mem::replace(&mut self.piece, self.pool.take(PIECE_BYTES)));
        let contents = std::mem::take(&mut self.contents);
        self.count += 1;
        let pipeline = match self.state.take() {
            Some(State::Inline(mut output))
                if self.packer.compression == Compression::None && !self.digests =>
            {
                output.write_all(&piece)?;
                self.state = Some(State::Inline(output));
                return Ok(());
            }
            Some(State::Inline(output)) => Pipeline::start(output, self.packer.clone(), self.digests),
            Some(State::Parallel(pipeline)) => pipeline,
            None => return Err(given_up()),
        };
        self.state = Some(State::Parallel(pipeline.submit(piece, contents)?));
        Ok(())
    }

    /// Compresses the rest and hands the output back.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.finish_described()?.output)
    }

    /// Compresses the rest, and says what there is to say of the stream.
    pub fn finish_described(mut self) -> io::Result<Compressed<W>> {
        let plain_bytes = self.plain_bytes;
        let last = Arc::new(std::mem::take(&mut self.piece));
        match self.state.take().ok_or_else(given_up)? {
            State::Inline(mut output) => {
                let (packed, piece) = self.packer.pack(&last, &self.contents)?;
                output.write_all(&packed)?;
                let plain_digest = self.digests.then(|| {
                    let mut hasher = Hasher::new(Algorithm::Sha256);
                    hasher.update(&last);
                    hasher.finish()
                });
                let packed_bytes = vec![packed.len() as u64];
                Ok(Compressed {
                    output,
                    plain_digest,
                    plain_bytes,
                    pieces: piece.into_iter().collect(),
                    packed_bytes,
                })
            }
            State::Parallel(mut pipeline) => {
                if !last.is_empty() {
                    pipeline = pipeline.submit(last, std::mem::take(&mut self.contents))?;
                }
                let ((output, pieces, packed_bytes), plain_digest) = pipeline.finish()?;
                Ok(Compressed { output, plain_digest, plain_bytes, pieces, packed_bytes })
            }
        }
    }
}

impl<W: Write + Send + 'static> Drop for Compressor<W> {
    /// A stream that is given up: its output is gone when this returns, and what that was making with it.
    fn drop(&mut self) {
        if let Some(State::Parallel(pipeline)) = self.state.take() {
            drop(pipeline.finish());
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
                self.flush_piece()?;
            }
        }
        self.plain_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send + 'static> Pipeline<W> {
    fn start(mut output: W, packer: Packer, digests: bool) -> Pipeline<W> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let mut jobs = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..cores {
            let (send, receive) = sync_channel::<Job>(1);
            jobs.push(send);
            let packer = packer.clone();
            workers.push(std::thread::spawn(move || {
                while let Ok((piece, contents, answer)) = receive.recv() {
                    // nobody waits for the answer once the stream was given up
                    let _ = answer.send(packer.pack(&piece, &contents));
                }
            }));
        }
        let (answers, order) = sync_channel::<Answer>(cores * 2);
        let joiner = std::thread::spawn(move || {
            let (mut pieces, mut packed_bytes) = (Vec::new(), Vec::new());
            for answer in order {
                let (packed, piece) =
                    answer.recv().map_err(|_| io::Error::other("a compression thread ended early"))??;
                output.write_all(&packed)?;
                packed_bytes.push(packed.len() as u64);
                pieces.extend(piece);
            }
            Ok((output, pieces, packed_bytes))
        });
        let digester = digests.then(|| {
            let (send, receive) = sync_channel::<Arc<Pooled>>(cores);
            let digest = move || {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                receive.iter().for_each(|piece| hasher.update(&piece));
                hasher
            };
            (send, std::thread::spawn(digest))
        });
        Pipeline { jobs, workers, answers, joiner, digester, next: 0 }
    }

    /// Hands a piece on. Where nobody takes it, the thread that writes has ended, and knows why.
    fn submit(mut self, piece: Arc<Pooled>, contents: Vec<Content>) -> io::Result<Self> {
        let (send, receive) = sync_channel(1);
        let worker = self.next % self.jobs.len();
        self.next += 1;
        // the order first: the joiner waits for this piece before any later one
        let is_taken = self.answers.send(receive).is_ok()
            && self.jobs[worker].send((piece.clone(), contents, send)).is_ok();
        if !is_taken {
            return Err(self.finish().err().unwrap_or_else(given_up));
        }
        if let Some((digester, _)) = &self.digester {
            digester.send(piece).map_err(|_| given_up())?;
        }
        Ok(self)
    }

    fn finish(self) -> io::Result<(Joined<W>, Option<Digest>)> {
        drop(self.answers);
        drop(self.jobs);
        let output = self.joiner.join().map_err(|_| io::Error::other("the writing thread panicked"))?;
        for worker in self.workers {
            worker.join().map_err(|_| io::Error::other("a compression thread panicked"))?;
        }
        let mut digest = None;
        if let Some((digester, thread)) = self.digester {
            drop(digester);
            let hasher = thread.join().map_err(|_| io::Error::other("the digesting thread panicked"))?;
            digest = Some(hasher.finish());
        }
        Ok((output?, digest))
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
    pieces: Receiver<io::Result<Ahead>>,
    /// What comes next, and how much of it was taken.
    current: Pooled,
    taken: usize,
    /// Once nothing more comes: what [`BackgroundReader::finish`] answers.
    end: Option<Option<(Digest, u64)>>,
}

/// What comes from the thread.
enum Ahead {
    Piece(Pooled),
    /// Nothing more.
    End(Option<(Digest, u64)>),
}

impl BackgroundReader {
    /// Reads `source` to its end ahead of the consumer, a few pieces at most.
    pub fn new(source: Box<dyn Read + Send>) -> BackgroundReader {
        BackgroundReader::start(source, None)
    }

    /// The same, digested on that thread: half the hashing of a layer beside the other half.
    pub(crate) fn digesting(source: Box<dyn Read + Send>) -> BackgroundReader {
        BackgroundReader::start(source, Some(Hasher::new(Algorithm::Sha256)))
    }

    fn start(mut source: Box<dyn Read + Send>, mut hasher: Option<Hasher>) -> BackgroundReader {
        let (send, pieces) = sync_channel(PIECES_AHEAD);
        std::thread::spawn(move || {
            let (mut bytes, pool) = (0, Pool::default());
            loop {
                let mut piece = pool.take(AHEAD_BYTES);
                let read = source.by_ref().take(AHEAD_BYTES as u64).read_to_end(&mut piece);
                let is_last = !matches!(read, Ok(1..));
                bytes += piece.len() as u64;
                if let Some(hasher) = &mut hasher {
                    hasher.update(&piece);
                }
                let ahead = read.map(|count| match count {
                    0 => Ahead::End(hasher.take().map(|hasher| (hasher.finish(), bytes))),
                    _ => Ahead::Piece(piece),
                });
                // a consumer that went away ends the thread
                if send.send(ahead).is_err() || is_last {
                    return;
                }
            }
        });
        BackgroundReader { pieces, current: Pooled::default(), taken: 0, end: None }
    }

    /// The digest of all that came out, and its length in bytes, once it was read to its end.
    pub(crate) fn finish(self) -> Option<(Digest, u64)> {
        self.end.flatten()
    }
}

impl Read for BackgroundReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.current.len() && self.end.is_none() {
            let ahead = self.pieces.recv();
            match ahead.map_err(|_| io::Error::other("the decompression thread ended early"))?? {
                Ahead::Piece(piece) => (self.current, self.taken) = (piece, 0),
                Ahead::End(digest) => self.end = Some(digest),
            }
        }
        let count = (&self.current[self.taken..]).read(buffer)?;
        self.taken += count;
        Ok(count)
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
                let mut reader = BackgroundReader::digesting(owned);
                reader.read_to_end(&mut ahead).expect("read");
                assert!(ahead == data);
                assert_eq!(reader.finish(), Some((Digest::sha256(&data), length as u64)));
            }
        }
    }

    /// Says when it is gone.
    struct Noticed(Arc<std::sync::atomic::AtomicBool>);

    impl Write for Noticed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Noticed {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn a_stream_that_is_given_up_leaves_no_thread_with_its_output() {
        for length in [100, 5 * PIECE_BYTES] {
            let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let mut compressor = Compressor::new(Noticed(gone.clone()), Compression::Zstd);
            compressor.write_all(&sample(length)).expect("write");
            drop(compressor);
            assert!(gone.load(std::sync::atomic::Ordering::SeqCst), "{length}");
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
                    let compressor = Compressor::new(Small(room), compression);
                    let mut compressor = match pause {
                        0 => compressor,
                        _ => compressor.describing(Arc::default()),
                    };
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

    #[test]
    fn what_is_known_is_not_compressed_again_and_makes_the_same_bytes() {
        for length in [100, PIECE_BYTES / 2, 3 * PIECE_BYTES + 7] {
            let data = sample(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let compress = |data: &[u8], known: Known| {
                    let mut compressor = Compressor::new(Vec::new(), compression).describing(Arc::new(known));
                    for (number, part) in data.chunks(100_000).enumerate() {
                        if number % 7 == 3 {
                            compressor.cut(1 << 19).expect("cut");
                        }
                        compressor.write_all(part).expect("write");
                    }
                    compressor.finish_described().expect("finish")
                };
                let first = compress(&data, Known::default());
                assert_eq!(first.plain_digest, Some(Digest::sha256(&data)));
                assert_eq!(first.plain_bytes, length as u64);
                let mut plain = Vec::new();
                decoder(&first.output[..]).expect("decoder").read_to_end(&mut plain).expect("read");
                assert!(plain == data, "{compression:?} {length}");
                // another blob says what a piece becomes, and is believed: that shows where it comes from
                let mut changed = data.clone();
                changed[length - 1] ^= 1;
                let again = compress(&changed, Known::default());
                let mut known = Known::default();
                let mut blob = tempfile::tempfile().expect("file");
                blob.write_all(&first.output).expect("write");
                known.add(blob, &first.pieces);
                let helped = compress(&changed, known);
                assert!(helped.output == again.output, "{compression:?} {length}");
                assert_eq!((helped.plain_digest, helped.pieces), (again.plain_digest, again.pieces));
            }
        }
    }
}
