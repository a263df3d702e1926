//! What the command of `run` has for standard streams (issue 7, A7): pipes of its own, whatever the caller has.

use crate::support::{Slipway, run, run_with_input, terminal};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

/// Tells of each stream what it is, and tries to read from the output sides.
const WHAT: &str = "for n in 0 1 2; do test -t $n && echo terminal; readlink /proc/self/fd/$n; done | \
                    sed 's/[:[].*//' | tr '\\n' ' '; (tty; : < /dev/tty) 2>&1 | grep -c -e 'not a tty' -e 'No such device'";

fn give(command: &mut Command, streams: [bool; 3], terminal: &File) {
    let of = |is_terminal| match is_terminal {
        true => Stdio::from(terminal.try_clone().unwrap()),
        false => Stdio::piped(),
    };
    command.stdin(if streams[0] { of(true) } else { Stdio::null() });
    command.stdout(of(streams[1])).stderr(of(streams[2]));
}

/// What is written to a terminal by a command that holds nothing else of it.
fn seen_on(mut ours: File, theirs: File, command: &mut Command) -> (Option<i32>, String) {
    let child = command.spawn().unwrap();
    // only the command's own sides are left
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(theirs);
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    // the last read of a terminal whose other side is gone fails with EIO
    while let Ok(count @ 1..) = ours.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
    }
    let output = child.wait_with_output().unwrap();
    seen.extend(output.stdout);
    seen.extend(output.stderr);
    (output.status.code(), String::from_utf8(seen).unwrap())
}

#[test]
fn the_callers_terminal_is_never_the_commands() {
    let slipway = Slipway::new();
    for which in 1..8 {
        let streams = [which & 1 != 0, which & 2 != 0, which & 4 != 0];
        for interactive in [false, true] {
            let (ours, theirs) = terminal();
            let mut flags = vec!["run", "--rm"];
            flags.extend(interactive.then_some("-i"));
            let mut command = slipway.command([&flags[..], &["base", "sh", "-c", WHAT]].concat());
            give(&mut command, streams, &theirs);
            let (code, seen) = seen_on(ours, theirs, &mut command);
            let input = if interactive { "pipe" } else { "/dev/null" };
            // 1 of the loop is its own pipe to sed
            assert_eq!(seen.trim(), format!("{input} pipe pipe 2"), "{streams:?} {interactive} {code:?}");
        }
    }
}

#[test]
fn what_is_typed_reaches_the_command_only_when_asked() {
    let slipway = Slipway::new();
    for (flags, expected) in [(&["run", "--rm", "-i"][..], "got typed\r\n"), (&["run", "--rm"], "\ngot\r\n")]
    {
        let (mut ours, theirs) = terminal();
        ours.write_all(b"typed\n").unwrap();
        let mut command =
            slipway.command([flags, &["base", "sh", "-c", "read line; echo got $line; exit 7"]].concat());
        give(&mut command, [true; 3], &theirs);
        let (code, seen) = seen_on(ours, theirs, &mut command);
        assert_eq!(code, Some(7), "{seen}");
        assert!(seen.ends_with(expected), "{seen:?}");
    }
}

#[test]
fn both_outputs_keep_their_order_where_they_lead_to_one_place() {
    let slipway = Slipway::new();
    let script = "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 3";
    let expected: String = (0..500).map(|i| format!("out {i}\nerr {i}\n")).collect();
    let start = |stdout: Stdio, stderr: Stdio| {
        let mut command = slipway.command(["run", "--rm", "base", "sh", "-c", script]);
        command.stdout(stdout).stderr(stderr).stdin(Stdio::null());
        command
    };
    let path = slipway.path("both");
    let file = File::create(&path).unwrap();
    let status = start(file.try_clone().unwrap().into(), file.into()).status().unwrap();
    assert_eq!((status.code(), fs::read_to_string(&path).unwrap()), (Some(3), expected.clone()));

    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = start(writer.try_clone().unwrap().into(), writer.into()).spawn().unwrap();
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!((child.wait().unwrap().code(), seen), (Some(3), expected.clone()));

    let (ours, theirs) = terminal();
    let mut command = start(theirs.try_clone().unwrap().into(), theirs.try_clone().unwrap().into());
    let (code, seen) = seen_on(ours, theirs, &mut command);
    assert_eq!((code, seen.replace("\r\n", "\n")), (Some(3), expected));
}

