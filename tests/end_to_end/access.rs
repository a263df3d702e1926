//! Who may do what at `slipway serve` (issue 8, point 2): its configuration, users, rules and tokens, from outside.

use crate::support::server::{Server, free_address};
use crate::support::{Slipway, run_with_input, wait_until};
use std::fs;
use std::process::{Command, Stdio};

/// A folder with a configuration, and what is asked of it.
struct Site {
    slipway: Slipway,
    address: String,
}

impl Site {
    /// Users `ann` and `bob` with their names as passwords, and these settings.
    fn new(settings: &str) -> Site {
        let slipway = Slipway::new();
        let mut users = String::new();
        for name in ["ann", "bob"] {
            let mut command = slipway.command(["registry", "htpasswd", "--password-stdin", name]);
            users.push_str(&run_with_input(&mut command, format!("{name}\n").as_bytes()).ok());
        }
        fs::write(slipway.path("users"), users).unwrap();
        let site = Site { slipway, address: free_address() };
        site.configure(settings);
        site
    }

    fn configure(&self, settings: &str) {
        fs::write(self.slipway.path("slipway.toml"), settings).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.slipway.path(name).to_str().unwrap().to_owned()
    }

    fn serve(&self) -> Server {
        let (config, storage) = (self.path("slipway.toml"), self.path("storage"));
        let words =
            ["serve", "--listen", &self.address, "--config", &config, "--storage", &storage, "--access-log"];
        let mut command = self.slipway.command(words);
        let log = fs::File::create(self.slipway.path("serve.log")).unwrap();
        Server::start(command.stderr(log), &self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.slipway.path("serve.log")).unwrap()
    }

    /// slipway as `name`, whose password is `password`.
    fn with(&self, name: &str, password: &str, words: &[&str]) -> Command {
        let auth = base64(&format!("{name}:{password}"));
        let mut command = self.slipway.command(words);
        command
            .env("DOCKER_AUTH_CONFIG", format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.address));
        command
    }

    fn run_as(&self, name: &str, words: &[&str]) -> crate::support::Ended {
        crate::support::run(&mut self.with(name, name, words))
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            coded.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    coded
}

#[test]
fn a_private_registry_in_three_lines() {
    let site = Site::new("access = \"private\"\nhtpasswd = \"users\"\nimmutable-tags = [\"v*\"]\n");
    let _server = site.serve();
    let image = site.name("team/app:1");
    let refused = site.slipway.fails(1, ["push", "-q", "base", &image]);
    assert!(refused.contains("without credentials"), "{refused}");
    let wrong = crate::support::run(&mut site.with("ann", "wrong", &["push", "-q", "base", &image])).fails(1);
    assert!(wrong.contains("wrong"), "{wrong}");
    site.run_as("ann", &["push", "-q", "base", &image]).ok();
    site.run_as("bob", &["pull", "-q", &image]).ok();
    site.slipway.fails(1, ["pull", "-q", &image]);
    // a tag that never changes is pushed again only as it is
    site.run_as("ann", &["push", "-q", "base", &site.name("team/app:v1")]).ok();
    site.run_as("ann", &["push", "-q", "base", &site.name("team/app:v1")]).ok();
    site.slipway.build("other", "FROM base\nLABEL a=b", &[]).ok();
    let kept = site.run_as("ann", &["push", "-q", "other", &site.name("team/app:v1")]).fails(1);
    assert!(kept.contains("immutable"), "{kept}");
    let log = site.log();
    assert!(log.contains("201") && log.lines().any(|line| line.ends_with(" ann")), "{log}");
}

