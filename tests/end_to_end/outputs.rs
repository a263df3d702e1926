//! Files that the caller names, for results and as input: whatever a shell can make of them.

use crate::support::{Slipway, run, start};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use slipway_skip::need_root;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Every command that writes a file: its words with OUT in the file's place, and what the file holds in the end.
const WRITERS: [(&[&str], &[u8]); 6] = [
    (&["build", "-q", "--iidfile", "OUT", "context"], b"sha256:"),
    (&["build", "-q", "--metadata-file", "OUT", "context"], b"{"),
    (&["save", "-o", "OUT", "base"], b""),
    (&["save", "--format", "docker-archive", "--output=OUT", "base"], b""),
    (&["fmt", "OUT"], b"FROM base\n"),
    (&["check", "--fix", "-f", "OUT", "context"], b"FROM   base\nCOPY a /\n"),
];

/// A recipe that `fmt` and `check --fix` change.
const UNTIDY: &str = "from   base\nADD a /\n";

fn place() -> (Slipway, std::path::PathBuf) {
    let slipway = Slipway::new();
    let folder = slipway.context("here", &[("context/Dockerfile", "FROM base\n"), ("context/a", "a")]);
    (slipway, folder)
}

fn words(words: &[&str], output: &str) -> Vec<String> {
    words.iter().map(|word| word.replace("OUT", output)).collect()
}

