//! Files that the caller names, as input and for results: whatever a shell can make of them.
//!
//! Every flag and word that takes one is a row of `src/front/files.txt`, which a test in the program holds against its own
//! description; each row is tried here with each kind of file.

use crate::support::server::Server;
use crate::support::user::User;
use crate::support::{Ended, Slipway, base, find, run, run_with_input, skip, start, wait_until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use rustix::process::Signal;
use slipway_skip::need_root;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const TABLE: &str = include_str!("../../src/front/files.txt");

/// One argument that takes a file.
#[derive(Debug)]
struct Row {
    kind: &'static str,
    argument: &'static str,
    content: &'static str,
    line: Vec<&'static str>,
}

impl Row {
    /// The exit status of a line that fails: commands that make containers have docker's.
    fn failure(&self) -> i32 {
        if matches!(self.line[0], "run" | "create") { 125 } else { 1 }
    }
}

fn rows(kind: &str) -> Vec<Row> {
    let rows = TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with('#'));
    let rows = rows.filter_map(|row| {
        let (left, right) = row.split_once(" = ")?;
        let (content, line) = right.split_once(" | ").unwrap();
        let (kind, left) = left.split_once(' ').unwrap();
        let (_, argument) = left.split_once(": ").unwrap();
        Some(Row { kind, argument, content, line: line.split(' ').collect() })
    });
    let rows: Vec<Row> = rows.filter(|row| row.kind == kind).collect();
    assert!(!rows.is_empty(), "{kind}");
    rows
}

/// A bake file whose target is the context.
const BAKE: &str = r#"{"target": {"default": {"context": "context"}}}"#;
/// A recipe that `fmt` and `check --fix` change.
const KEY: &[u8] = include_bytes!("../../src/trust/fixtures/plain.key");
const UNTIDY: &[u8] = b"from   base\nADD a /\n";

/// Where the lines are typed.
struct Place {
    slipway: Slipway,
    folder: PathBuf,
    server: Server,
}

impl Place {
    fn new() -> Place {
        let slipway = Slipway::new();
        let files = [
            ("context/Dockerfile", "FROM base\nCOPY a /\n"),
            ("context/a", "a"),
            ("context/bake.json", BAKE),
        ];
        let folder = slipway.context("here", &files);
        let server = Server::slipway(&slipway, &slipway.path("storage"));
        slipway.ok(["push", "-q", "base", &server.name("base:1")]);
        fs::write(slipway.path("key"), KEY).unwrap();
        slipway.ok(["sign", "--key", slipway.path("key").to_str().unwrap(), &server.name("base:1")]);
        slipway.ok(["build", "-q", folder.join("context").to_str().unwrap()]);
        slipway.ok(["save", "-o", slipway.path("base.tar").to_str().unwrap(), "base"]);
        Place { slipway, folder, server }
    }

    /// What a row's file holds.
    fn content(&self, row: &Row) -> Vec<u8> {
        match row.content {
            "recipe" => b"FROM base\nCOPY a /\n".to_vec(),
            "bakefile" => BAKE.as_bytes().to_vec(),
            "untidy" => UNTIDY.to_vec(),
            "container" => b"no-such-container\n".to_vec(),
            "settings" => b"access = \"open\"\n".to_vec(),
            "secret" => b"a secret".to_vec(),
            "variables" => b"# a comment\nA=from a file\n\nB=\n".to_vec(),
            "profile" => br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_vec(),
            "authorities" => include_bytes!("../../registry/src/client/tests/tls/root.crt").to_vec(),
            "policy" => br#"{"default":[{"type":"insecureAcceptAnything"}]}"#.to_vec(),
            "key" => KEY.to_vec(),
            "public" => include_bytes!("../../src/trust/fixtures/plain.pub").to_vec(),
            "archive" => fs::read(self.slipway.path("base.tar")).unwrap(),
            "rootfs" => fs::read(base::busybox()).unwrap(),
            other => panic!("{other}"),
        }
    }

    /// The row's words with a file's name in them.
    fn words(&self, row: &Row, file: &str) -> Vec<String> {
        let word = |word: &&str| word.replace("FILE", file).replace("REGISTRY", &self.server.address);
        row.line.iter().map(word).collect()
    }

    fn command(&self, row: &Row, file: &str) -> Command {
        let mut command = self.slipway.command(self.words(row, file));
        command.current_dir(&self.folder);
        command
    }

    fn run(&self, row: &Row, file: &str) -> Ended {
        run(&mut self.command(row, file))
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    /// What stands in the folder beside what the test put there.
    fn others(&self, known: &[&str]) -> Vec<String> {
        let names = fs::read_dir(&self.folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "context" && !known.contains(&name.as_str())).collect()
    }
}

fn is_container_id(bytes: &[u8]) -> bool {
    bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit)
}

