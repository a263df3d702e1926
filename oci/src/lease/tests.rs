use super::*;
use std::process::{Command, Stdio};

fn leases() -> (tempfile::TempDir, Leases) {
    let top = tempfile::tempdir().expect("folder");
    let leases = Leases::open(&top.path().join("leases")).expect("leases");
    (top, leases)
}

/// Leaves a lease as a killed process does: the same file is there and its owner's descriptor is closed.
fn die(lease: Lease) -> String {
    let (id, path) = (lease.id().to_owned(), lease.path.clone());
    let aside = path.with_file_name("aside");
    fs::hard_link(&path, &aside).expect("second name");
    drop(lease);
    fs::rename(aside, path).expect("left over");
    id
}

fn note(kind: &str, value: &str) -> Note {
    Note { kind: kind.to_owned(), value: value.to_owned() }
}

#[test]
fn the_living_are_listed_and_not_swept() {
    let (_top, leases) = leases();
    let lease = leases.hold().expect("held");
    lease.note("cgroup", "/sys/fs/cgroup/a b").expect("noted");
    lease.note("cgroup", "/sys/fs/cgroup/a b").expect("twice is once");
    lease.note("blob", "sha256:00").expect("noted");
    let held = leases.list().expect("list");
    let notes = vec![note("cgroup", "/sys/fs/cgroup/a b"), note("blob", "sha256:00")];
    assert_eq!(held, [Held { id: lease.id().to_owned(), alive: true, notes }]);
    assert_eq!(leases.sweep(|_| panic!("nobody is dead")).expect("sweep"), 0);
    drop(lease);
    assert!(leases.list().expect("list").is_empty());
}

#[test]
fn the_dead_are_swept_once_and_the_lease_goes_last() {
    let (_top, leases) = leases();
    let lease = leases.hold().expect("held");
    lease.note("path", "x").expect("noted");
    let id = die(lease);
    let error = leases.sweep(|dead| Err(failed("remove", Path::new(&dead.id))(io::Error::other("busy"))));
    assert!(error.is_err());
    assert!(leases.exists(&id).expect("exists"), "what it held is still there, so is the lease");
    let mut seen = Vec::new();
    let swept = leases.sweep(|dead| {
        seen.push(dead.clone());
        Ok(())
    });
    assert_eq!(swept.expect("sweep"), 1);
    assert_eq!(seen, [Held { id: id.clone(), alive: false, notes: vec![note("path", "x")] }]);
    assert!(!leases.exists(&id).expect("exists"));
}

#[test]
fn one_lease_that_cannot_be_swept_does_not_stop_the_others() {
    let (_top, leases) = leases();
    let ids: Vec<String> = (0..3).map(|_| leases.hold().expect("held")).map(die).collect();
    let mut seen = 0;
    let result = leases.sweep(|dead| {
        seen += 1;
        match dead.id == ids[1] {
            true => Err(failed("remove", Path::new("x"))(io::Error::other("busy"))),
            false => Ok(()),
        }
    });
    assert!(result.is_err());
    assert_eq!(seen, 3);
    assert_eq!(leases.list().expect("list").len(), 1);
}

#[test]
fn half_a_line_is_no_note() {
    assert_eq!(parse(b"a 1\nb 2"), [note("a", "1")]);
    assert_eq!(parse(b"half"), []);
    assert_eq!(parse(b""), []);
    assert_eq!(parse(b"\xff x\nnospace\na 1 2\n"), [note("a", "1 2")]);
}

#[test]
fn names_say_whose_they_are() {
    let (_top, leases) = leases();
    let lease = leases.hold().expect("held");
    for kind in ["blob", "with-dash", ""] {
        assert_eq!(owner_of(&lease.temporary_name(kind)), Some(lease.id()));
    }
    assert_ne!(lease.temporary_name("x"), lease.temporary_name("x"));
    // names of earlier versions, and of others
    for name in ["layer-4194304999-1-0", "x", "a-b-c", "blob-..-0", "x-0123456789abcdeF-0"] {
        assert_eq!(owner_of(name), None, "{name}");
    }
}

#[test]
fn an_id_is_held_once() {
    let (_top, leases) = leases();
    let id = "0123456789abcdef0123456789abcdef";
    let lease = leases.hold_as(id).expect("held");
    assert!(matches!(leases.hold_as(id), Err(LeaseError::Taken { .. })));
    die(lease);
    assert!(matches!(leases.hold_as(id), Err(LeaseError::Taken { .. })), "the dead one's things come first");
    leases.sweep(|_| Ok(())).expect("sweep");
    leases.hold_as(id).expect("free again");
}

#[test]
fn holders_and_sweepers_do_not_meet() {
    let (_top, leases) = leases();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                leases.sweep(|_| Ok(())).expect("sweep");
            }
        });
        for _ in 0..300 {
            let lease = leases.hold().expect("held");
            lease.note("x", "y").expect("noted");
            assert!(is_at(&lease.file, &lease.path).expect("look"), "a sweeper took the lease of the living");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(leases.list().expect("list").is_empty());
}

/// A program that was executed holds nothing: the lock ends with the program that took it.
#[test]
fn executed_programs_hold_nothing() {
    let (_top, leases) = leases();
    let lease = leases.hold().expect("held");
    let mut child = Command::new("sleep")
        .arg("100")
        .stdin(Stdio::null())
        .spawn()
        .expect("a program that outlives the lease");
    die(lease);
    // a child of another test holds a copy of every descriptor for the moment between its fork and its exec
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut swept = leases.sweep(|_| Ok(())).expect("sweep");
    while swept == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
        swept = leases.sweep(|_| Ok(())).expect("sweep");
    }
    let outlived = child.try_wait().expect("look").is_none();
    child.kill().expect("kill");
    child.wait().expect("reap");
    assert_eq!((swept, outlived), (1, true));
}

/// The same folder from another pid namespace: what lives there is not swept here, and is swept once it was killed.
#[test]
fn privileged_a_lease_of_another_pid_namespace_is_alive() {
    let (top, leases) = leases();
    let id = "00000000000000aa";
    let path = top.path().join("leases").join(id);
    let script =
        format!("exec 9>>{0}; flock -x 9; echo 'path x' >&9; echo ready; exec sleep 100", path.display());
    let mut child = match Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => return slipway_skip::skip("`unshare` is not installed"),
    };
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).expect("read");
    if line != "ready\n" {
        let _ = child.wait();
        return slipway_skip::skip("there is no right to make namespaces");
    }
    let held = leases.list().expect("list");
    let swept = leases.sweep(|_| Ok(())).expect("sweep");
    child.kill().expect("kill");
    child.wait().expect("reap");
    assert_eq!((held[0].alive, swept), (true, 0));
    // the namespace dies with its first process a moment later
    for _ in 0..500 {
        if leases.sweep(|_| Ok(())).expect("sweep") == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the lease of a killed namespace is never swept");
}
