//! examples/cluster, and the page that leads to it: every file is read by what it is for, every line typed.

use crate::replicas::both_engines;
use crate::support::shell::Shell;
use crate::support::{Slipway, find, run, run_with_input, wait_until};
use slipway_skip::{engines::STORE_KEY, need, need_root};
use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

const PAGE: &str = include_str!("../../docs/cluster.md");

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/cluster").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(example(name)).unwrap()
}

/// Ports of four digits that are free, with a one before them too.
fn ports(count: usize) -> Vec<String> {
    let free = |port: &u16| {
        [*port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    // other tests of this process ask at the same time
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let begin = 5100 + (std::process::id() % 3000) as u16 + 20 * ASKED.fetch_add(1, Ordering::Relaxed);
    let found: Vec<String> =
        (begin..begin + 800).filter(free).take(count).map(|port| port.to_string()).collect();
    assert_eq!(found.len(), count, "too few free ports");
    found
}

/// The settings of a replica as an example has them, over the engines of a test.
fn over(settings: &str, database: &str, content: &str) -> String {
    let line = |line: &str| match line.split(" = ").next() {
        Some("database") => format!("database = \"{database}\"\n"),
        Some("content") => format!("content = \"{content}\"\n"),
        _ => format!("{line}\n"),
    };
    settings.lines().map(line).collect()
}

/// A folder with what an example's settings name.
fn settled(slipway: &Slipway, settings: &str) -> PathBuf {
    let folder = slipway.context("settings", &[("replica.toml", settings), ("token.key", &"k".repeat(44))]);
    let mut made = slipway.command(["registry", "htpasswd", "--password-stdin", "ann"]);
    std::fs::write(folder.join("htpasswd"), run_with_input(&mut made, b"secret\n").ok()).unwrap();
    folder.join("replica.toml")
}

fn check(slipway: &Slipway, file: &Path) -> String {
    let mut command = slipway.command(["registry", "check"]);
    run(command.arg(file).env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret")).ok()
}

#[test]
fn the_page_leads_from_nothing_to_three_replicas() {
    need!("bash", "setsid", "openssl", "nginx", "curl");
    need_root!();
    let (server, store) = both_engines!();
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "app"]);
    let content = format!("s3://registry/page endpoint={} cache=1GiB", store.endpoint());
    let settings = over(&text("replica.toml"), &server.database(), &content);
    let folder = slipway.context("page", &[("replica.toml", &settings), ("password", "secret\n")]);
    std::fs::write(folder.join("nginx.conf"), text("nginx.conf")).unwrap();
    let all = ports(4);
    let place = |line: &str| {
        let named = ["5001", "5002", "5003", "8080"].iter().zip(&all);
        let line = named.fold(line.to_owned(), |line, (port, own)| line.replace(port, own));
        line.replace("=registry ", &format!("={} ", STORE_KEY.0))
            .replace("KEY=change-me", &format!("KEY={}", STORE_KEY.1))
    };
    let front = std::fs::read_to_string(folder.join("nginx.conf")).unwrap().replace("8080", &all[3]);
    std::fs::write(folder.join("nginx.conf"), front).unwrap();
    let command = slipway.command([""; 0]);
    let mut shell = Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &folder);
    let (_, steps) = PAGE.split_once("## From nothing to three replicas").unwrap();
    let block = steps.split("```").nth(1).unwrap();
    let lines: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(lines.len() > 10, "{lines:#?}");
    for line in lines {
        shell.begin(&place(line));
        let (shown, status) = shell.end();
        assert_eq!(status, 0, "{line}: {shown}");
        assert!(!shown.contains("error:") && !shown.contains("warning:"), "{line}: {shown}");
        if line.starts_with("nginx") {
            wait_until("it listens", || TcpStream::connect(format!("127.0.0.1:{}", all[3])).is_ok());
        }
    }
    // whichever is asked, and although one of them is dead
    for _ in 0..6 {
        shell.begin(&place(
            "curl -fsS -o /dev/null -u ann:secret 127.0.0.1:8080/v2/team/app/tags/list; echo $?",
        ));
        let (shown, _) = shell.end();
        assert_eq!(shown.trim(), "0");
    }
    shell.run("kill $(cat nginx.pid) %2 %3; wait");
}

