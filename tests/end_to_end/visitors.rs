//! Others' clients at a private registry of ours (issue 8): podman, skopeo and docker log in, push, and are refused.

use crate::support::server::{Server, free_address};
use crate::support::{Ended, Slipway, base, find, run, run_with_input, skip};
use slipway_skip::{need, need_root};
use std::fs;
use std::process::{Command, Stdio};

/// A registry with the user `ann`, who may do everything in `team`, `bob`, who may read there, and `open` for everybody's pulls.
fn registry(slipway: &Slipway, flags: &[&str]) -> Server {
    let mut users = String::new();
    for name in ["ann", "bob"] {
        let mut command = slipway.command(["registry", "htpasswd", "--password-stdin", name]);
        users.push_str(&run_with_input(&mut command, format!("{name}-secret").as_bytes()).ok());
    }
    fs::write(slipway.path("users"), users).unwrap();
    let rules = "ann may all in team/**, open/**;bob may pull in team/**;anyone may pull in open/**";
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--access-log", "--storage"]);
    command
        .arg(slipway.path("storage"))
        .arg("--htpasswd")
        .arg(slipway.path("users"))
        .env("SLIPWAY_RULES", rules);
    let log = fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
    Server::start(command.args(flags).stderr(log), &address)
}

fn refused(ended: Ended, program: &str) {
    let said = format!("{}{}", ended.stdout, ended.stderr).to_lowercase();
    assert_ne!(ended.code(), Some(0), "{program}: {said}");
    let words = [
        "denied",
        "unauthorized",
        "authentication required",
        "forbidden",
        "invalid username/password",
        "no basic auth",
    ];
    assert!(words.iter().any(|word| said.contains(word)), "{program}: {said}");
}

/// An image as an OCI layout that others copy from.
fn layout(slipway: &Slipway) -> String {
    let place = slipway.path("layout");
    slipway.ok(["save", "--format", "oci-dir", "-o", place.to_str().unwrap(), "base"]);
    format!("oci:{}", place.display())
}

#[test]
fn skopeo_is_let_in_and_kept_out() {
    need!("skopeo");
    let slipway = Slipway::new();
    let image = layout(&slipway);
    for flags in [&[][..], &["--basic-only"]] {
        let server = registry(&slipway, flags);
        let auth = slipway.path("auth.json");
        let skopeo = |words: &[&str]| {
            let mut command = Command::new("skopeo");
            command.arg("--insecure-policy").args(words).env("REGISTRY_AUTH_FILE", &auth);
            run(&mut command)
        };
        let copy = |to: &str| {
            skopeo(&["copy", "--dest-tls-verify=false", &image, &format!("docker://{}", server.name(to))])
        };
        let inspect = |from: &str| {
            let from = format!("docker://{}", server.name(from));
            skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &from])
        };
        let login = |name: &str, password: &str| {
            skopeo(&["login", "--tls-verify=false", "-u", name, "-p", password, &server.address])
        };
        refused(copy("team/app:1"), "skopeo, not logged in");
        refused(login("ann", "wrong"), "skopeo, wrong password");
        refused(login("eve", "ann-secret"), "skopeo, nobody");
        login("ann", "ann-secret").ok();
        copy("team/app:1").ok();
        copy("open/app:1").ok();
        refused(copy("elsewhere/app:1"), "skopeo, elsewhere");
        login("bob", "bob-secret").ok();
        inspect("team/app:1").ok();
        let tags =
            skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}", server.name("team/app"))]);
        assert!(tags.ok().contains("\"1\""));
        refused(copy("team/app:2"), "skopeo, a reader");
        let delete = |name: &str| {
            skopeo(&["delete", "--tls-verify=false", &format!("docker://{}", server.name(name))])
        };
        refused(delete("team/app:1"), "skopeo, a reader deletes");
        skopeo(&["logout", &server.address]).ok();
        refused(inspect("team/app:1"), "skopeo, logged out");
        inspect("open/app:1").ok();
        login("ann", "ann-secret").ok();
        delete("team/app:1").ok();
        skopeo(&["logout", &server.address]).ok();
    }
}

