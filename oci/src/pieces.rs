//! The pieces of compressed layers, and where a new layer finds those that it has in common with an earlier one.
//!
//! A layer's archive is cut where its entries say so, not at multiples of some length ([`crate::layer::LayerWriter`]), and
//! each piece is compressed by itself ([`crate::compression`]). So a file that changed, or one that is new, costs the
//! compression of its own piece: the others are copied from the blob that has them, byte by byte what compressing them
//! again would make. Both sides of a piece are known by their BLAKE3 digests, which are never shown to anybody: they only
//! find and check what this store wrote itself.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// Bytes of a BLAKE3 digest.
const DIGEST_BYTES: usize = 32;
/// Bytes of an encoded [`Piece`].
const PIECE_BYTES: usize = 2 * (DIGEST_BYTES + 4);

/// One piece of a compressed stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    plain: [u8; DIGEST_BYTES],
    plain_bytes: u32,
    packed: [u8; DIGEST_BYTES],
    packed_bytes: u32,
}

/// Bytes of a piece whose digest is known.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Where they begin.
    pub(crate) begin: u32,
    /// Where they end.
    pub(crate) end: u32,
    /// Their BLAKE3 digest.
    pub(crate) digest: [u8; DIGEST_BYTES],
}

/// The digest of a piece: of the bytes whose digest is not known, and of the list of the others, so that nothing is read
/// twice. The count at the end says where the list begins: no two pieces make one row.
fn digest(plain: &[u8], contents: &[Content]) -> [u8; DIGEST_BYTES] {
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    for content in contents {
        hasher.update(&plain[at..content.begin as usize]);
        at = content.end as usize;
    }
    hasher.update(&plain[at..]);
    for Content { begin, end, digest } in contents {
        hasher.update(&begin.to_le_bytes()).update(&end.to_le_bytes()).update(digest);
    }
    *hasher.update(&(contents.len() as u64).to_le_bytes()).finalize().as_bytes()
}

impl Piece {
    /// The piece that is `plain`, which has these `contents` in order, and `packed` once it is compressed.
    pub(crate) fn new(plain: &[u8], contents: &[Content], packed: &[u8]) -> Piece {
        Piece {
            plain: digest(plain, contents),
            plain_bytes: plain.len() as u32,
            packed: *blake3::hash(packed).as_bytes(),
            packed_bytes: packed.len() as u32,
        }
    }
}

/// Which compressors made a list of pieces. Another level, cut or library makes other bytes, and what is built must not depend
/// on which version built before: lists of others are none. Counted up with any of [`crate::compression`]'s settings and with
/// flate2; zstd says its own.
fn made_by() -> [u8; 8] {
    const SETTINGS: u32 = 2;
    let mut out = [0; 8];
    out[..4].copy_from_slice(&SETTINGS.to_le_bytes());
    out[4..].copy_from_slice(&zstd::zstd_safe::version_number().to_le_bytes());
    out
}

/// Pieces as the store keeps them: who made them (8 bytes), then fixed rows, numbers little-endian.
pub fn encode(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + pieces.len() * PIECE_BYTES);
    out.extend_from_slice(&made_by());
    for piece in pieces {
        out.extend_from_slice(&piece.plain);
        out.extend_from_slice(&piece.plain_bytes.to_le_bytes());
        out.extend_from_slice(&piece.packed);
        out.extend_from_slice(&piece.packed_bytes.to_le_bytes());
    }
    out
}

/// The pieces that [`encode`] wrote with the same compressors; `None` where they are none.
pub fn decode(bytes: &[u8]) -> Option<Vec<Piece>> {
    let (rows, rest) = bytes.strip_prefix(&made_by())?.as_chunks::<PIECE_BYTES>();
    let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
    let row = |row: &[u8; PIECE_BYTES]| {
        Some(Piece {
            plain: row[..32].try_into().ok()?,
            plain_bytes: number(&row[32..36])?,
            packed: row[36..68].try_into().ok()?,
            packed_bytes: number(&row[68..])?,
        })
    };
    rest.is_empty().then(|| rows.iter().map(row).collect())?
}

