//! What is built: a base of busybox, twenty trivial steps, and a tree of files like a project's.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{find, quiet};
use crate::{Failure, failed, house};

/// Average size of a file, in bytes.
const FILE_BYTES: usize = 10 << 10;

/// Files in one folder.
const FOLDER_FILES: usize = 100;

/// An archive of a root file system with busybox in it.
pub(crate) fn base() -> Result<PathBuf, Failure> {
    let busybox = find("busybox").ok_or_else(|| Failure("busybox is not installed".to_owned()))?;
    let folder = house::empty_folder("bench/base")?;
    let archive = folder.with_extension("tar");
    let made = || -> std::io::Result<()> {
        fs::create_dir(folder.join("bin"))?;
        fs::create_dir(folder.join("tmp"))?;
        fs::copy(&busybox, folder.join("bin/busybox"))?;
        for name in ["sh", "true", "echo", "cat", "ls"] {
            symlink("busybox", folder.join("bin").join(name))?;
        }
        Ok(())
    };
    made().map_err(failed("cannot make the base"))?;
    let options = ["--numeric-owner", "--owner=0", "--group=0", "-cf"];
    quiet(Command::new("tar").args(options).arg(&archive).arg("-C").arg(&folder).arg("."))?;
    Ok(archive)
}

/// Twenty steps that write a line each.
pub(crate) fn run_steps() -> Result<PathBuf, Failure> {
    let folder = house::empty_folder("bench/run")?;
    let steps: String = (1..=20).map(|step| format!("RUN echo {step} > /{step}\n")).collect();
    fs::write(folder.join("Dockerfile"), format!("FROM bench-base\n{steps}"))
        .map_err(failed("cannot write"))?;
    Ok(folder)
}

/// A recipe whose one step makes many small files.
pub(crate) fn run_files() -> Result<PathBuf, Failure> {
    let folder = house::folder("bench/made")?;
    let step =
        "RUN busybox mkdir /made && i=0; while [ $i -lt 5000 ]; do echo $i > /made/$i; i=$((i + 1)); done";
    fs::write(folder.join("Dockerfile"), format!("FROM bench-base\n{step}\n"))
        .map_err(failed("cannot write"))?;
    Ok(folder)
}

/// The same files in another recipe, with a step that runs on them.
pub(crate) fn files_with_step(count: usize) -> Result<PathBuf, Failure> {
    let folder = files(count)?;
    fs::write(folder.join("Dockerfile"), "FROM bench-base\nCOPY tree /tree\nRUN true\n")
        .map_err(failed("cannot write"))?;
    Ok(folder)
}

/// Pseudo-random text that compresses about as source code does, in files of differing sizes.
pub(crate) fn files(count: usize) -> Result<PathBuf, Failure> {
    let folder = house::folder("bench/copy")?;
    fs::write(folder.join("Dockerfile"), "FROM bench-base\nCOPY tree /tree\n")
        .map_err(failed("cannot write"))?;
    let tree = folder.join("tree");
    let last = file(&tree, count - 1);
    if last.exists() && !file(&tree, count).exists() {
        return Ok(folder);
    }
    house::empty_folder("bench/copy/tree")?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..count {
        let path = file(&tree, number);
        let size = FILE_BYTES / 2 + random.below(FILE_BYTES);
        let parent = path.parent().unwrap_or(&tree);
        let made = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text(&mut random, size)));
        made.map_err(failed(format!("cannot write `{}`", path.display())))?;
    }
    Ok(folder)
}

fn file(tree: &Path, number: usize) -> PathBuf {
    tree.join(format!("{:03}/{:05}.txt", number / FOLDER_FILES, number))
}

/// Changes one file.
pub(crate) fn touch(context: &Path, round: usize) -> Result<(), Failure> {
    let path = file(&context.join("tree"), 77);
    let file = fs::OpenOptions::new().append(true).open(&path);
    file.and_then(|mut file| writeln!(file, "round {round} of {}", std::process::id()))
        .map_err(failed("cannot change a file"))
}

/// Words of a small vocabulary between numbers that do not repeat.
fn text(random: &mut Random, size: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "let", "return", "layer", "digest", "=", "match", "(", ")", "{", "}", "self.", "store", "\n    ",
        "->", "&mut", "Option",
    ];
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        match random.below(4) {
            0 => text.extend(format!("{:x} ", random.next()).bytes()),
            _ => text.extend(WORDS[random.below(WORDS.len())].bytes().chain([b' '])),
        }
    }
    text.truncate(size);
    text
}

/// So many bytes of the same kind, drawn from `seed`.
pub(super) fn text_of(seed: u64, size: usize) -> Vec<u8> {
    text(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), size)
}

/// xorshift64: the same files on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_size_and_do_not_repeat() {
        let mut random = Random(1);
        let (first, second) = (text(&mut random, 1000), text(&mut random, 1000));
        assert_eq!((first.len(), second.len()), (1000, 1000));
        assert_ne!(first, second);
    }
}
