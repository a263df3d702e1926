//! A disk without room: a small file system in memory, as root can mount one.

use super::*;
use slipway_oci::Algorithm;
use std::{path::PathBuf, process::Command};

/// A small file system, gone at the end.
struct Small(PathBuf, #[expect(dead_code, reason = "holds the folder")] tempfile::TempDir);

impl Small {
    fn mount(mebibytes: u32) -> Small {
        let outer = tempfile::tempdir().expect("folder");
        let path = outer.path().join("small");
        std::fs::create_dir(&path).expect("folder");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        assert!(mounted.expect("mount").success(), "a tmpfs can be mounted");
        Small(path, outer)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // lazily: an open database of a failed test must not keep it
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn push(storage: &Arc<Storage>, seed: u8, size_bytes: usize) -> Result<Digest, StorageError> {
    let bytes = vec![seed; size_bytes];
    let id = storage.start_upload("a", Algorithm::Sha256)?;
    let mut upload = storage.open_upload("a", &id)?;
    for piece in bytes.chunks(64 << 10) {
        upload.append(piece)?;
    }
    upload.save()?;
    let digest = Digest::sha256(&bytes);
    upload.finish(&digest)?;
    Ok(digest)
}

#[test]
fn privileged_a_full_disk_is_named_and_deletes_mend_it() {
    slipway_skip::need_root!();
    let small = Small::mount(24);
    let storage = Storage::open(&small.0).expect("open");
    for round in 0..3_u8 {
        let mut pushed = Vec::new();
        let error = loop {
            match push(&storage, pushed.len() as u8 + round * 50, 1 << 20) {
                Ok(digest) => pushed.push(digest),
                Err(error) => break error,
            }
            assert!(pushed.len() < 40, "it has to be full at some time");
        };
        assert!(error.is_full(), "{error:?}");
        // the broken session's bytes are free at once
        assert_eq!(std::fs::read_dir(small.0.join("uploads")).expect("list").count(), 0);
        // not a byte left for anything
        let filler = small.0.join("filler");
        let mut file = std::fs::File::create(&filler).expect("filler");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        assert!(push(&storage, 255, 100).expect_err("no room").is_full());
        for digest in &pushed {
            storage.delete_blob("a", digest, &Deletion::by(Author::default())).expect("a delete works");
        }
        std::fs::remove_file(&filler).expect("filler");
        push(&storage, 254, 1 << 20).expect("room again");
        let last = Digest::sha256(&vec![254; 1 << 20]);
        storage.delete_blob("a", &last, &Deletion::by(Author::default())).expect("delete");
    }
}
