//! Blobs against the words of both formats: whoever reads them by range gets each file from its chunks alone.

use super::*;
use crate::{blobs::Blobs, layer};
use serde_json::Value;
use std::{
    fs::File,
    io::{Cursor, Write},
    os::unix::fs::FileExt,
};

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let large: Vec<u8> = (0..CHUNK_BYTES * 2 + 777).map(|at| (at * at / 7) as u8).collect();
    let exact = vec![7; CHUNK_BYTES];
    let entries: [(&str, tar::EntryType, &[u8]); 7] = [
        ("etc/", tar::EntryType::Directory, b""),
        ("etc/empty", tar::EntryType::Regular, b""),
        ("etc/small", tar::EntryType::Regular, b"hello"),
        ("large", tar::EntryType::Regular, &large),
        ("exact", tar::EntryType::Regular, &exact),
        ("etc/.wh.gone", tar::EntryType::Regular, b""),
        ("after", tar::EntryType::Regular, b"the last one"),
    ];
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        if name == "etc/small" {
            builder.append_pax_extensions([("SCHILY.xattr.user.a", &b"\x01value"[..])]).unwrap();
        }
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    link.set_mode(0o644);
    builder.append_link(&mut link, "hard", "large").unwrap();
    let mut bytes = builder.into_inner().unwrap();
    // what follows the marks of the end belongs to the archive too
    bytes.resize(bytes.len() + 9000, 0);
    bytes
}

struct Written {
    layer: ChunkedLayer,
    blob: Vec<u8>,
    file: File,
    _folder: tempfile::TempDir,
}

fn written(archive: &[u8], chunking: Chunking, level: Option<i32>) -> Result<Written, ChunkError> {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).unwrap();
    let layer = write(&blobs, archive, chunking, level)?;
    let file = blobs.open_blob(&layer.descriptor.digest).unwrap();
    let blob = std::fs::read(blobs.path(&layer.descriptor.digest)).unwrap();
    Ok(Written { layer, blob, file, _folder: folder })
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::compression::decoder(Cursor::new(blob.to_vec())).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Each file, put together from its chunks, which are read at their places and unpacked alone.
fn files(table: &Value, blob: &[u8], unpack: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in table["entries"].as_array().unwrap() {
        let number = |key: &str| entry[key].as_u64().unwrap_or(0) as usize;
        match entry["type"].as_str().unwrap() {
            "reg" => files.push((entry["name"].as_str().unwrap().to_owned(), Vec::new())),
            "chunk" => assert_eq!(files.last().unwrap().0, entry["name"].as_str().unwrap()),
            _ => continue,
        }
        let file = &mut files.last_mut().unwrap().1;
        if entry["offset"].is_null() {
            assert!(entry["size"].is_null() && entry["digest"].is_null());
            continue;
        }
        assert_eq!(number("chunkOffset"), file.len());
        let mut chunk = unpack(&blob[number("offset")..]);
        if number("chunkSize") > 0 {
            assert_eq!(chunk.len(), number("chunkSize"));
        }
        if let Some(digest) = entry["chunkDigest"].as_str() {
            assert_eq!(Digest::sha256(&chunk).to_string(), digest);
        }
        file.append(&mut chunk);
    }
    for (name, bytes) in &files {
        let entry =
            table["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == **name).unwrap();
        assert_eq!(entry["size"].as_u64().unwrap_or(0), bytes.len() as u64, "{name}");
        if !bytes.is_empty() {
            assert_eq!(entry["digest"], Digest::sha256(bytes).to_string(), "{name}");
        }
    }
    files
}

fn expected(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.push((entry.path().unwrap().display().to_string(), bytes));
        }
    }
    files
}

#[test]
fn zstd_chunked_is_the_same_archive_and_tells_where_its_files_are() {
    let archive = archive();
    let Written { layer, blob, file, .. } = written(&archive, Chunking::ZstdChunked, None).unwrap();
    assert_eq!(layer.diff_id, Digest::sha256(&archive));
    assert_eq!(unpacked(&blob), archive, "skippable frames are passed over");
    assert_eq!(layer.archive_bytes, archive.len() as u64);
    let position = |key: &str| -> Vec<u64> {
        layer.descriptor.annotations[key].split(':').map(|number| number.parse().unwrap()).collect()
    };
    let part = |position: &[u64]| &blob[position[0] as usize..][..position[1] as usize];
    let (table, split) = (position(MANIFEST_POSITION), position(TAR_SPLIT_POSITION));
    assert_eq!(table[3], 1);
    assert_eq!(Digest::sha256(part(&table)).to_string(), layer.descriptor.annotations[MANIFEST_CHECKSUM]);
    let json = unpacked(part(&table));
    assert_eq!(json.len() as u64, table[2]);
    let toc: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(toc["tarSplitDigest"], Digest::sha256(part(&split)).to_string());
    // one frame alone
    let frame = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap().single_frame();
        decoder.read_to_end(&mut out).unwrap();
        out
    };
    let found = files(&toc, &blob, &frame);
    assert_eq!(found, expected(&archive));
    let entries = toc["entries"].as_array().unwrap();
    for entry in entries.iter().filter(|entry| entry["type"] == "reg" && !entry["offset"].is_null()) {
        let (from, to) = (entry["offset"].as_u64().unwrap(), entry["endOffset"].as_u64().unwrap());
        let bytes = unpacked(&blob[from as usize..to as usize]);
        assert_eq!(Digest::sha256(&bytes).to_string(), entry["digest"].as_str().unwrap(), "end of {entry}");
    }
    let small = entries.iter().find(|entry| entry["name"] == "etc/small").unwrap();
    assert_eq!(small["xattrs"]["user.a"], "AXZhbHVl");
    assert_eq!((&small["mode"], &small["uid"], &small["gid"]), (&0o4755.into(), &7.into(), &8.into()));
    assert_eq!(small["modtime"], "2023-11-14T22:13:20Z");
    // the archive once more, of the rows and the files
    let rows = unpacked(part(&split));
    assert_eq!(rows.len() as u64, split[2]);
    let mut again = Vec::new();
    for (at, row) in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).enumerate() {
        let row: Value = serde_json::from_slice(row).unwrap();
        assert_eq!(row["position"], at);
        match row["type"].as_u64().unwrap() {
            2 => again.extend(
                base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    row["payload"].as_str().unwrap(),
                )
                .unwrap(),
            ),
            _ => again.extend(
                found.iter().find(|(name, _)| row["name"] == **name).map_or(&[][..], |(_, bytes)| bytes),
            ),
        }
    }
    assert!(again == archive, "the tar-split gives the archive again");
    // what the footer says is what the annotations say
    let bare = Descriptor { annotations: Default::default(), ..layer.descriptor.clone() };
    assert_eq!(annotate(&bare, &file, Chunking::ZstdChunked, 0).unwrap(), Some(layer.descriptor));
    assert_eq!(annotate(&bare, &file, Chunking::Estargz, 0).unwrap(), None);
}