/// Whether the result is what the row says that it is.
#[track_caller]
fn check(row: &Row, bytes: &[u8], how: &str) {
    let text = String::from_utf8_lossy(bytes);
    let right = match row.content {
        "id" => text.starts_with("sha256:") && bytes.len() == 71,
        "named" => text.trim_end().rsplit_once('@').is_some_and(|(_, digest)| digest.len() == 71),
        "tar" => tar::Archive::new(bytes).entries().is_ok_and(|entries| entries.count() > 0),
        "container-id" => is_container_id(bytes),
        "json" => serde_json::from_slice::<serde_json::Value>(bytes).is_ok(),
        "archive" => {
            let mut archive = tar::Archive::new(bytes);
            archive.entries().unwrap().all(|entry| entry.is_ok()) && bytes.len() > 10_000
        }
        "page" => text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"),
        "untidy" => text.starts_with("FROM base\n") || text.ends_with("COPY a /\n"),
        other => panic!("{other}"),
    };
    assert!(right, "{row:?} {how}: {} bytes: {text:.300}", bytes.len());
}

#[test]
fn every_input_may_be_whatever_a_shell_makes() {
    let place = Place::new();
    let bash = find("bash");
    for (number, row) in rows("in").iter().enumerate() {
        let bytes = place.content(row);
        fs::write(place.folder.join("plain"), &bytes).unwrap();
        symlink("plain", place.folder.join(format!("link{number}"))).unwrap();
        place.run(row, "plain").ok();
        place.run(row, &format!("link{number}")).ok();
        let fifo = place.fifo(&format!("fifo{number}"));
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || fs::write(fifo, bytes)
        });
        place.run(row, &format!("fifo{number}")).ok();
        // a reader that has what it wants may leave
        let _ = writer.join().unwrap();
        for name in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
            run_with_input(&mut place.command(row, name), &bytes).ok();
            let input = fs::File::open(place.folder.join("plain")).unwrap();
            let ended = start(place.command(row, name).stdin(input)).wait();
            ended.ok();
        }
        if let Some(bash) = &bash {
            let line = place.words(row, "<(cat plain)").join(" ");
            let program = crate::support::binary();
            let mut command = Command::new(bash);
            command.args(["-c", &format!("exec {} {line}", program.display())]);
            let known = place.slipway.command([""; 0]);
            command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
            run(command.current_dir(&place.folder)).ok();
        }
    }
}

#[test]
fn every_input_that_cannot_be_read_is_named_with_its_flag() {
    let place = Place::new();
    fs::create_dir(place.folder.join("folder")).unwrap();
    let large = fs::File::create(place.folder.join("large")).unwrap();
    large.set_len(64 << 20).unwrap();
    fs::write(place.folder.join("garbage"), b"\x01\x02 neither one thing\nnor the other \xff\n").unwrap();
    symlink("nothing", place.folder.join("dangling")).unwrap();
    symlink("loop", place.folder.join("loop")).unwrap();
    for row in rows("in").iter().chain(&rows("inout")) {
        let archive = matches!(row.content, "archive" | "rootfs");
        let any_text = matches!(row.content, "secret" | "variables");
        let cases = [
            ("missing/file", "No such file", true),
            ("dangling", "No such file", true),
            ("context/Dockerfile/x", "Not a directory", true),
            ("loop", "symbolic links", true),
            // memory at address 0: it opens, and no byte of it can be read
            ("/proc/self/mem", "", true),
            // folders are as good as archives
            ("folder", if archive { "" } else { "irectory" }, row.content != "rootfs"),
            ("large", "more than", !archive),
            ("garbage", "", !any_text),
        ];
        for (name, part, tried) in cases {
            if !tried {
                continue;
            }
            let ended = place.run(row, name);
            assert!(!ended.status.success(), "{row:?} with {name}");
            // a check reports what it finds in its result
            let message = format!("{}{}", ended.stdout, ended.stderr);
            assert!(message.contains(name) && message.contains(part), "{row:?} with {name}: {message}");
            let flag = !row.argument.starts_with("--") || message.contains(row.argument);
            // a recipe's mistakes are found in the recipe, whoever named it
            assert!(flag || name == "garbage", "{row:?} with {name}: {message}");
            let lines = ended.stderr.lines().count();
            assert!((1..=3).contains(&lines) || name == "garbage", "{row:?} with {name}: {message}");
        }
    }
}

