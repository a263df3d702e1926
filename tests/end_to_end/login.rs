//! `slipway login` and `logout` (issue 8, point 10): docker's words, what is kept where, and that it was tried first.

use crate::support::http::{Reply, request};
use crate::support::server::{Server, free_address};
use crate::support::shell::Shell;
use crate::support::{Ended, Slipway, run, run_with_input};
use slipway_skip::need;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

/// A private registry with the user `ann`, whose password is `secret`.
pub(super) fn private(slipway: &Slipway, flags: &[&str]) -> Server {
    let users = slipway.path("users");
    let mut command = slipway.command(["registry", "htpasswd", "--password-stdin", "ann"]);
    fs::write(&users, run_with_input(&mut command, b"secret\n").ok()).unwrap();
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--access", "private", "--storage"]);
    command.arg(slipway.path("storage")).arg("--htpasswd").arg(&users).args(flags);
    Server::start(command.stderr(Stdio::null()), &address)
}

fn config(slipway: &Slipway) -> PathBuf {
    slipway.path(".docker/config.json")
}

pub(super) fn login(slipway: &Slipway, address: &str, user: &str, password: &str) -> Ended {
    let words = ["login", "-u", user, "--password-stdin", address];
    run_with_input(&mut slipway.command(words), format!("{password}\n").as_bytes())
}

#[test]
fn a_login_is_tried_then_kept_and_forgotten() {
    let slipway = Slipway::new();
    // tokens and passwords with every request
    for flags in [&[][..], &["--basic-only"]] {
        let server = private(&slipway, flags);
        let (address, image) = (&server.address, server.name("app:1"));
        // nothing is kept of what does not open the registry
        let refused = login(&slipway, address, "ann", "wrong").fails(1);
        assert!(refused.contains("refuses the login") && refused.contains("wrong"), "{refused}");
        assert!(!fs::read_to_string(config(&slipway)).unwrap_or_default().contains(address));
        slipway.fails(1, ["push", "-q", "base", &image]);
        let ended = login(&slipway, address, "ann", "secret");
        assert!(ended.stderr.contains("stored unencrypted in"), "{}", ended.stderr);
        assert_eq!(ended.ok().trim(), "Login Succeeded");
        assert_eq!(fs::metadata(config(&slipway)).unwrap().permissions().mode() & 0o777, 0o600);
        slipway.ok(["push", "-q", "base", &image]);
        slipway.ok(["pull", "-q", &image]);
        // what is kept is tried again without a question
        let again = slipway.run(["login", address]);
        assert!(again.stderr.contains("Authenticating with existing credentials"), "{}", again.stderr);
        assert_eq!(again.ok().trim(), "Login Succeeded");
        assert_eq!(
            slipway.ok(["logout", address]).trim(),
            format!("Removing login credentials for {address}")
        );
        assert_eq!(slipway.ok(["logout", address]).trim(), format!("Not logged in to {address}"));
        slipway.fails(1, ["pull", "-q", &image]);
    }
}

#[test]
fn lines_that_cannot_be_meant_are_answered_in_docker_s_words() {
    let slipway = Slipway::empty();
    let server = private(&slipway, &[]);
    let address = server.address.as_str();
    for (words, code, said) in [
        (vec!["login", "--password-stdin", address], 2, "Must provide --username with --password-stdin"),
        (vec!["login", "-u", "ann", "-p", "x", "--password-stdin", address], 2, "mutually exclusive"),
        (vec!["login", "-u", "ann", address], 1, "non TTY device"),
        (vec!["login", address], 1, "non TTY device"),
        (vec!["login", "-u", "a:b", "-p", "x", address], 1, "username"),
        (vec!["login", "-u", "ann", "-p", "", address], 1, "non TTY device"),
        (vec!["login", "-u", "ann", "-p", "x", "bad host"], 2, "is not a registry"),
        (vec!["logout", "a b"], 2, "is not a registry"),
        (vec!["login", "-u", "ann", "-p", "x", "127.0.0.1:1"], 1, "127.0.0.1:1"),
    ] {
        let message = slipway.fails(code, words.clone());
        assert!(message.contains(said), "{words:?}: {message}");
    }
    let ended = slipway.run(["login", "-u", "ann", "-p", "secret", &format!("http://{address}/v2/")]);
    assert!(ended.stderr.contains("Using --password via the CLI is insecure"), "{}", ended.stderr);
    ended.ok();
    assert!(fs::read_to_string(config(&slipway)).unwrap().contains(&format!("\"{address}\"")));
    // a registry that asks nobody takes what it is shown, as docker has it
    let open = Server::slipway(&slipway, &slipway.path("open"));
    login(&slipway, &open.address, "ann", "x").ok();
}

#[test]
fn a_password_is_typed_unseen() {
    need!("bash", "setsid");
    let slipway = Slipway::empty();
    let server = private(&slipway, &[]);
    let command = slipway.command([""; 0]);
    let mut shell =
        Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &slipway.path(""));
    shell.begin(&format!("slipway login {}", server.address));
    shell.wait_for("Username: ");
    shell.press("ann\r");
    shell.wait_for("Password: ");
    shell.press("secret\r");
    let (shown, status) = shell.end();
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("Login Succeeded") && !shown.contains("secret"), "{shown}");
    // who gives up gets a terminal back that shows what is typed
    shell.begin(&format!("slipway login -u ann {}", server.address));
    shell.wait_for("Password: ");
    shell.press("\x03");
    let (_, status) = shell.end();
    assert_eq!(status, 130);
    let (shown, _) = shell.run("stty -a | tr ' ' '\\n' | grep -x -- '-\\?echo'");
    assert_eq!(shown.trim(), "echo");
}

