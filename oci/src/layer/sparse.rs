//! Sparse files of GNU tar: what is stored are the pieces that hold data, and a map of where they belong.
//!
//! Four forms (GNU tar manual, "Storing Sparse Files"): the old one has type `S`, four pieces in the header and more in
//! blocks after it; PAX 0.0 has a record for each number, 0.1 one record with all of them, 1.0 the map in front of the
//! data. All of them come out as the whole file, holes as zeros. A map is refused where its pieces overlap, go
//! backwards, leave the file or do not add up to what is stored.

use crate::limits;
use std::io::{self, Read};

/// Where the stored pieces belong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// Place and length of each piece, in order.
    pieces: Vec<(u64, u64)>,
    /// Size of the whole file in bytes.
    pub(super) size_bytes: u64,
}

/// A sparse file that is being read.
#[derive(Debug)]
pub(super) struct Spread {
    map: Map,
    /// The piece that is read or comes next.
    piece: usize,
    /// How far the whole file was given.
    at: u64,
}

/// What is to be given next.
pub(super) enum Next {
    /// So many zeros.
    Hole(u64),
    /// So many stored bytes.
    Data(u64),
}

impl Spread {
    /// Checks the map against what is stored.
    pub(super) fn new(map: Map, stored_bytes: u64) -> io::Result<Spread> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for (place, length) in &map.pieces {
            let after = place.checked_add(*length).filter(|after| *place >= end && *after <= map.size_bytes);
            end = after.ok_or_else(|| damaged("its pieces are out of order or outside it"))?;
            sum += length;
        }
        if sum != stored_bytes {
            return Err(damaged("its pieces do not add up to what is stored"));
        }
        if map.size_bytes - sum > limits::SPARSE_HOLE_BYTES {
            return Err(damaged("its holes are larger than what is taken"));
        }
        Ok(Spread { map, piece: 0, at: 0 })
    }

    pub(super) fn next(&mut self) -> Option<Next> {
        while let Some((place, length)) = self.map.pieces.get(self.piece) {
            if self.at < *place {
                return Some(Next::Hole(place - self.at));
            }
            if self.at < place + length {
                return Some(Next::Data(place + length - self.at));
            }
            self.piece += 1;
        }
        (self.at < self.map.size_bytes).then(|| Next::Hole(self.map.size_bytes - self.at))
    }

    pub(super) fn advance(&mut self, count: u64) {
        self.at += count;
    }
}

/// The map of the old form, which ends in blocks after the header; those are taken from `source`.
pub(super) fn old_form(header: &tar::Header, source: &mut impl Read) -> io::Result<Map> {
    let header = header.as_gnu().ok_or_else(|| damaged("its header is not GNU tar's"))?;
    let number = |value: io::Result<u64>| value.map_err(|_| damaged("a number of it is none"));
    let mut map = Map { pieces: Vec::new(), size_bytes: number(header.real_size())? };
    let put = |map: &mut Map, piece: &tar::GnuSparseHeader| -> io::Result<()> {
        if !piece.is_empty() {
            map.pieces.push((number(piece.offset())?, number(piece.length())?));
        }
        check_count(map.pieces.len())
    };
    for piece in &header.sparse {
        put(&mut map, piece)?;
    }
    let mut more = header.is_extended();
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        source.read_exact(block.as_mut_bytes())?;
        for piece in block.sparse() {
            put(&mut map, piece)?;
        }
        more = block.is_extended();
    }
    Ok(map)
}

/// The map that PAX records hold or announce: `None` where the file is not sparse. `stored` gives the entry's data, of
/// which form 1.0 takes its head.
pub(super) fn pax_form(records: &[(Vec<u8>, Vec<u8>)], stored: &mut impl Read) -> io::Result<Option<Map>> {
    if !records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
        return Ok(None);
    }
    let record = |key: &str| {
        records.iter().rev().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value.as_slice())
    };
    if let Some(major) = record("GNU.sparse.major") {
        if major != b"1" || record("GNU.sparse.minor").is_some_and(|minor| minor != b"0") {
            return Err(damaged("its form is of a later version"));
        }
        let size = record("GNU.sparse.realsize").ok_or_else(|| damaged("its size is missing"))?;
        return Ok(Some(Map { pieces: head_of_data(stored)?, size_bytes: number(size)? }));
    }
    let size = record("GNU.sparse.size").or(record("GNU.sparse.realsize"));
    let size_bytes = number(size.ok_or_else(|| damaged("its size is missing"))?)?;
    let mut numbers = Vec::new();
    if let Some(list) = record("GNU.sparse.map") {
        for text in list.split(|byte| *byte == b',').filter(|text| !text.is_empty()) {
            numbers.push(number(text)?);
            check_count(numbers.len() / 2)?;
        }
    } else {
        for (key, value) in records {
            let wanted = if numbers.len() % 2 == 0 { "GNU.sparse.offset" } else { "GNU.sparse.numbytes" };
            if matches!(key.as_slice(), b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                if key != wanted.as_bytes() {
                    return Err(damaged("its numbers are not in pairs"));
                }
                numbers.push(number(value)?);
                check_count(numbers.len() / 2)?;
            }
        }
    }
    if numbers.len() % 2 != 0 {
        return Err(damaged("its numbers are not in pairs"));
    }
    Ok(Some(Map { pieces: numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(), size_bytes }))
}