#[test]
fn privileged_every_input_of_others_is_refused_with_its_name() {
    need_root!();
    let Some(user) = User::new() else { return skip("there is no plain user") };
    user.context(&[("Dockerfile", "FROM scratch\n")]);
    user.ok(["import", user.path("base.tar").to_str().unwrap(), "base"]);
    let slipway = Slipway::empty();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    fs::write(user.path("closed"), "FROM scratch\n").unwrap();
    fs::set_permissions(user.path("closed"), PermissionsExt::from_mode(0o600)).unwrap();
    let closed = user.path("closed").to_str().unwrap().to_owned();
    let context = user.path("context").to_str().unwrap().to_owned();
    for row in rows("in").iter().chain(&rows("inout")) {
        let word = |word: &&str| {
            let word = word.replace("FILE", &closed).replace("REGISTRY", &server.address);
            if word == "context" { context.clone() } else { word }
        };
        let ended = user.run(row.line.iter().map(word));
        assert!(!ended.status.success(), "{row:?}");
        let message = ended.stderr;
        assert!(message.contains(&closed) && message.contains("ermission denied"), "{row:?}: {message}");
        let flag = !row.argument.starts_with("--") || message.contains(row.argument);
        assert!(flag && message.lines().count() <= 3, "{row:?}: {message}");
    }
}

/// Whether a thread of a process sleeps in opening a file, which nothing but a FIFO's missing end makes it do for long.
///
/// proc_pid_syscall(5): the number of the call that the thread is in. proc_pid_stat(5): `S` is a sleep that signals end.
fn waits_in_open(pid: u32) -> bool {
    // openat, openat2 and, where it is, open
    let opens: &[&str] = if cfg!(target_arch = "x86_64") { &["257", "437", "2"] } else { &["56", "437"] };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).any(|thread| {
        let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
        let call = read("syscall");
        let state = read("stat").rsplit(") ").next().and_then(|rest| rest.chars().next());
        state == Some('S') && call.split(' ').next().is_some_and(|number| opens.contains(&number))
    })
}

/// Whether a process has a file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == path)
}

#[test]
fn a_signal_ends_the_wait_for_every_file() {
    if fs::read_to_string("/proc/self/syscall").is_err() {
        return skip("this kernel does not say what a process waits in");
    }
    let place = Place::new();
    for (number, row) in rows("in").iter().chain(&rows("out")).enumerate() {
        for (signal, opened) in [(Signal::INT, true), (Signal::INT, false), (Signal::TERM, true)] {
            if row.kind == "out" && opened {
                // what is open can be written: there is no wait
                continue;
            }
            let name = format!("wait{number}-{}-{opened}", signal.as_raw());
            let fifo = place.fifo(&name);
            // with a writer at the other end the wait is in the read, without one in the open
            let other_end = opened.then(|| fs::File::options().read(true).write(true).open(&fifo).unwrap());
            let mut started = start(&mut place.command(row, &name));
            let pid = started.child.id();
            if opened {
                let fifo = fifo.canonicalize().unwrap();
                wait_until("it reads the pipe", || {
                    assert!(started.child.try_wait().unwrap().is_none(), "{row:?}");
                    has_open(pid, &fifo)
                });
            } else {
                wait_until("it opens the pipe", || {
                    assert!(started.child.try_wait().unwrap().is_none(), "{row:?}");
                    waits_in_open(pid)
                });
            }
            started.signal(signal);
            let ended = started.wait();
            assert!(!ended.status.success(), "{row:?} {signal:?}");
            assert!(ended.took < Duration::from_secs(20), "{row:?} {signal:?}: {:?}", ended.took);
            drop(other_end);
        }
    }
}

#[test]
fn every_output_may_be_a_file_a_link_or_nothing_yet() {
    let place = Place::new();
    for row in rows("out").iter().chain(&rows("inout")) {
        let file = place.folder.join("out");
        let fresh = || {
            let _ = fs::remove_file(&file);
            fs::write(&file, UNTIDY).unwrap();
        };
        fresh();
        symlink("out", place.folder.join("link")).unwrap();
        fs::hard_link(&file, place.folder.join("second")).unwrap();
        // another name of the file goes on naming it
        place.run(row, "out").ok();
        check(row, &fs::read(place.folder.join("second")).unwrap(), "hard link");
        let (one, two) = (fs::metadata(&file).unwrap(), fs::metadata(place.folder.join("second")).unwrap());
        assert_eq!((one.nlink(), one.ino()), (2, two.ino()), "{row:?}");
        fs::remove_file(place.folder.join("second")).unwrap();
        for name in ["out", "./out", "link", "context/../link"] {
            fresh();
            fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
            place.run(row, name).ok();
            check(row, &fs::read(&file).unwrap(), name);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640, "{row:?} {name}");
            assert_eq!(fs::read_link(place.folder.join("link")).unwrap(), Path::new("out"), "{row:?}");
        }
        fs::remove_file(&file).unwrap();
        if row.kind == "out" {
            for name in ["out", "link"] {
                place.run(row, name).ok();
                check(row, &fs::read(&file).unwrap(), name);
                assert_eq!(fs::metadata(&file).unwrap().mode() & 0o111, 0, "{row:?}");
                fs::remove_file(&file).unwrap();
            }
        }
        fs::remove_file(place.folder.join("link")).unwrap();
        assert_eq!(place.others(&[]), Vec::<String>::new(), "{row:?}");
    }
}

