//! Times `spawn` and `wait` of a static `true` on an overlay with the full set of mounts.
//!
//! As root: `cargo run --release -p slipway-runtime --example spawn_time [rounds]`. Prints medians in milliseconds; the
//! upper and work folders are made and removed outside of the measured time, as the builder does beside its steps.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use slipway_runtime::{Namespaces, RootFs, SandboxSpec, Seccomp, spawn};

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200);
    let scratch = std::env::temp_dir().join(format!("slipway-spawn-time-{}", std::process::id()));
    let lower = scratch.join("lower");
    for folder in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(lower.join(folder)).expect("a scratch folder can be made");
    }
    fs::copy("/bin/busybox", lower.join("bin/true")).expect("/bin/busybox is static and installed");
    for (name, hosts_network, seccomp) in [
        ("full set, host network, docker's filter", true, Seccomp::Default),
        ("full set, own network, docker's filter", false, Seccomp::Default),
        ("full set, host network, no filter", true, Seccomp::Unconfined),
    ] {
        let mut times: Vec<(Duration, Duration)> =
            (0..rounds).map(|round| once(&scratch, &lower, round, hosts_network, seccomp.clone())).collect();
        times.sort_by_key(|(spawned, ended)| *spawned + *ended);
        let (spawned, ended) = times[rounds / 2];
        let p90 = times[rounds * 9 / 10];
        let total = |(spawned, ended): (Duration, Duration)| (spawned + ended).as_secs_f64() * 1e3;
        println!(
            "{name}: median {:.2} ms (spawn {:.2}, wait {:.2}), p90 {:.2} ms",
            total((spawned, ended)),
            spawned.as_secs_f64() * 1e3,
            ended.as_secs_f64() * 1e3,
            total(p90)
        );
    }
    fs::remove_dir_all(&scratch).expect("the scratch folder can be removed");
}

fn once(
    scratch: &Path,
    lower: &Path,
    round: usize,
    hosts_network: bool,
    seccomp: Seccomp,
) -> (Duration, Duration) {
    let (upper, work) = (scratch.join(format!("upper{round}")), scratch.join(format!("work{round}")));
    fs::create_dir(&upper).expect("an upper folder can be made");
    fs::create_dir(&work).expect("a work folder can be made");
    let root = RootFs::Overlay {
        lower: vec![lower.to_owned().into()],
        upper: upper.clone(),
        work: work.clone(),
        volatile: true,
        userxattr: false,
    };
    let mut spec = SandboxSpec::new(root, ["/bin/true"]);
    spec.seccomp = seccomp;
    if hosts_network {
        spec.namespaces = Namespaces::with_hosts_network();
    }
    let start = Instant::now();
    let mut running = spawn(&spec).expect("the sandbox starts");
    let spawned = start.elapsed();
    let exit = running.wait().expect("the sandbox ends");
    let ended = start.elapsed() - spawned;
    assert!(exit.success());
    fs::remove_dir_all(&upper).expect("the upper folder can be removed");
    fs::remove_dir_all(&work).expect("the work folder can be removed");
    (spawned, ended)
}
