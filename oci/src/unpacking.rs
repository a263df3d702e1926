//! The cap on the whole that one archive or compressed stream may become, so that a bomb does not fill the disk.
//!
//! Every stream that is decompressed passes through [`capped`] ([`crate::compression::decoder`] knows no other way), so
//! that no reader can forget it: `load`, `import`, ADD, contexts, layers that were pulled. The rules: never more than
//! [`most_bytes`], nor much more than that to read (a stream may go on for ever and become nothing); and past [`limits::UNPACKED_FREE_BYTES`] no more than [`limits::UNPACKED_RATIO`] times what was read.
//! Whoever names a cap ([`allow`]) has thought about it: then it is the only rule.

use crate::limits;
use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// What the caller allows; one for the process, since a bomb fills one disk whatever reads it.
static ALLOWED: OnceLock<u64> = OnceLock::new();

/// Sets the cap for this process, once, before anything is unpacked; later calls change nothing.
pub fn allow(most_bytes: u64) {
    // a second value cannot hold for what was unpacked already
    let _ = ALLOWED.set(most_bytes);
}

/// The most bytes that one archive or compressed stream may unpack to.
pub fn most_bytes() -> u64 {
    ALLOWED.get().copied().unwrap_or(limits::UNPACKED_BYTES)
}

/// The cap that the caller named, if it did.
pub fn allowed() -> Option<u64> {
    ALLOWED.get().copied()
}

/// A stream that becomes more than is taken; the inner error of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// More than the cap.
    #[error("more than the {most} bytes that are taken")]
    Bytes {
        /// The cap.
        most: u64,
    },
    /// So much from so little that only a bomb or a file of nothing is meant.
    #[error("it unpacks to more than {bytes} bytes, over {ratio} times its own size, as bombs do")]
    Ratio {
        /// How much came out.
        bytes: u64,
        /// The most times its own size.
        ratio: u64,
    },
}

impl TooMuch {
    /// The refusal that `error` is, itself or within an [`io::Error`].
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<TooMuch> {
        let inner = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<TooMuch>();
        error.downcast_ref::<TooMuch>().or_else(inner).copied()
    }
}

/// The two rules, for one stream.
#[derive(Clone, Copy, Debug)]
struct Rules {
    most: u64,
    free: u64,
    ratio: u64,
}

impl Rules {
    fn of_process() -> Rules {
        match ALLOWED.get() {
            Some(most) => Rules { most: *most, free: u64::MAX, ratio: u64::MAX },
            None => Rules {
                most: limits::UNPACKED_BYTES,
                free: limits::UNPACKED_FREE_BYTES,
                ratio: limits::UNPACKED_RATIO,
            },
        }
    }

    /// The most that is read: what cannot be compressed takes a little more compressed.
    fn most_read(self) -> u64 {
        self.most.saturating_add(self.most / 64).saturating_add(1 << 20)
    }

    fn check(self, came_out: u64, went_in: u64) -> Result<(), TooMuch> {
        // one read may break both rules: the ratio says more about what it was
        if came_out > self.free && came_out / self.ratio > went_in {
            return Err(TooMuch::Ratio { bytes: self.free, ratio: self.ratio });
        }
        if came_out > self.most {
            return Err(TooMuch::Bytes { most: self.most });
        }
        Ok(())
    }
}

/// What `decode` makes of `input`, held to the process's cap.
pub(crate) fn capped<'a, R: BufRead + Send + 'a>(
    input: R,
    decode: impl FnOnce(Counted<R>) -> io::Result<Box<dyn Read + Send + 'a>>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    capped_by(Rules::of_process(), input, decode)
}

fn capped_by<'a, R: BufRead + Send + 'a>(
    rules: Rules,
    input: R,
    decode: impl FnOnce(Counted<R>) -> io::Result<Box<dyn Read + Send + 'a>>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let went_in = Arc::new(AtomicU64::new(0));
    let source = decode(Counted { input, rules, went_in: went_in.clone() })?;
    Ok(Box::new(Capped { source, rules, came_out: 0, went_in }))
}

