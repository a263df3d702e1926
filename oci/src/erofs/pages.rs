//! A file that grows by whole blocks; blocks of zeros become holes.

use super::format::BLOCK;
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

/// How much is collected before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// How much is looked at together, in bytes.
const COMPARED_BYTES: usize = 256 << 10;

const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Appends to a file.
pub(super) struct Pages {
    file: File,
    /// What belongs at `start` and is not written yet.
    buffer: Vec<u8>,
    /// A whole number of blocks.
    start: u64,
}

impl Pages {
    /// Appends to the empty `file` after the block of the superblock.
    pub(super) fn new(file: File) -> Pages {
        Pages { file, buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)), start: BLOCK }
    }

    /// Where the next byte goes.
    pub(super) fn at(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Fills the last block up; answers the number of the next.
    pub(super) fn align(&mut self) -> u64 {
        let filled = self.buffer.len() % BLOCK as usize;
        if filled > 0 {
            self.buffer.extend_from_slice(&ZEROS[filled..]);
        }
        self.at() / BLOCK
    }

    /// Takes back everything from `at` on, the beginning of a block.
    pub(super) fn rewind(&mut self, at: u64) -> io::Result<()> {
        assert!(at.is_multiple_of(BLOCK) && at >= BLOCK, "{at} begins no block");
        if at >= self.start {
            self.buffer.truncate((at - self.start) as usize);
            return Ok(());
        }
        // what is skipped as zeros later has to be a hole
        self.file.set_len(at)?;
        self.buffer.clear();
        self.start = at;
        Ok(())
    }

    /// Shows `see` the bytes from `at` on, the beginning of a block, in pieces; whether it was content with all.
    pub(super) fn all_from(&self, at: u64, see: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let (mut at, mut piece) = (at, vec![0; COMPARED_BYTES.min(self.start.saturating_sub(at) as usize)]);
        while at < self.start {
            let most = piece.len().min((self.start - at) as usize);
            let piece = &mut piece[..most];
            // zeros at the end are not written yet
            let mut filled = 0;
            while filled < piece.len() {
                match self.file.read_at(&mut piece[filled..], at + filled as u64)? {
                    0 => break,
                    count => filled += count,
                }
            }
            piece[filled..].fill(0);
            if !see(piece) {
                return Ok(false);
            }
            at += most as u64;
        }
        Ok(self.buffer[(at - self.start) as usize..].chunks(COMPARED_BYTES).all(see))
    }

    /// Writes the blocks that are whole.
    fn write_whole(&mut self) -> io::Result<()> {
        let whole = self.buffer.len() / BLOCK as usize * BLOCK as usize;
        let mut run = 0..0;
        for at in (0..whole).step_by(BLOCK as usize) {
            let next = at + BLOCK as usize;
            if self.buffer[at..next] != ZEROS {
                run = if run.is_empty() { at..next } else { run.start..next };
            } else if !run.is_empty() {
                self.file.write_all_at(&self.buffer[run.clone()], self.start + run.start as u64)?;
                run = 0..0;
            }
        }
        if !run.is_empty() {
            self.file.write_all_at(&self.buffer[run.clone()], self.start + run.start as u64)?;
        }
        self.start += whole as u64;
        self.buffer.drain(..whole);
        Ok(())
    }

    /// Writes what is left, with the block of the superblock last; answers the file's length.
    pub(super) fn finish(mut self, first: &[u8; BLOCK as usize]) -> io::Result<u64> {
        self.align();
        self.write_whole()?;
        self.file.set_len(self.start)?;
        self.file.write_all_at(first, 0)?;
        Ok(self.start)
    }
}

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_whole()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_are_holes_and_what_is_taken_back_leaves_none_of_itself() {
        let file = tempfile::tempfile().expect("file");
        let mut pages = Pages::new(file.try_clone().expect("handle"));
        pages.write_all(b"first").expect("write");
        let second = pages.align() * BLOCK;
        for round in 0..2 {
            // larger than the buffer, so that a part of it is in the file when it is taken back
            pages.write_all(&vec![7 + round; BUFFER_BYTES + 5]).expect("write");
            pages.rewind(second).expect("rewind");
            assert_eq!(pages.at(), second);
        }
        pages.write_all(&vec![0; 3 * BUFFER_BYTES]).expect("write");
        pages.write_all(b"last").expect("write");
        let length = pages.finish(&[1; BLOCK as usize]).expect("finish");
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(length, second + 3 * BUFFER_BYTES as u64 + BLOCK);
        assert_eq!((bytes[0], &bytes[4096..4101]), (1, &b"first"[..]));
        assert!(bytes[second as usize..].iter().take(3 * BUFFER_BYTES).all(|byte| *byte == 0));
        assert_eq!(&bytes[second as usize + 3 * BUFFER_BYTES..][..4], b"last");
        // the first block, the two others, and what the file system keeps of its own
        assert!(file.metadata().expect("metadata").blocks() * 512 < 2 * BUFFER_BYTES as u64);
    }

    #[test]
    fn what_was_written_is_shown_again() {
        for length in [5, BUFFER_BYTES - 1, BUFFER_BYTES + 5, 3 * BUFFER_BYTES + 7] {
            let bytes: Vec<u8> = (0..length)
                .map(|at| if (9000..1_100_000).contains(&at) { 0 } else { (at % 251) as u8 })
                .collect();
            let mut pages = Pages::new(tempfile::tempfile().expect("file"));
            pages.write_all(b"before").expect("write");
            let begin = pages.align() * BLOCK;
            bytes.chunks(65_536).for_each(|piece| pages.write_all(piece).expect("write"));
            let mut seen = Vec::new();
            let mut see = |piece: &[u8]| {
                seen.extend_from_slice(piece);
                true
            };
            assert!(pages.all_from(begin, &mut see).expect("read"));
            assert!(seen == bytes, "{length}");
            assert!(!pages.all_from(begin, &mut |_| false).expect("read"));
        }
    }

    #[test]
    fn a_block_that_is_full_is_not_filled_up() {
        let mut pages = Pages::new(tempfile::tempfile().expect("file"));
        assert_eq!(pages.align(), 1);
        pages.write_all(&[1; BLOCK as usize]).expect("write");
        assert_eq!((pages.align(), pages.align()), (2, 2));
    }
}