#[test]
fn estargz_is_a_gzip_layer_with_its_table_inside() {
    let archive = archive();
    let Written { layer, blob, file, .. } = written(&archive, Chunking::Estargz, Some(9)).unwrap();
    let plain = unpacked(&blob);
    assert_eq!(layer.diff_id, Digest::sha256(&plain));
    assert_eq!(layer.archive_bytes, plain.len() as u64);
    assert_eq!(layer.descriptor.annotations[UNCOMPRESSED_SIZE], plain.len().to_string());
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[..4], &[0x1f, 0x8b, 8, 4]);
    assert_eq!(&footer[32..38], b"STARGZ");
    let at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    let member = |bytes: &[u8]| {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    };
    let table = member(&blob[at..]);
    let [(name, json)] = &expected(&table)[..] else { panic!("one file") };
    assert_eq!(name, "stargz.index.json");
    assert_eq!(Digest::sha256(json).to_string(), layer.descriptor.annotations[TOC_DIGEST]);
    let toc: Value = serde_json::from_slice(json).unwrap();
    let mut found = files(&toc, &blob, &member);
    assert_eq!(found.remove(0), (".no.prefetch.landmark".to_owned(), vec![0xf]));
    assert_eq!(found, expected(&archive));
    // whoever knows nothing of it finds a layer with the two files more
    let read = layer::index(&plain[..], None).unwrap();
    assert_eq!(read.toc.entries().len(), layer::index(&archive[..], None).unwrap().toc.entries().len() + 2);
    let bare = Descriptor { annotations: Default::default(), ..layer.descriptor.clone() };
    let described = annotate(&bare, &file, Chunking::Estargz, layer.archive_bytes).unwrap();
    assert_eq!(described, Some(layer.descriptor.clone()));
    // made of itself it is itself: what its writer added is no part of what it is made of
    let again = written(&plain, Chunking::Estargz, Some(9)).unwrap();
    assert_eq!(again.layer, layer);
}

#[test]
fn what_no_table_can_tell_is_said() {
    let entry = |name: &[u8], kind: u8| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let twice = [entry(b"a", b'0'), entry(b"a", b'0')].concat();
    let global = [entry(b"pax", b'g'), entry(b"a", b'0')].concat();
    for (bytes, words) in [(twice, "twice"), (entry(b"\xff", b'0'), "UTF-8"), (global, "header for all")] {
        for chunking in [Chunking::Estargz, Chunking::ZstdChunked] {
            let error = written(&bytes, chunking, None).err().expect(words);
            assert!(
                matches!(error, ChunkError::Unchunkable(_)) && error.to_string().contains(words),
                "{error}"
            );
        }
    }
    let cut = &archive()[..CHUNK_BYTES + 5000];
    assert!(matches!(written(cut, Chunking::ZstdChunked, None), Err(ChunkError::Layer(_))), "cut off");
}

#[test]
fn ends_that_lie_are_none() {
    let bytes = |blob: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(blob).unwrap();
        (Descriptor::of("x", blob), file)
    };
    let Written { blob, .. } = written(&archive(), Chunking::ZstdChunked, None).unwrap();
    for (at, value) in [(64, 0xff), (57, 0xff), (40, 9)] {
        let mut wrong = blob.clone();
        let place = wrong.len() - at;
        wrong[place] = value;
        wrong[place + 7] = value;
        let (descriptor, file) = bytes(&wrong);
        assert_eq!(annotate(&descriptor, &file, Chunking::ZstdChunked, 0).unwrap(), None, "{at}");
    }
    for short in [&b""[..], b"x", &[0; 64]] {
        let (descriptor, file) = bytes(short);
        for chunking in [Chunking::Estargz, Chunking::ZstdChunked] {
            assert_eq!(annotate(&descriptor, &file, chunking, 0).unwrap(), None);
        }
    }
    let (_, file) = bytes(b"abc");
    assert!(file.read_exact_at(&mut [0; 3], 0).is_ok());
}