/// Pieces that are in some blob.
#[derive(Debug, Default)]
pub struct Known {
    places: HashMap<[u8; DIGEST_BYTES], (Piece, Arc<File>, u64)>,
}

impl Known {
    /// Adds the pieces of an open blob, in its order.
    pub fn add(&mut self, blob: File, pieces: &[Piece]) {
        let blob = Arc::new(blob);
        let mut at = 0;
        for piece in pieces {
            self.places.entry(piece.plain).or_insert_with(|| (*piece, blob.clone(), at));
            at += u64::from(piece.packed_bytes);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The compressed form of `plain`, which has these `contents`, where it is in a blob and still what was written there.
    pub(crate) fn find(&self, plain: &[u8], contents: &[Content]) -> Option<(Vec<u8>, Piece)> {
        if self.is_empty() {
            return None;
        }
        let (piece, blob, at) = self.places.get(&digest(plain, contents))?;
        if piece.plain_bytes as usize != plain.len() {
            return None;
        }
        let mut packed = vec![0; piece.packed_bytes as usize];
        let read: io::Result<()> = blob.read_exact_at(&mut packed, *at);
        (read.is_ok() && *blake3::hash(&packed).as_bytes() == piece.packed).then_some((packed, *piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn pieces_that_differ_have_digests_that_differ() {
        let content = |begin: u32, text: &[u8]| Content {
            begin,
            end: begin + text.len() as u32,
            digest: *blake3::hash(text).as_bytes(),
        };
        // bytes that are what a list of contents would look like to who reads over its beginning
        let mut forged = b"head".to_vec();
        forged.extend_from_slice(&4_u32.to_le_bytes());
        forged.extend_from_slice(&8_u32.to_le_bytes());
        forged.extend_from_slice(blake3::hash(b"body").as_bytes());
        let rows: [(&[u8], Vec<Content>); 9] = [
            (b"headbody", vec![content(4, b"body")]),
            (b"headbodz", vec![content(4, b"bodz")]),
            (b"heafbody", vec![content(4, b"body")]),
            (b"headbody", vec![content(0, b"head")]),
            (b"headbody", vec![content(0, b"head"), content(4, b"body")]),
            (b"bodyhead", vec![content(0, b"body"), content(4, b"head")]),
            (b"headbody", vec![]),
            (b"head", vec![]),
            (&forged, vec![]),
        ];
        let digests: std::collections::HashSet<_> =
            rows.iter().map(|(plain, contents)| digest(plain, contents)).collect();
        assert_eq!(digests.len(), rows.len());
        // what is said of known bytes is believed, and they are not read again
        let lies = digest(b"headXXXX", &[content(4, b"body")]);
        assert_eq!(lies, digest(b"headbody", &[content(4, b"body")]));
    }

    #[test]
    fn pieces_are_found_and_looked_at() {
        let pieces = [(&b"one"[..], &b"1"[..]), (b"two", b"22"), (b"", b""), (b"three", b"333")];
        let rows: Vec<Piece> = pieces.iter().map(|(plain, packed)| Piece::new(plain, &[], packed)).collect();
        let encoded = encode(&rows);
        assert_eq!(decode(&encoded), Some(rows.clone()));
        for cut in 1..PIECE_BYTES {
            assert_eq!(decode(&encoded[..encoded.len() - cut]), None);
        }
        for byte in 0..8 {
            let mut of_another = encoded.clone();
            of_another[byte] ^= 1;
            assert_eq!(decode(&of_another), None, "another compressor made it");
        }
        let mut blob = tempfile::tempfile().expect("file");
        blob.write_all(b"122333").expect("write");
        let mut known = Known::default();
        known.add(blob.try_clone().expect("handle"), &rows);
        for (plain, packed) in pieces {
            assert_eq!(known.find(plain, &[]).expect("found").0, packed);
        }
        assert!(known.find(b"four", &[]).is_none());
        // rot
        blob.write_all_at(b"x", 1).expect("write");
        assert!(known.find(b"two", &[]).is_none() && known.find(b"three", &[]).is_some());
        blob.set_len(5).expect("cut");
        assert!(known.find(b"three", &[]).is_none() && known.find(b"one", &[]).is_some());
    }
}