#[test]
fn privileged_every_output_keeps_owner_mode_and_attributes() {
    need_root!();
    let place = Place::new();
    for row in rows("out").iter().chain(&rows("inout")) {
        for attributes in [false, true] {
            let file = place.folder.join("out");
            fs::write(&file, UNTIDY).unwrap();
            chown(&file, Some(1234), Some(1235)).unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(0o604)).unwrap();
            let mut value = [0; 8];
            if attributes && rustix::fs::setxattr(&file, "user.mine", b"kept", XattrFlags::empty()).is_err() {
                fs::remove_file(&file).unwrap();
                continue;
            }
            place.run(row, "out").ok();
            check(row, &fs::read(&file).unwrap(), "kept");
            let found = fs::metadata(&file).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 1235, 0o604), "{row:?}");
            if attributes {
                let length = rustix::fs::getxattr(&file, "user.mine", &mut value).unwrap();
                assert_eq!(&value[..length], b"kept", "{row:?}");
            }
            fs::remove_file(&file).unwrap();
        }
    }
}

#[test]
fn every_output_may_be_a_pipe_or_a_stream() {
    let place = Place::new();
    let bash = find("bash");
    for (number, row) in rows("out").iter().enumerate() {
        let name = format!("pipe{number}");
        let pipe = place.fifo(&name);
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        place.run(row, &name).ok();
        check(row, &reader.join().unwrap(), "pipe");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{row:?}");
        fs::remove_file(&pipe).unwrap();
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            // a file that standard output goes to already is not begun anew
            let log = place.folder.join("log");
            fs::write(&log, "before\n").unwrap();
            let stream = fs::File::options().append(true).open(&log).unwrap();
            let status = place.command(row, name).stdout(stream).stderr(Stdio::null()).status().unwrap();
            assert!(status.success(), "{row:?} {name}");
            let bytes = fs::read(&log).unwrap();
            let rest = bytes.strip_prefix(b"before\n").unwrap_or_else(|| panic!("{row:?} {name}"));
            let marks: [&[u8]; 3] = [b"sha256:", b"{", b"manifest.json"];
            let seen = marks.iter().any(|mark| rest.windows(mark.len()).any(|part| part == *mark))
                || rest.get(..64).is_some_and(is_container_id);
            assert!(seen, "{row:?} {name}");
            fs::remove_file(&log).unwrap();
        }
        if let Some(bash) = &bash {
            let line = place.words(row, ">(cat > caught; echo > done)").join(" ");
            let program = crate::support::binary();
            let mut command = Command::new(bash);
            command.args(["-c", &format!("{} {line}", program.display())]);
            let known = place.slipway.command([""; 0]);
            command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
            run(command.current_dir(&place.folder)).ok();
            wait_until("the substitution ends", || place.folder.join("done").exists());
            check(row, &fs::read(place.folder.join("caught")).unwrap(), ">(...)");
            fs::remove_file(place.folder.join("done")).unwrap();
            fs::remove_file(place.folder.join("caught")).unwrap();
        }
        assert_eq!(place.others(&[]), Vec::<String>::new(), "{row:?}");
    }
}

#[test]
fn privileged_every_output_may_be_a_device() {
    need_root!();
    let place = Place::new();
    // devices under names of the test's own: the machine's are not put at risk
    let node = |name: &str, minor| {
        let path = place.folder.join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor))
            .map_err(std::io::Error::from)
            .and_then(|()| fs::File::options().write(true).open(&path))
    };
    if node("null", 3).is_err() || node("full", 7).is_err() {
        return skip("devices cannot be made or opened here");
    }
    symlink("null", place.folder.join("link")).unwrap();
    for row in &rows("out") {
        for name in ["null", "./null", "link"] {
            place.run(row, name).ok();
            let found = fs::symlink_metadata(place.folder.join("null")).unwrap();
            assert!(found.file_type().is_char_device() && found.rdev() == makedev(1, 3), "{row:?}");
            assert!(fs::symlink_metadata(place.folder.join("link")).unwrap().is_symlink(), "{row:?}");
        }
        let message = place.run(row, "full").fails(row.failure());
        assert!(message.contains("no space left") && message.contains("`full`"), "{row:?}: {message}");
        let found = fs::symlink_metadata(place.folder.join("full")).unwrap();
        assert!(found.file_type().is_char_device() && found.rdev() == makedev(1, 7), "{row:?}");
    }
    assert_eq!(place.others(&["null", "full", "link"]), Vec::<String>::new());
}