#[test]
fn bare_names_and_links_and_modes() {
    let (slipway, folder) = place();
    for (number, (writer, start)) in WRITERS.iter().enumerate() {
        let (name, link) = (format!("out{number}"), format!("link{number}"));
        fs::write(folder.join(&name), UNTIDY).unwrap();
        fs::set_permissions(folder.join(&name), fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&name, folder.join(&link)).unwrap();
        for output in [&name, &link] {
            run(slipway.command(words(writer, output)).current_dir(&folder)).ok();
            let bytes = fs::read(folder.join(&name)).unwrap();
            assert!(
                bytes.starts_with(start),
                "{writer:?} {output}: {:.200}",
                String::from_utf8_lossy(&bytes)
            );
            let mode = fs::metadata(folder.join(&name)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o640, "{writer:?} {output}");
            assert!(fs::symlink_metadata(folder.join(&link)).unwrap().is_symlink(), "{writer:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("out") && !name.starts_with("link") && name != "context")
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_pipe_is_written_and_stays_a_pipe() {
    let (slipway, folder) = place();
    for (number, (writer, begins)) in WRITERS[..4].iter().enumerate() {
        let pipe = folder.join(format!("pipe{number}"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        run(slipway.command(words(writer, pipe.to_str().unwrap())).current_dir(&folder)).ok();
        let bytes = read.join().unwrap();
        assert!(!bytes.is_empty() && bytes.starts_with(begins), "{writer:?}");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{writer:?}");
    }
}

#[test]
fn privileged_a_device_is_written_and_stays_a_device() {
    need_root!();
    let (slipway, folder) = place();
    // the device of /dev/null under a name of its own: the machine's own is not put at risk
    let node = folder.join("null");
    if mknodat(CWD, &node, FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3)).is_err()
        || fs::write(&node, "x").is_err()
    {
        return crate::support::skip("devices cannot be made or opened here");
    }
    symlink("null", folder.join("link")).unwrap();
    for (writer, _) in &WRITERS[..4] {
        for output in ["null", "./null", "link"] {
            run(slipway.command(words(writer, output)).current_dir(&folder)).ok();
            let metadata = fs::symlink_metadata(&node).unwrap();
            assert!(metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3), "{writer:?}");
            assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink(), "{writer:?}");
        }
    }
}

#[test]
fn standard_output_by_its_names() {
    let (slipway, folder) = place();
    let whole =
        run(slipway.command(["save", "base"]).current_dir(&folder).stdin(std::process::Stdio::null()));
    let length = whole.ok().len();
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let ended = run(slipway.command(["save", "-o", name, "base"]).current_dir(&folder));
        assert_eq!(ended.ok().len(), length, "{name}");
        let id =
            run(slipway.command(["build", "-q", "--iidfile", name, "context"]).current_dir(&folder)).ok();
        assert_eq!(id.matches("sha256:").count(), 2, "{name}: {id}");
        // a file that standard output goes to already is not begun anew
        let file = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = slipway.command(["build", "--iidfile", name, "context"]);
        assert!(command.current_dir(&folder).stdout(file).status().unwrap().success());
    }
    assert_eq!(fs::read_to_string(folder.join("log")).unwrap().matches("sha256:").count(), 4);
    assert!(!folder.join("-").exists());
}

#[test]
fn what_cannot_be_written_is_found_before_the_work() {
    let (slipway, folder) = place();
    fs::create_dir(folder.join("folder")).unwrap();
    for (writer, flag) in
        [(WRITERS[0].0, "--iidfile"), (WRITERS[1].0, "--metadata-file"), (WRITERS[2].0, "--output")]
    {
        for output in ["folder", "missing/out", "context/Dockerfile/out"] {
            let mut line = words(writer, output);
            if line[0] == "build" {
                line.extend(["-t".to_owned(), "unbuilt".to_owned()]);
            }
            let message = run(slipway.command(line).current_dir(&folder)).fails(1);
            assert!(message.contains(flag) && message.contains(output), "{writer:?}: {message}");
        }
    }
    assert!(!slipway.ok(["images"]).contains("unbuilt"), "nothing was built");
}

#[test]
fn what_the_caller_names_may_be_a_pipe() {
    let (slipway, folder) = place();
    let archive = folder.join("base.tar");
    run(slipway.command(["save", "-o", "base.tar", "base"]).current_dir(&folder)).ok();
    fs::write(folder.join("recipe"), "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s > /out\n")
        .unwrap();
    fs::write(folder.join("value"), "from a pipe").unwrap();
    fs::write(folder.join("vars"), "# a comment\nA=from a pipe\n").unwrap();
    let fifo = |name: &str, content: &Path| {
        let pipe = folder.join(name);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let bytes = fs::read(content).unwrap();
        std::thread::spawn(move || fs::write(pipe, bytes).unwrap())
    };
    let writers = [fifo("f", &folder.join("recipe")), fifo("s", &folder.join("value"))];
    run(slipway
        .command(["build", "-t", "piped", "-f", "f", "--secret", "id=s,src=s", "context"])
        .current_dir(&folder))
    .ok();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(slipway.ok(["run", "--rm", "piped", "cat", "/out"]), "from a pipe");
    let writer = fifo("e", &folder.join("vars"));
    let shown = run(slipway
        .command(["run", "--rm", "--env-file", "e", "base", "sh", "-c", "echo $A"])
        .current_dir(&folder))
    .ok();
    writer.join().unwrap();
    assert_eq!(shown, "from a pipe\n");
    let writer = fifo("l", &archive);
    let loaded = run(slipway.command(["load", "-i", "l"]).current_dir(&folder)).ok();
    writer.join().unwrap();
    assert!(loaded.contains("base"), "{loaded}");
    for name in ["-", "/dev/stdin"] {
        let input = fs::File::open(folder.join("recipe")).unwrap();
        let mut command = slipway.command(["check", "-f", name, "context"]);
        let output = command.current_dir(&folder).stdin(input).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_pipe() {
    let (slipway, folder) = place();
    for (number, line) in [
        &["build", "-f", "PIPE", "context"][..],
        &["build", "--secret", "id=x,src=PIPE", "context"],
        &["build", "--iidfile", "PIPE", "context"],
        &["load", "-i", "PIPE"],
        &["import", "PIPE", "x"],
        &["run", "--rm", "--env-file", "PIPE", "base", "true"],
    ]
    .iter()
    .enumerate()
    {
        let pipe = format!("wait{number}");
        mknodat(CWD, folder.join(&pipe), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let line: Vec<String> = line.iter().map(|word| word.replace("PIPE", &pipe)).collect();
        let started = start(slipway.command(&line).current_dir(&folder));
        // it must have come to the wait, or end anyhow: either way it does not live on
        std::thread::sleep(std::time::Duration::from_millis(300));
        started.signal(rustix::process::Signal::TERM);
        let ended = started.wait();
        assert!(!ended.status.success(), "{line:?}");
        assert!(ended.took < std::time::Duration::from_secs(10), "{line:?}: {:?}", ended.took);
    }
}