/// What `systemd` makes of the units, and that the command in them is one of ours.
#[test]
fn units_of_replicas_are_units() {
    need!("systemd-analyze");
    let (server, store) = both_engines!();
    let slipway = Slipway::empty();
    let units = slipway.context("units", &[]);
    let unit = text("slipway-replica@.service");
    let binary = crate::support::binary();
    let unit = unit.replace("/usr/local/bin/slipway", binary.to_str().unwrap());
    std::fs::write(units.join("slipway-replica@.service"), &unit).unwrap();
    std::fs::copy(example("slipway-replicas.target"), units.join("slipway-replicas.target")).unwrap();
    let mut verify = Command::new(find("systemd-analyze").unwrap());
    verify
        .arg("verify")
        .arg(units.join("slipway-replica@5001.service"))
        .arg(units.join("slipway-replicas.target"));
    std::fs::copy(units.join("slipway-replica@.service"), units.join("slipway-replica@5001.service"))
        .unwrap();
    let said = run(&mut verify);
    let ours: Vec<&str> = said.stderr.lines().filter(|line| line.contains("slipway")).collect();
    assert!(said.code() == Some(0) && ours.is_empty(), "{}", said.stderr);
    // the unit's own command
    let content = format!("s3://registry/units endpoint={}", store.endpoint());
    let file = settled(&slipway, &over(&text("replica.toml"), &server.database(), &content));
    let port = ports(1).remove(0);
    let words = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words = words.replace("%i", &port).replace("/etc/slipway/replica.toml", file.to_str().unwrap());
    let words = words.replace("${STATE_DIRECTORY}", slipway.path("state").to_str().unwrap());
    let mut command = slipway.command(words.split(' ').skip(1));
    command.envs(crate::support::server::keys());
    let served = crate::support::server::Server::start(&mut command, &format!("127.0.0.1:{port}"));
    // numbers and health are shown a moment after the registry listens
    wait_until("it shows its health", || TcpStream::connect(format!("127.0.0.1:1{port}")).is_ok());
    let ready = crate::support::http::request(&format!("127.0.0.1:1{port}"), "GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 200);
    drop(served);
}

/// Manifests fit Kubernetes' own schemas; what they name is there; and the settings in them are right.
#[test]
fn manifests_of_kubernetes_are_valid() {
    need!("kubernetes-validate", "python3", "docker-compose");
    let mut validate = Command::new(find("kubernetes-validate").unwrap());
    run(validate.args(["-k", "1.34", "--strict"]).arg(example("kubernetes.yaml"))).ok();
    // Debian's own Python has what docker-compose needs
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let read =
        run(Command::new("/usr/bin/python3").args(["-c", script]).arg(example("kubernetes.yaml"))).ok();
    let all: Vec<serde_json::Value> = serde_json::from_str(&read).unwrap();
    let of = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap();
    let pod = &of("Deployment")["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&of("Deployment")["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&of("Service")["spec"]["selector"], labels);
    assert_eq!(&of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    let container = &pod["spec"]["containers"][0];
    let names = |list: &serde_json::Value| -> BTreeSet<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&pod["spec"]["volumes"]));
    assert!(
        names(&container["ports"])
            .contains(of("Service")["spec"]["ports"][0]["targetPort"].as_str().unwrap())
    );
    let secret = of("Secret")["stringData"].as_object().unwrap();
    for one in container["env"].as_array().unwrap() {
        assert!(secret.contains_key(one["valueFrom"]["secretKeyRef"]["key"].as_str().unwrap()), "{one}");
    }
    let settings = of("ConfigMap")["data"]["replica.toml"].as_str().unwrap();
    let slipway = Slipway::empty();
    let file = settled(&slipway, &settings.replace("/etc/slipway-secret/", ""));
    check(&slipway, &file);
}

#[test]
fn the_compose_file_and_its_settings_are_read() {
    need!("docker-compose", "nginx");
    let mut compose = Command::new(find("docker-compose").unwrap());
    compose.arg("-f").arg(example("compose.yaml")).arg("config");
    compose.env("DATABASE_PASSWORD", "one").env("STORE_SECRET", "two");
    let read = run(&mut compose).ok();
    for name in ["replica-1", "replica-2", "replica-3", "database", "store", "balancer"] {
        assert!(read.contains(&format!("  {name}:\n")), "{read}");
    }
    let slipway = Slipway::empty();
    check(&slipway, &settled(&slipway, &text("replica.toml")));
    // names that compose would resolve
    let front = text("nginx.conf").replace("replica-", "127.0.0.");
    let folder = slipway.context("front", &[("nginx.conf", &front)]);
    let mut test = Command::new(find("nginx").unwrap());
    test.arg("-t").arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
    let words = format!("pid {0}/pid; error_log {0}/log;", folder.display());
    assert_eq!(run(test.args(["-g", &words])).code(), Some(0));
}
