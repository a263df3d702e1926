//! A base image's root file system: real Debian where it can be had, the host's own shell and compiler otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{find, output, quiet};
use crate::{Failure, failed, house};

/// Where the machine's apt finds its packages.
const SOURCES: [&str; 2] = ["/etc/apt/sources.list.d", "/etc/apt/sources.list"];

/// Programs of the fallback.
const PROGRAMS: &str = "sh bash cat cp ls mkdir rm rmdir mv ln chmod chown echo env id uname head tail sort wc tr cut \
                        sed grep find date test true false sleep touch stat readlink basename dirname printf";

/// A root file system as an archive.
pub(crate) struct Base {
    pub(crate) archive: PathBuf,
    /// What it is, in words.
    pub(crate) description: String,
}

/// The Debian base, made once and kept in target/xtask; the fallback where Debian cannot be had.
pub(crate) fn provide() -> Result<Base, Failure> {
    let folder = house::folder("xtask")?;
    let archive = folder.join("debian-base.tar");
    if archive.exists() {
        return Ok(Base { archive, description: "Debian, made earlier".to_owned() });
    }
    match debian(&archive) {
        Ok(description) => Ok(Base { archive, description }),
        Err(failure) => {
            println!("no Debian base can be made here ({failure}); taking the host's own shell and compiler");
            host(&folder)
        }
    }
}

/// Debian's name for the release that the host runs, or its stable one.
fn suite() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'))
    };
    match (field("ID="), field("VERSION_CODENAME=")) {
        (Some("debian"), Some(name)) => name.to_owned(),
        _ => "stable".to_owned(),
    }
}

fn debian(archive: &Path) -> Result<String, Failure> {
    let suite = suite();
    let unfinished = archive.with_extension("unfinished.tar");
    let _ = fs::remove_file(&unfinished);
    if find("mmdebstrap").is_some() {
        quiet(&mut mmdebstrap(archive, &unfinished, &suite)?)?;
    } else if find("debootstrap").is_some() {
        debootstrap(&unfinished, &suite)?;
    } else {
        return Err(Failure("neither mmdebstrap nor debootstrap is installed".to_owned()));
    }
    fs::rename(&unfinished, archive).map_err(failed("cannot keep the base"))?;
    Ok(format!("Debian {suite}"))
}

/// mmdebstrap with the machine's own sources and fetching options.
fn mmdebstrap(archive: &Path, made: &Path, suite: &str) -> Result<Command, Failure> {
    let options = archive.with_file_name("apt-acquire.conf");
    let dump = output(Command::new("apt-config").args(["dump", "Acquire"])).unwrap_or_default();
    // a list's head has an empty value, which apt would not read back
    let lines: Vec<&str> = dump.lines().filter(|line| !line.ends_with(" \"\";")).collect();
    fs::write(&options, lines.join("\n") + "\n").map_err(failed("cannot write apt's options"))?;
    let mut command = Command::new("mmdebstrap");
    command.arg("--variant=apt").arg(format!("--aptopt={}", options.display())).arg(suite).arg(made);
    let folder = fs::read_dir(SOURCES[0]).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        folder.chain([PathBuf::from(SOURCES[1])]).filter(|path| is_debian(path)).collect();
    files.sort();
    command.args(files);
    Ok(command)
}

/// Whether a file lists Debian's own packages; other vendors' lists have no place in a base.
fn is_debian(path: &Path) -> bool {
    let known = path.extension().is_some_and(|extension| extension == "list" || extension == "sources");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    known && lines.any(|line| line.contains("/debian"))
}

fn debootstrap(archive: &Path, suite: &str) -> Result<(), Failure> {
    let folder = house::empty_folder("xtask/debootstrap")?;
    let mirror = output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]))?;
    let mirror = mirror.lines().next().unwrap_or_default().to_owned();
    quiet(Command::new("debootstrap").args(["--variant=minbase", suite]).arg(&folder).arg(mirror))?;
    pack(&folder, archive)
}

fn pack(folder: &Path, archive: &Path) -> Result<(), Failure> {
    let tar = ["--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-cf"];
    quiet(Command::new("tar").args(tar).arg(archive).arg("-C").arg(folder).arg(".")).map(|_| ())?;
    fs::remove_dir_all(folder).map_err(failed("cannot remove the folder of the base"))
}

/// The host's shell, a few programs, its C compiler if it has one, and every library that they load.
fn host(folder: &Path) -> Result<Base, Failure> {
    let archive = folder.join("host-base.tar");
    let root = house::empty_folder("xtask/host-base")?;
    let mut files: BTreeSet<PathBuf> = PROGRAMS.split_whitespace().filter_map(find).collect();
    let mut folders = Vec::new();
    if let Some(compiler) = find("gcc") {
        let ask = |question: String| output(Command::new(&compiler).arg(question)).map(PathBuf::from);
        files.insert(compiler.clone());
        for program in ["as", "ld", "cc1", "collect2"] {
            files.insert(find(program).map_or_else(|| ask(format!("-print-prog-name={program}")), Ok)?);
        }
        for file in ["crt1.o", "crti.o", "crtn.o", "libc.a", "libc.so", "libc_nonshared.a"] {
            files.insert(ask(format!("-print-file-name={file}"))?);
        }
        folders.push(ask("-print-file-name=include".to_owned())?.with_file_name(""));
        folders.push(PathBuf::from("/usr/include"));
    }
    for file in files.clone() {
        files.extend(libraries(&file));
    }
    for file in &files {
        copy(file, &root)?;
    }
    for source in folders.iter().filter(|folder| folder.is_dir()) {
        let place = root.join(source.strip_prefix("/").unwrap_or(source));
        fs::create_dir_all(&place).map_err(failed("cannot make the base"))?;
        quiet(Command::new("cp").args(["-a", "--no-target-directory"]).arg(source).arg(&place))?;
    }
    for name in ["tmp", "etc", "root", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name)).map_err(failed("cannot make the base"))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")
        .map_err(failed("cannot make the base"))?;
    pack(&root, &archive)?;
    Ok(Base { archive, description: "the host's own shell and libraries".to_owned() })
}

/// The libraries that a program loads, with its loader, as ldd(1) tells.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let text = output(Command::new("ldd").arg(program)).unwrap_or_default();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

/// Copies one file to the same place below `root`, as itself and not as a link.
fn copy(file: &Path, root: &Path) -> Result<(), Failure> {
    let place = root.join(file.strip_prefix("/").unwrap_or(file));
    let made = fs::create_dir_all(place.parent().unwrap_or(root)).and_then(|()| fs::copy(file, &place));
    made.map(|_| ()).map_err(failed(format!("cannot copy `{}`", file.display())))
}