#[test]
fn every_output_that_cannot_be_written_is_found_before_the_work() {
    let place = Place::new();
    fs::create_dir(place.folder.join("folder")).unwrap();
    let unsent = place.server.name("base:unsent");
    for row in &rows("out") {
        for name in ["folder", "folder/", "missing/out", "context/Dockerfile/out", "."] {
            let mut line = place.words(row, name);
            match line[0].as_str() {
                "build" => line.extend(["-t".to_owned(), "unbuilt".to_owned()]),
                "push" => *line.last_mut().unwrap() = unsent.clone(),
                _ => {}
            }
            let message = run(place.slipway.command(line).current_dir(&place.folder)).fails(row.failure());
            assert!(message.contains(row.argument), "{row:?} {name}: {message}");
            assert!(message.contains(&format!("`{name}`")), "{row:?} {name}: {message}");
            assert!(message.lines().count() <= 2, "{row:?} {name}: {message}");
        }
    }
    assert!(!place.slipway.ok(["images"]).contains("unbuilt"), "nothing was built");
    assert!(place.slipway.fails(1, ["pull", &unsent]).contains("base:unsent"), "nothing was sent");
    assert_eq!(place.others(&["folder"]), Vec::<String>::new());
}

#[test]
fn privileged_an_output_of_others_is_found_before_the_work() {
    need_root!();
    let Some(user) = User::new() else { return skip("there is no plain user") };
    let context = user.context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    user.ok(["import", user.path("base.tar").to_str().unwrap(), "base"]);
    fs::write(user.path("closed"), "kept").unwrap();
    fs::set_permissions(user.path("closed"), PermissionsExt::from_mode(0o644)).unwrap();
    let slipway = Slipway::empty();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    for row in &rows("out") {
        // a folder and a file that are root's
        for name in ["new", "closed"] {
            let path = user.path(name).to_str().unwrap().to_owned();
            let word = |word: &&str| {
                let word = word.replace("FILE", &path).replace("REGISTRY", &server.address);
                if word == "context" { context.to_str().unwrap().to_owned() } else { word }
            };
            let mut line: Vec<String> = row.line.iter().map(word).collect();
            if line[0] == "build" {
                line.extend(["-t".to_owned(), "unbuilt".to_owned()]);
            }
            let message = user.run(line).fails(row.failure());
            assert!(message.contains(row.argument) && message.contains(&path), "{row:?}: {message}");
            assert!(message.contains("ermission denied"), "{row:?}: {message}");
        }
    }
    assert!(!user.ok(["images"]).contains("unbuilt"), "nothing was built");
    assert!(!user.run(["pull", &server.name("base:1")]).status.success(), "nothing was sent");
    assert_eq!(fs::read_to_string(user.path("closed")).unwrap(), "kept");
    assert!(!user.path("new").exists());
}

#[test]
fn what_is_no_file_is_said_to_be_none() {
    let place = Place::new();
    let run = |line: &[&str]| run(place.slipway.command(line).current_dir(&place.folder));
    for (line, parts) in [
        (&["build", "--ssh", "default=missing", "context"][..], &["--ssh", "`missing`", "ssh-add"][..]),
        (&["build", "--ssh", "k=context/a", "context"], &["--ssh", "`context/a`", "no socket"]),
        (&["build", "--build-context", "x=missing", "context"], &["--build-context", "`missing`"]),
        (&["build", "context/a"], &["`context/a`", "is not a folder"]),
        (&["check", "--build-arg", "A=b", "missing"], &["`missing`"]),
        (&["man", "context/a"], &["FOLDER", "`context/a`"]),
    ] {
        let ended = run(line);
        assert!(!ended.status.success(), "{line:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{part} for {line:?}: {}", ended.stderr);
        }
    }
    fs::write(place.folder.join("labels"), "a=b\n c d=e\n").unwrap();
    let message = run(&["run", "--rm", "--label-file", "labels", "base", "true"]).fails(125);
    assert!(message.contains("--label-file: `labels`") && message.contains("c d=e"), "{message}");
}