#[test]
fn privileged_podman_is_let_in_and_kept_out() {
    need_root!();
    need!("podman");
    let slipway = Slipway::empty();
    let server = registry(&slipway, &[]);
    // podman takes no long name for it
    let run_root = tempfile::tempdir_in("/tmp").unwrap();
    let (root, auth) = (slipway.path("podman"), slipway.path("auth.json"));
    fs::write(&auth, "{}").unwrap();
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(&root)
            .arg("--runroot")
            .arg(run_root.path())
            .args(["--storage-driver", "vfs"]);
        run(command.args(words).env("REGISTRY_AUTH_FILE", &auth).env("HOME", slipway.path("")))
    };
    let id = podman(&["import", "-q", base::busybox().to_str().unwrap()]).ok().trim().to_owned();
    let push = |to: &str| podman(&["push", "--tls-verify=false", &id, &server.name(to)]);
    let pull = |from: &str| podman(&["pull", "-q", "--tls-verify=false", &server.name(from)]);
    let login = |name: &str, password: &str| {
        podman(&["login", "--tls-verify=false", "-u", name, "-p", password, &server.address])
    };
    refused(push("team/app:1"), "podman, not logged in");
    refused(login("ann", "wrong"), "podman, wrong password");
    assert!(login("ann", "ann-secret").ok().contains("Login Succeeded"));
    push("team/app:1").ok();
    push("open/app:1").ok();
    refused(push("elsewhere/app:1"), "podman, elsewhere");
    login("bob", "bob-secret").ok();
    pull("team/app:1").ok();
    refused(push("team/app:2"), "podman, a reader");
    podman(&["logout", &server.address]).ok();
    refused(pull("team/app:1"), "podman, logged out");
    pull("open/app:1").ok();
    podman(&["rmi", "-a", "-f"]).ok();
}

/// docker's daemon, where one can run here: the flows of its own are asked by its client's library all the same, `/v2/`, the
/// token endpoint with `offline_token`, and then `/v2/` with the token.
#[test]
fn docker_s_flow_ends_in_a_token_that_is_kept() {
    need!("curl");
    let slipway = Slipway::new();
    let server = registry(&slipway, &[]);
    let curl =
        |words: &[&str]| run(Command::new("curl").args(["-s", "-i"]).args(words).stdin(Stdio::null())).ok();
    let base = format!("http://{}", server.address);
    let ping = curl(&[&format!("{base}/v2/")]);
    let realm = format!("Bearer realm=\"{base}/token\",service=\"slipway\"");
    assert!(ping.starts_with("HTTP/1.1 401") && ping.contains(&realm), "{ping}");
    assert!(ping.to_lowercase().contains("docker-distribution-api-version: registry/2.0"), "{ping}");
    let ask = |user: &str, query: &str| curl(&["-u", user, &format!("{base}/token?service=slipway&{query}")]);
    let wrong = ask("ann:wrong", "account=ann&client_id=docker&offline_token=true");
    assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("UNAUTHORIZED"), "{wrong}");
    let made = ask("ann:ann-secret", "account=ann&client_id=docker&offline_token=true");
    let field = |reply: &str, name: &str| {
        let (_, rest) =
            reply.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("{name}: {reply}"));
        rest.split('"').next().unwrap().to_owned()
    };
    let (token, refresh) = (field(&made, "token"), field(&made, "refresh_token"));
    let bearer = |token: &str, words: &[&str], path: &str| {
        let header = format!("Authorization: Bearer {token}");
        curl(&[&["-H", &header], words, &[&format!("{base}{path}")]].concat())
    };
    assert!(bearer(&token, &[], "/v2/").starts_with("HTTP/1.1 200"));
    // what docker's configuration then has, and what its daemon trades it for
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&service=slipway&client_id=docker");
    let scope = "scope=repository:team/app:pull,push";
    let traded = curl(&["-d", &form, "-d", scope, &format!("{base}/token")]);
    let token = field(&traded, "access_token");
    let begun = bearer(&token, &["-X", "POST"], "/v2/team/app/blobs/uploads/");
    assert!(begun.starts_with("HTTP/1.1 202"), "{begun}");
    let elsewhere = bearer(&token, &["-X", "POST"], "/v2/elsewhere/blobs/uploads/");
    assert!(elsewhere.starts_with("HTTP/1.1 403") && elsewhere.contains("DENIED"), "{elsewhere}");
    // the same file opens it for slipway
    let auth = slipway.path(".docker/config.json");
    fs::create_dir_all(auth.parent().unwrap()).unwrap();
    let entry = format!("{{\"auths\":{{\"{}\":{{\"identitytoken\":\"{refresh}\"}}}}}}", server.address);
    fs::write(auth, entry).unwrap();
    slipway.ok(["push", "-q", "base", &server.name("team/app:1")]);
    slipway.fails(1, ["push", "-q", "base", &server.name("elsewhere/app:1")]);
}