/// Form 1.0: how many pieces, then place and length of each, a number a line, filled up to a whole block.
fn head_of_data(stored: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut lines = Lines { stored, block: [0; 512], at: 512 };
    let count = usize::try_from(lines.number()?).map_err(|_| damaged("it has too many pieces"))?;
    check_count(count)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((lines.number()?, lines.number()?));
    }
    Ok(pieces)
}

struct Lines<'s, R> {
    stored: &'s mut R,
    block: [u8; 512],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut text = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.stored.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' {
                return number(&text);
            }
            // u64::MAX has 20 digits
            if text.len() == 20 {
                return Err(damaged("a number of it is none"));
            }
            text.push(byte);
        }
    }
}

fn number(text: &[u8]) -> io::Result<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .filter(|number| *number <= i64::MAX as u64)
        .ok_or_else(|| damaged("a number of it is none"))
}

fn check_count(count: usize) -> io::Result<()> {
    if count > limits::SPARSE_PIECES { Err(damaged("it has too many pieces")) } else { Ok(()) }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a sparse file with a map that is damaged: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_forms_of_pax() {
        let head = {
            let mut head = b"2\n4\n2\n8\n3\n".to_vec();
            head.resize(512, 0);
            head
        };
        let wanted = Map { pieces: vec![(4, 2), (8, 3)], size_bytes: 12 };
        let zero = records(&[
            ("GNU.sparse.size", "12"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "4"),
            ("GNU.sparse.numbytes", "2"),
            ("GNU.sparse.offset", "8"),
            ("GNU.sparse.numbytes", "3"),
        ]);
        let one = records(&[("GNU.sparse.size", "12"), ("GNU.sparse.map", "4,2,8,3")]);
        let two =
            records(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "12")]);
        for records in [zero, one, two] {
            assert_eq!(pax_form(&records, &mut head.as_slice()).expect("map").as_ref(), Some(&wanted));
        }
        assert_eq!(pax_form(&records(&[("path", "x")]), &mut io::empty()).expect("none"), None);
    }

    #[test]
    fn damage_is_refused() {
        for pairs in [
            &[("GNU.sparse.map", "0,1")][..],
            &[("GNU.sparse.size", "-1"), ("GNU.sparse.map", "0,1")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,1,5")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,x")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.numbytes", "1"), ("GNU.sparse.offset", "1")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.offset", "1")],
            &[("GNU.sparse.major", "2"), ("GNU.sparse.realsize", "9")],
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "1"), ("GNU.sparse.realsize", "9")],
            &[("GNU.sparse.major", "1")],
        ] {
            assert!(pax_form(&records(pairs), &mut [0u8; 1024].as_slice()).is_err(), "{pairs:?}");
        }
        let one = records(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")]);
        for head in ["", "1", "1\n", "99999999999999999999999\n", "4294967295\n", "-1\n", "1\n1\nx\n"] {
            let mut bytes = head.as_bytes().to_vec();
            bytes.resize(512, b'0');
            assert!(pax_form(&one, &mut bytes.as_slice()).is_err(), "{head:?}");
        }
        for (pieces, size_bytes, stored) in [
            (vec![(4, 2), (5, 2)], 12, 4),
            (vec![(8, 2), (4, 2)], 12, 4),
            (vec![(8, 5)], 12, 5),
            (vec![(u64::MAX, 2)], 12, 2),
            (vec![(0, 2)], 12, 3),
            (vec![], i64::MAX as u64, 0),
        ] {
            let shown = format!("{pieces:?}");
            assert!(Spread::new(Map { pieces, size_bytes }, stored).is_err(), "{shown}");
        }
    }
}
