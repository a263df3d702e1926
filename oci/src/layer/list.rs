//! What an archive says of its paths, one after the other, for whoever shows them and keeps none of the bytes.

use super::{
    LayerError,
    archive::Archive,
    copied::copy_digested,
    describe::describe,
    entry::{Entry, Kind, join, name_of, parent_of},
};
use std::{
    io::{self, Read},
    ops::ControlFlow,
};

/// Reads the uncompressed archive `source` and hands each of its entries to `take`, which may end it. Paths are as the archive
/// writes them, cleaned; a deletion comes as [`Kind::Whiteout`], and a mark that a folder hides what is below it as that folder,
/// opaque and implicit. The archive is hostile: whoever calls this bounds what it reads and what it keeps.
pub fn list(
    source: impl Read,
    take: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LayerError> {
    let mut archive = Archive::new(source);
    while let Some(item) = archive.next_item().map_err(LayerError::Archive)? {
        let mut entry = describe(&item)?;
        if entry.kind == Kind::File {
            entry.content = Some(copy_digested(&mut archive, &mut io::sink(), &entry)?);
        }
        let Some(entry) = meant(entry) else { continue };
        if take(entry).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What an entry means where its name is one of the marks for deletions (image-spec `layer.md`, "Whiteouts"); `None` for aufs's
/// own book-keeping.
fn meant(mut entry: Entry) -> Option<Entry> {
    let folder = parent_of(&entry.path).unwrap_or_default().to_vec();
    match name_of(&entry.path) {
        b".wh..wh..opq" => {
            let mut opaque = Entry::new(folder, Kind::Directory, 0o755);
            (opaque.opaque, opaque.implicit) = (true, true);
            Some(opaque)
        }
        name if name.starts_with(b".wh..wh.") => None,
        name => match name.strip_prefix(b".wh.") {
            Some(deleted) => {
                let mut whiteout = Entry::new(join(&folder, deleted), Kind::Whiteout, 0);
                whiteout.mtime = entry.mtime;
                Some(whiteout)
            }
            None => {
                // a hard link's target is a path of the archive too
                if entry.kind == Kind::Hardlink {
                    entry.link = entry.link.strip_prefix(b"./").unwrap_or(&entry.link).to_vec();
                }
                Some(entry)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, *bytes).expect("an entry");
        }
        builder.into_inner().expect("an archive")
    }

    #[test]
    fn entries_come_as_they_are_meant() {
        use tar::EntryType::{Directory, Regular};
        let bytes = archive(&[
            ("etc/", Directory, b""),
            ("etc/.wh.gone", Regular, b""),
            ("opt/.wh..wh..opq", Regular, b""),
            (".wh..wh.plnk", Regular, b""),
            ("etc/hosts", Regular, b"x"),
        ]);
        let mut seen = Vec::new();
        let end = list(&bytes[..], &mut |entry| {
            seen.push((String::from_utf8(entry.path).expect("text"), entry.kind, entry.opaque));
            ControlFlow::Continue(())
        });
        assert!(end.expect("read").is_continue());
        let expected = [
            ("etc", Kind::Directory, false),
            ("etc/gone", Kind::Whiteout, false),
            ("opt", Kind::Directory, true),
            ("etc/hosts", Kind::File, false),
        ];
        assert_eq!(seen, expected.map(|(path, kind, opaque)| (path.to_owned(), kind, opaque)));
        let mut count = 0;
        let end = list(&bytes[..], &mut |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert!(end.expect("read").is_break() && count == 1);
        assert!(list(&bytes[..1800], &mut |_| ControlFlow::Continue(())).is_err(), "cut off");
    }
}