#[test]
fn rules_decide_and_explain_themselves() {
    let site = Site::new(
        "htpasswd = \"users\"\nrules = [\n  \"users may all in home/${user}/**\",\n  \"@ops may pull, push in shared/**\",\n  \
         \"anyone may pull in public/**\",\n]\n[groups]\nops = [\"ann\"]\n",
    );
    let _server = site.serve();
    let config = site.path("slipway.toml");
    for (user, action, repository, allowed, line) in [
        ("ann", "push", "home/ann/x", true, ":3: users may all in home/${user}/**"),
        ("ann", "push", "home/bob/x", false, "no rule speaks of it"),
        ("ann", "push", "shared/x", true, ":4: @ops may pull, push in shared/**"),
        ("ann", "overwrite", "shared/x", false, "no rule"),
        ("bob", "pull", "shared/x", false, "no rule"),
        ("anyone", "pull", "public/x", true, ":5: anyone may pull in public/**"),
        ("anyone", "push", "public/x", false, "no rule"),
    ] {
        let words = ["registry", "explain", "--config", &config, user, action, repository];
        let ended = site.slipway.run(words);
        assert_eq!(ended.code(), Some(i32::from(!allowed)), "{words:?}: {}", ended.stdout);
        assert!(ended.stdout.contains(line), "{words:?}: {}", ended.stdout);
        if user != "anyone" && matches!(action, "push") {
            let pushed = site.run_as(user, &["push", "-q", "base", &site.name(&format!("{repository}:1"))]);
            assert_eq!(pushed.code(), Some(i32::from(!allowed)), "{words:?}: {}", pushed.stderr);
            assert!(allowed || pushed.stderr.contains("403"), "{words:?}: {}", pushed.stderr);
        }
    }
    // whoever may add may not move
    site.slipway.build("other", "FROM base\nLABEL a=b", &[]).ok();
    let taken = site.run_as("ann", &["push", "-q", "other", &site.name("shared/x:1")]).fails(1);
    assert!(taken.contains("may not be overwritten"), "{taken}");
    site.run_as("ann", &["push", "-q", "other", &site.name("shared/x:2")]).ok();
    let unknown =
        site.slipway.run(["registry", "explain", "--config", &config, "eve", "pull", "public/x"]).stderr;
    assert!(unknown.contains("no user `eve`"), "{unknown}");
}

#[test]
fn a_token_is_made_once_and_taken() {
    let site = Site::new("");
    let made = site.slipway.run(["registry", "token", "ci"]);
    let (secret, line) = (made.stdout.trim().to_owned(), made.stderr.lines().last().unwrap().to_owned());
    assert!(secret.starts_with("slipway_") && !line.contains(&secret), "{line}");
    site.configure(&format!("rules = [\"ci may pull, push in built/**\"]\n[tokens]\n{line}\n"));
    let _server = site.serve();
    crate::support::run(&mut site.with("ci", &secret, &["push", "-q", "base", &site.name("built/a:1")])).ok();
    for (name, password, repository) in
        [("ci", "wrong", "built/a"), ("ann", &secret, "built/a"), ("ci", &secret, "a")]
    {
        let words = ["push", "-q", "base", &site.name(&format!("{repository}:2"))];
        crate::support::run(&mut site.with(name, password, &words)).fails(1);
    }
    assert!(!site.log().contains(&secret));
}