/// A reader that counts what is taken from it.
pub(crate) struct Counted<R> {
    input: R,
    rules: Rules,
    went_in: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// A decoder may read for ever and give nothing: members of gzip and frames of zstd can be empty.
    fn check(&self) -> io::Result<()> {
        match self.went_in.load(Ordering::Relaxed) > self.rules.most_read() {
            true => Err(io::Error::other(TooMuch::Bytes { most: self.rules.most })),
            false => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let count = self.input.read(buffer)?;
        self.went_in.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.input.fill_buf()
    }
    fn consume(&mut self, count: usize) {
        self.went_in.fetch_add(count as u64, Ordering::Relaxed);
        self.input.consume(count);
    }
}

struct Capped<'a> {
    source: Box<dyn Read + Send + 'a>,
    rules: Rules,
    came_out: u64,
    went_in: Arc<AtomicU64>,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.came_out += count as u64;
        self.rules.check(self.came_out, self.went_in.load(Ordering::Relaxed)).map_err(io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: Rules, input: &[u8], output: u64) -> Result<u64, TooMuch> {
        let mut reader = capped_by(rules, input, |mut counted| {
            io::copy(&mut counted, &mut io::sink())?;
            Ok(Box::new(io::repeat(0).take(output)))
        })
        .expect("reader");
        io::copy(&mut reader, &mut io::sink()).map_err(|error| TooMuch::of(&error).expect("a refusal"))
    }

    #[test]
    fn a_stream_that_goes_on_for_ever_and_becomes_nothing_ends() {
        let rules = Rules { most: 1 << 20, free: u64::MAX, ratio: u64::MAX };
        // empty members of gzip, and skippable frames (zstd_compression_format.md)
        let gzip = flate2::GzBuilder::new().extra(vec![0; 4096]);
        let gzip = gzip.write(Vec::new(), flate2::Compression::fast()).finish().expect("gzip");
        let zstd = [b"\x50\x2a\x4d\x18\x00\x10\x00\x00".as_slice(), &[0; 4096]].concat();
        for member in [gzip, zstd] {
            let endless = io::BufReader::with_capacity(1 << 16, Endless { member: member.clone(), at: 0 });
            let mut reader = capped_by(rules, endless, crate::compression::uncapped).expect("reader");
            let error = io::copy(&mut reader, &mut io::sink()).expect_err("refused");
            assert_eq!(TooMuch::of(&error), Some(TooMuch::Bytes { most: 1 << 20 }), "{member:?}: {error}");
        }
    }

    /// The same bytes over and over.
    struct Endless {
        member: Vec<u8>,
        at: usize,
    }

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in &mut *buffer {
                *byte = self.member[self.at];
                self.at = (self.at + 1) % self.member.len();
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn both_rules_hold_to_the_byte() {
        let rules = Rules { most: 5000, free: 1000, ratio: 10 };
        let (bytes, ratio) = (TooMuch::Bytes { most: 5000 }, TooMuch::Ratio { bytes: 1000, ratio: 10 });
        for (went_in, came_out, expected) in [
            (1, 0, Ok(0)),
            (1, 1000, Ok(1000)),
            (1, 1001, Err(ratio)),
            (0, 1001, Err(ratio)),
            (200, 2000, Ok(2000)),
            (200, 2011, Err(ratio)),
            (5000, 5000, Ok(5000)),
            (5000, 5001, Err(bytes)),
            // one read may pass both at once
            (1, 1 << 40, Err(ratio)),
        ] {
            assert_eq!(read(rules, &vec![0; went_in], came_out), expected, "{went_in} -> {came_out}");
        }
        let more = rules.most_read() as usize;
        assert_eq!(read(rules, &vec![0; more], 0), Ok(0));
        let named = Rules { most: 5000, free: u64::MAX, ratio: u64::MAX };
        assert_eq!(read(named, b"x", 5000), Ok(5000));
        assert_eq!(read(named, b"x", 5001), Err(bytes));
    }
}
