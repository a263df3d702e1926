//! Whole sandboxes: what a command sees, how it ends, what stays behind.

use std::fs;

use slipway_runtime::{Error, Exit, spawn};

use crate::Case;
use crate::support::{Scratch, output, script, spec, succeed};

pub(crate) const CASES: &[Case] = cases! {
    commands_run_and_tell_their_status;
    changes_land_in_the_upper_folder;
    a_missing_command_is_told_apart_from_a_broken_one;
};

fn commands_run_and_tell_their_status() {
    let scratch = Scratch::new();
    for (text, exit) in
        [("exit 0", Exit::Code(0)), ("exit 42", Exit::Code(42)), ("kill -TERM $$; exit 7", Exit::Code(7))]
    {
        for root in [scratch.directory(), scratch.overlay(&format!("o{}", text.len()))] {
            assert_eq!(output(script(root, text)).unwrap().0, exit, "{text}");
        }
    }
    let mut running = spawn(&script(scratch.directory(), "sleep 100")).unwrap();
    running.kill();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    assert_eq!(running.wait().unwrap().status(), 137);
}

fn changes_land_in_the_upper_folder() {
    let scratch = Scratch::new();
    succeed(script(scratch.overlay("w"), "echo hello > /etc/new; rm /etc/not-executable"));
    assert_eq!(fs::read_to_string(scratch.path("w-upper/etc/new")).unwrap(), "hello\n");
    assert!(scratch.path("root/etc/not-executable").exists());
    let upper: Vec<_> =
        fs::read_dir(scratch.path("w-upper")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(upper, ["etc"], "nothing of the sandbox's own is left in the layer");
}

fn a_missing_command_is_told_apart_from_a_broken_one() {
    let scratch = Scratch::new();
    let start = |args: &[&str]| spawn(&spec(scratch.directory(), args)).unwrap_err();
    let missing = [&["nope"][..], &["/bin/nope"], &["/etc/not-executable/x"]];
    for args in missing {
        let error = start(args);
        assert!(matches!(error, Error::CommandNotFound { .. }), "{error:?}");
        assert_eq!(error.exit_status(), 127);
    }
    for args in [&["/etc/not-executable"][..], &["/etc"]] {
        let error = start(args);
        assert!(matches!(error, Error::NotExecutable { .. }), "{error:?}");
        assert_eq!(error.exit_status(), 126);
    }
    let mut spec = script(scratch.directory(), "true");
    spec.process.cwd = "/missing".into();
    assert!(matches!(spawn(&spec), Err(Error::Cwd { .. })));
}