#[test]
fn a_configuration_is_checked() {
    let slipway = Slipway::empty();
    let path = slipway.path("slipway.toml");
    let config = path.to_str().unwrap();
    fs::write(&path, "access = \"public\"\nhtpaswd = \"users\"\nrules = [\n  \"ann may fly in **\",\n]\n")
        .unwrap();
    for words in [vec!["registry", "check", config], vec!["serve", "--config", config]] {
        let message = slipway.fails(1, words);
        for part in
            ["slipway.toml:2:1: there is no key `htpaswd`", "did you mean `htpasswd`", "slipway.toml:4:12: "]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    for (text, part) in [
        ("htpasswd = \"missing\"", "missing"),
        ("htpasswd = \"slipway.toml\"", "line 1"),
        ("access = \"private\"", "there are none"),
        ("rules = [\"@ops may pull in **\"]", "slipway.toml:1: there is no group `ops`"),
    ] {
        fs::write(&path, text).unwrap();
        let message = slipway.fails(1, ["registry", "check", config]);
        assert!(message.contains(part), "{text}: {message}");
    }
    let message = slipway.fails(1, ["serve", "--config", slipway.path("none.toml").to_str().unwrap()]);
    assert!(message.contains("none.toml"), "{message}");
    // docker's folder is no configuration of a registry
    fs::write(&path, "access = \"open\"").unwrap();
    let mut command = slipway.command(["registry", "explain", "ann", "pull", "a"]);
    command.env("DOCKER_CONFIG", slipway.path("")).env("SLIPWAY_CONFIG", &path);
    assert!(crate::support::run(&mut command).ok().contains("access = \"open\""));
    assert!(
        slipway
            .run(["registry", "check", config])
            .stderr
            .contains("anyone who reaches the registry may push")
    );
}

#[test]
fn settings_change_while_it_runs() {
    let site = Site::new("access = \"private\"\nhtpasswd = \"users\"\n");
    let server = site.serve();
    let said = |words: &str, count: usize| {
        wait_until(words, || site.log().matches(words).count() >= count);
    };
    let image = site.name("a:1");
    site.run_as("ann", &["push", "-q", "base", &image]).ok();
    site.slipway.fails(1, ["pull", "-q", &image]);
    // told by a signal
    site.configure("access = \"public\"\nhtpasswd = \"users\"\n");
    let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    said("settings were read again", 1);
    site.slipway.ok(["pull", "-q", &image]);
    // a broken one keeps the former
    site.configure("access = \"publik\"\n");
    said("the former settings stay in use", 1);
    assert!(site.log().contains("slipway.toml:1:"), "{}", site.log());
    site.slipway.ok(["pull", "-q", &image]);
    // a file that it names changes: bob is gone, and with him his tokens
    site.configure("access = \"private\"\nhtpasswd = \"users\"\n");
    said("settings were read again", 2);
    site.run_as("bob", &["pull", "-q", &image]).ok();
    let users = fs::read_to_string(site.slipway.path("users")).unwrap();
    fs::write(site.slipway.path("users.new"), users.lines().next().unwrap()).unwrap();
    fs::rename(site.slipway.path("users.new"), site.slipway.path("users")).unwrap();
    said("settings were read again", 3);
    site.run_as("bob", &["pull", "-q", &image]).fails(1);
    site.run_as("ann", &["pull", "-q", &image]).ok();
}

#[test]
fn every_setting_by_flag_and_variable() {
    let slipway = Slipway::new();
    let address = free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--rule", "anyone may pull in **"]);
    command
        .env("SLIPWAY_STORAGE", slipway.path("storage"))
        .env("SLIPWAY_ACCESS", "private")
        .env("SLIPWAY_RULES", "anyone may push in a/**");
    let _server = Server::start(command.stderr(Stdio::null()), &address);
    let refused = slipway.fails(1, ["push", "-q", "base", &format!("{address}/a/b:1")]);
    assert!(refused.contains("denied"), "the flag's rules take the place of the variable's: {refused}");
}

#[test]
fn a_certificate_changes_while_it_runs() {
    slipway_skip::need!("openssl");
    let pem = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("registry/src/client/tests/tls");
        fs::read(folder.join(name)).unwrap()
    };
    let site = Site::new(
        "access = \"private\"\nhtpasswd = \"users\"\ntls-cert = \"cert.pem\"\ntls-key = \"key.pem\"\n",
    );
    let put = |name: &str, from: &str| {
        fs::write(site.slipway.path("new"), pem(from)).unwrap();
        fs::rename(site.slipway.path("new"), site.slipway.path(name)).unwrap();
    };
    put("cert.pem", "leaf.crt");
    put("key.pem", "server.key");
    let _server = site.serve();
    assert!(site.log().contains("on https://"), "{}", site.log());
    let subject = || {
        let words = ["s_client", "-connect", &site.address, "-brief"];
        crate::support::run(Command::new("openssl").args(words)).stderr
    };
    assert!(subject().contains("leaf"), "{}", subject());
    let image = site.name("a:1");
    site.run_as("ann", &["push", "-q", "base", &image]).ok();
    // half of a pair leaves the former one in use
    put("key.pem", "alone.key");
    wait_until("the mistake is said", || site.log().contains("the former settings stay in use"));
    assert!(subject().contains("leaf"));
    put("key.pem", "server.key");
    put("cert.pem", "other.crt");
    wait_until("the other certificate is shown", || subject().contains("other"));
    site.run_as("ann", &["pull", "-q", &image]).ok();
}
