//! Cuts a stream where its contents say so, so that a change moves no cut but those beside it.
//!
//! A rolling sum over the last 64 bytes (Gear; FastCDC without its second mask): where its upper bits are zero is a cut. Chunks
//! are 64 KiB on average: a change in the middle of a file costs its own bytes and about one chunk more. The numbers are pinned:
//! with others, everything that was carried before would travel again.

use std::io::{self, Read};

/// No chunk but the last is shorter.
const LEAST: usize = 16 << 10;
/// No chunk is longer.
pub(super) const MOST: usize = 256 << 10;
/// One place in so many is a cut: the sum's upper 16 bits are zero.
const SHIFT: u32 = 48;

/// What each byte adds: SplitMix64 from 1.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let (mut table, mut state, mut at) = ([0; 256], 1_u64, 0);
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// The chunks of a stream, in its order.
pub(super) struct Chunks<R> {
    source: R,
    buffer: Vec<u8>,
    /// How much of the buffer is filled.
    filled: usize,
    ended: bool,
}

impl<R: Read> Chunks<R> {
    /// Cuts `source`.
    pub(super) fn new(source: R) -> Chunks<R> {
        Chunks { source, buffer: vec![0; MOST], filled: 0, ended: false }
    }

    /// Hands the next chunk to `take`; `None` at the end.
    ///
    /// # Errors
    /// The source's.
    pub(super) fn next<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        while !self.ended && self.filled < MOST {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.filled == 0 {
            return Ok(None);
        }
        let length = cut(&self.buffer[..self.filled]);
        let taken = take(&self.buffer[..length]);
        self.buffer.copy_within(length..self.filled, 0);
        self.filled -= length;
        Ok(Some(taken))
    }
}

/// The length of the first chunk of `bytes`.
fn cut(bytes: &[u8]) -> usize {
    if bytes.len() <= LEAST {
        return bytes.len();
    }
    let mut sum = 0_u64;
    // the sum knows the last 64 bytes alone
    for (at, byte) in bytes.iter().enumerate().skip(LEAST - 64) {
        sum = (sum << 1).wrapping_add(GEAR[usize::from(*byte)]);
        if at >= LEAST && sum >> SHIFT == 0 {
            return at + 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes that nobody can compress, the same each time.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut chunks = Chunks::new(bytes);
        std::iter::from_fn(|| chunks.next(<[u8]>::to_vec).expect("read")).collect()
    }

    #[test]
    fn chunks_are_bounded_and_all_there_is() {
        for (bytes, name) in [
            (Vec::new(), "nothing"),
            (vec![0; 3_000_000], "zeros"),
            (noise(5, 1), "a few"),
            (noise(3_000_000, 2), "noise"),
        ] {
            let all = chunks(&bytes);
            assert_eq!(all.concat(), bytes, "{name}");
            let (last, others) =
                all.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others));
            assert!(others.iter().all(|chunk| (LEAST..=MOST).contains(&chunk.len())), "{name}");
            assert!(last.is_none_or(|last| (1..=MOST).contains(&last.len())), "{name}");
        }
        let average = 3_000_000 / chunks(&noise(3_000_000, 2)).len();
        assert!((40_000..130_000).contains(&average), "{average}");
    }

    #[test]
    fn a_change_moves_no_cut_but_those_beside_it() {
        let before = noise(4_000_000, 3);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_100, noise(700, 4));
        let known: std::collections::HashSet<Vec<u8>> = chunks(&before).into_iter().collect();
        let new: usize = chunks(&after).iter().filter(|chunk| !known.contains(*chunk)).map(Vec::len).sum();
        assert!(new < 2 * MOST, "{new} bytes of a change of 700");
    }
}