/// dockerd with folders of its own, stopped when this goes.
struct Daemon {
    child: std::process::Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// `None` where it does not run on this machine.
    fn start() -> Option<Daemon> {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        let log = fs::File::create(at("log")).unwrap();
        let mut command = Command::new(find("dockerd").unwrap());
        command
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"));
        command.arg("-H").arg(format!("unix://{}", at("s").display()));
        command.args(["--bridge=none", "--iptables=false", "--storage-driver=vfs"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut daemon = Daemon { child, folder };
        for _ in 0..300 {
            if daemon.docker(&["info"]).status.success() {
                return Some(daemon);
            }
            if daemon.child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        None
    }

    fn docker(&self, words: &[&str]) -> Ended {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(find("docker").unwrap());
        command.arg("-H").arg(format!("unix://{}", at("s").display())).args(words);
        run(command
            .env("DOCKER_CONFIG", at("config"))
            .env_remove("DOCKER_HOST")
            .env("HOME", self.folder.path()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn privileged_docker_is_let_in_and_kept_out() {
    need_root!();
    need!("dockerd", "docker");
    let slipway = Slipway::empty();
    let Some(daemon) = Daemon::start() else { return skip("dockerd does not run on this machine") };
    daemon.docker(&["import", base::busybox().to_str().unwrap(), "app"]).ok();
    for flags in [&[][..], &["--basic-only"]] {
        let server = registry(&slipway, flags);
        let push = |to: &str| {
            let name = server.name(to);
            daemon.docker(&["tag", "app", &name]).ok();
            daemon.docker(&["push", &name])
        };
        let pull = |from: &str| daemon.docker(&["pull", &server.name(from)]);
        let login = |name: &str, password: &str| {
            daemon.docker(&["login", "-u", name, "-p", password, &server.address])
        };
        // the trap: docker takes anything but 401 for a login that worked
        refused(login("ann", "wrong"), "docker, wrong password");
        refused(login("eve", "x"), "docker, nobody");
        assert!(login("ann", "ann-secret").ok().contains("Login Succeeded"));
        let kept = fs::read_to_string(daemon.folder.path().join("config/config.json")).unwrap();
        let tokens = flags.is_empty();
        assert_eq!(kept.contains("identitytoken"), tokens, "a token is kept in the password's place: {kept}");
        push("team/app:1").ok();
        push("open/app:1").ok();
        // the layer is mounted from one to the other, or sent again
        push("team/other:1").ok();
        pull("team/app:1").ok();
        // without tokens docker tries what is refused again for a minute, and has no way to be nobody
        if tokens {
            refused(push("elsewhere/app:1"), "docker, elsewhere");
            login("bob", "bob-secret").ok();
            pull("team/app:1").ok();
            refused(push("team/app:2"), "docker, a reader");
            daemon.docker(&["logout", &server.address]).ok();
            refused(push("team/app:1"), "docker, logged out");
            refused(pull("team/app:1"), "docker, logged out");
            pull("open/app:1").ok();
        }
        daemon.docker(&["logout", &server.address]).ok();
        for name in ["team/app:1", "open/app:1", "team/other:1"] {
            daemon.docker(&["rmi", &server.name(name)]);
        }
    }
}