#[test]
fn helpers_and_named_files_keep_what_they_are_for() {
    let slipway = Slipway::new();
    let server = private(&slipway, &[]);
    let (address, image) = (server.address.as_str(), server.name("app:1"));
    // docker-credential-helpers: a program that is asked over standard streams
    let helper = "#!/bin/sh\nread -r line || true\ncase $1 in\nstore) echo \"$line\" > \"$HOME/kept\" ;;\n\
                  get) [ -e \"$HOME/kept\" ] && cat \"$HOME/kept\" || { echo credentials not found in native keychain; exit 1; } ;;\n\
                  erase) rm \"$HOME/kept\" ;;\nesac\n";
    let folder = slipway.context("bin", &[("docker-credential-own", helper)]);
    fs::set_permissions(folder.join("docker-credential-own"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    fs::create_dir_all(slipway.path(".docker")).unwrap();
    fs::write(config(&slipway), "{\"credsStore\":\"own\",\"detachKeys\":\"ctrl-x\"}").unwrap();
    let with = |words: &[&str]| {
        let mut command = slipway.command(words);
        command.env("PATH", &path);
        command
    };
    let ended = run_with_input(&mut with(&["login", "-u", "ann", "--password-stdin", address]), b"secret");
    assert!(!ended.stderr.contains("unencrypted"), "{}", ended.stderr);
    ended.ok();
    let text = fs::read_to_string(config(&slipway)).unwrap();
    assert!(!text.contains("secret") && text.contains("ctrl-x") && text.contains(address), "{text}");
    assert!(fs::read_to_string(slipway.path("kept")).unwrap().contains("secret"));
    run(&mut with(&["push", "-q", "base", &image])).ok();
    run(&mut with(&["logout", address])).ok();
    assert!(!slipway.path("kept").exists());
    run(&mut with(&["pull", "-q", &image])).fails(1);
    // podman's variable names another file
    let own = slipway.path("run/auth.json");
    let named = |words: &[&str]| {
        let mut command = slipway.command(words);
        command.env("REGISTRY_AUTH_FILE", &own);
        command
    };
    run_with_input(&mut named(&["login", "-u", "ann", "--password-stdin", address]), b"secret").ok();
    assert!(fs::read_to_string(&own).unwrap().contains(address));
    run(&mut named(&["pull", "-q", &image])).ok();
    slipway.fails(1, ["pull", "-q", &image]);
    run(&mut named(&["logout", address])).ok();
    run(&mut named(&["pull", "-q", &image])).fails(1);
}

/// A value of a form of the web page.
fn hidden(page: &str) -> String {
    let rest = page.split("name=\"token\" value=\"").nth(1).expect(page);
    rest.split_once('"').unwrap().0.to_owned()
}

fn post(address: &str, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Reply {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let kind = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie)];
    request(address, "POST", path, &kind, body.join("&").as_bytes())
}

/// Types a code at the registry's page, as `ann`, and decides.
fn decide(address: &str, code: &str, decision: &str) {
    let token = hidden(&request(address, "GET", "/login", &[], b"").text());
    let name = [("token", token.as_str()), ("name", "ann"), ("password", "secret"), ("next", "/device")];
    let cookie =
        post(address, "/login", "", &name).header("set-cookie").split(';').next().unwrap().to_owned();
    let page = request(address, "GET", "/device", &[("cookie", &cookie)], b"").text();
    let fields = [("token", hidden(&page)), ("code", code.to_owned()), ("decision", decision.to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let shown = post(address, "/device", &cookie, &fields[..2]);
    assert!(shown.text().contains("<strong>slipway</strong>"), "{}", shown.text());
    assert_eq!(post(address, "/device", &cookie, &fields).status, 200);
}

#[test]
fn a_device_is_logged_in_by_a_code_that_is_typed_elsewhere() {
    let slipway = Slipway::new();
    let server = private(&slipway, &[]);
    let (address, image) = (&server.address, server.name("app:1"));
    let log_in = |decision: &str| {
        let mut command = slipway.command(["login", "--device", address]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains(&format!("Open http://{address}/device?user_code=")), "{first}");
        let code = first.split("the code ").nth(1).unwrap().trim_end_matches('.').to_owned();
        decide(address, &code, decision);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stdout).unwrap(), rest.join("\n"))
    };
    let (status, _, said) = log_in("refuse");
    assert_eq!(status, Some(1));
    assert!(said.contains("lets this device not in: it was refused there"), "{said}");
    assert!(!fs::read_to_string(config(&slipway)).unwrap_or_default().contains(address));
    let (status, out, said) = log_in("allow");
    assert_eq!((status, out.trim()), (Some(0), "Login Succeeded"), "{said}");
    // as docker keeps what a login gave it
    let kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(config(&slipway)).unwrap()).unwrap();
    assert!(kept["auths"][address.as_str()]["identitytoken"].is_string(), "{kept}");
    slipway.ok(["push", "-q", "base", &image]);
    slipway.ok(["pull", "-q", &image]);
    slipway.ok(["logout", address]);
    // a registry without accounts has no such thing
    let open = Server::slipway(&slipway, &slipway.path("open"));
    let refused = slipway.fails(1, ["login", "--device", &open.address]);
    assert!(
        refused.contains("offers no login by a code") && refused.contains("slipway login -u NAME"),
        "{refused}"
    );
    slipway.fails(2, ["login", "--device", "-u", "ann", address]);
}
