//! Images as podman, buildah and skopeo write them: `docker://NAME`, `oci:FOLDER` (containers-transports(5)).

use super::Line;
use crate::error::Failure;
use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// What stands before a name that means what it means without.
const NAMES: [&[u8]; 2] = [b"docker://", b"containers-storage:"];
/// What stands before something on the disk.
const ELSEWHERE: [&[u8]; 6] =
    [b"docker-archive:", b"oci-archive:", b"oci:", b"dir:", b"docker-daemon:", b"ostree:"];

/// Takes the words of a line that are images as slipway has them.
pub(super) fn apply(line: &mut Line) -> Result<(), Failure> {
    let count = match line.command.first().map(String::as_str) {
        Some(
            "pull" | "push" | "tags" | "digest" | "referrers" | "delete" | "inspect" | "history" | "rmi"
            | "save" | "tag",
        ) => line.words.len(),
        // what follows is the program's
        Some("run") => line.words.len().min(1),
        _ => 0,
    };
    for word in &mut line.words[..count] {
        let bytes = word.as_bytes();
        if let Some(name) = NAMES.iter().find_map(|before| bytes.strip_prefix(*before)) {
            *word = OsString::from_vec(name.to_vec());
            continue;
        }
        let rest = ELSEWHERE.iter().find_map(|before| bytes.strip_prefix(*before));
        // `oci:1` may be an image that is called so; no tag has a slash
        if rest.is_some_and(|rest| rest.contains(&b'/') || rest.contains(&b':')) {
            let words = format!("`{}` is neither in a registry nor in the store", word.display());
            return Err(Failure::usage(words).with_hint(
                "`slipway save -o FILE IMAGE` writes archives, `slipway load -i FILE` reads them and layouts",
            ));
        }
    }
    Ok(())
}
