//! What descends from a process (proc_pid_stat(5)).

use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// The children of a process.
pub(crate) fn of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    let is_child = |stat: String| {
        // the name may hold anything
        let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        field == Some(parent)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = entries.filter(|entry| fs::read_to_string(entry.path().join("stat")).is_ok_and(is_child));
    children.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Ends a process.
pub(crate) fn end(process: Pid) {
    // one that has ended already is what was wanted
    let _ = kill_process(process, Signal::KILL);
}

/// Ends a process and what descends from it. Each stops before it is asked for its children, so that none is made
/// meanwhile and handed to another parent.
pub(crate) fn end_all(process: Pid) {
    let _ = kill_process(process, Signal::STOP);
    let children = of(process);
    end(process);
    children.into_iter().for_each(end_all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_whole_family_ends() {
        let mut shell =
            Command::new("sh").args(["-c", "sleep 1000 & (sleep 1000; true) & wait"]).spawn().expect("sh");
        let pid = Pid::from_child(&shell);
        let family =
            || of(pid).into_iter().flat_map(|child| [vec![child], of(child)].concat()).collect::<Vec<_>>();
        let start = Instant::now();
        while family().len() < 3 {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
        let all = family();
        end_all(pid);
        assert!(!shell.wait().expect("ended").success());
        let lives = |pid: &Pid| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        };
        while all.iter().any(lives) {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