#[test]
fn a_file_that_takes_the_output_keeps_its_mode_and_owner() {
    let slipway = Slipway::new();
    let path = slipway.path("output");
    let file = File::create(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let script = "for n in 0 1 2; do chmod 4777 /proc/self/fd/$n; chown 5:6 /proc/self/fd/$n; done 2>/dev/null; echo out";
    let mut command = slipway.command(["run", "--rm", "-i", "base", "sh", "-c", script]);
    let input = File::open(&path).unwrap();
    command.stdin(input).stdout(file.try_clone().unwrap()).stderr(file);
    assert!(command.status().unwrap().success());
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid()),
        "{:o}",
        after.mode()
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "out\n");
}

#[test]
fn any_user_opens_its_output_by_name() {
    let slipway = Slipway::new();
    let script = "echo one > /dev/stdout; echo two >> /dev/stderr; echo three > /proc/self/fd/1";
    let words = ["run", "--rm", "-u", "1000:1000", "base", "sh", "-c", script];
    let ended = slipway.run(words);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("one\nthree\n", "two\n"));
    let path = slipway.path("file");
    let file = File::create(&path).unwrap();
    let status = slipway.command(words).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    let (ours, theirs) = terminal();
    let mut command = slipway.command(words);
    give(&mut command, [true; 3], &theirs);
    assert_eq!(seen_on(ours, theirs, &mut command), (Some(0), "one\r\ntwo\r\nthree\r\n".to_owned()));
}

#[test]
fn a_reader_that_leaves_ends_the_writer() {
    let slipway = Slipway::new();
    let mut command = slipway.command(["run", "--rm", "base", "sh", "-c", "yes; exit 0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!((&first, child.wait().unwrap().code()), (b"y\n", Some(0)));
}

#[test]
fn more_than_a_pipe_holds_goes_through_both_ways() {
    let slipway = Slipway::new();
    let input: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number as u8).to_le_bytes()).collect();
    let mut command = slipway.command(["run", "--rm", "-i", "base", "sh", "-c", "cat; echo end >&2"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), input.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    assert_eq!(output.stderr, b"end\n");
}

#[test]
fn streams_that_are_closed_or_do_not_sleep_are_streams() {
    let slipway = Slipway::new();
    let binary = slipway.command(["x"]).get_program().to_owned();
    let root = slipway.root.to_str().unwrap().to_owned();
    let shell = |redirection: &str| {
        let text =
            format!("\"$0\" --root \"$1\" run --rm -i base sh -c 'cat; echo out; exit 4' {redirection}");
        run(Command::new("sh").args(["-c", &text]).arg(&binary).arg(&root).stdin(Stdio::null()))
    };
    for (redirection, stdout) in [("<&-", "out\n"), (">&-", ""), ("2>&-", "out\n"), ("<&- >&- 2>&-", "")] {
        let ended = shell(redirection);
        assert_eq!(
            (ended.code(), ended.stdout.as_str()),
            (Some(4), stdout),
            "{redirection}: {}",
            ended.stderr
        );
    }
    // as a pipe of node's or of an event loop is
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut command =
        slipway.command(["run", "--rm", "base", "sh", "-c", "yes 0123456789 | head -c 1000000"]);
    let mut child = command.stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    drop(command);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!((child.wait().unwrap().code(), seen.len()), (Some(0), 1_000_000));
    let ended = run_with_input(&mut slipway.command(["run", "--rm", "-i", "base", "true"]), &[b'x'; 300_000]);
    assert_eq!(ended.code(), Some(0), "a command that reads nothing ends: {}", ended.stderr);
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    let slipway = Slipway::new();
    let mut command = slipway.command(["run", "--rm", "base", "echo", "lost"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("output") && words.contains("No space left"), "{words}");
    assert_eq!(output.status.code(), Some(125));
}
