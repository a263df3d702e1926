//! What docker and podman reach on a machine, slipway reaches without new settings, and nothing weaker (issue 14, point 8):
//! Debian's registry with certificates that openssl made, under a name that is not this machine's.

use crate::support::server::{Server, counted, free_address};
use crate::support::{Ended, Slipway, base, find, run};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

/// The name of the certificates; `/etc/hosts` of the commands' own mount namespace leads it to 127.0.0.1.
const HOST: &str = "registry.test";

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("registry/src/client/tests/tls").join(name)
}

/// Debian's registry on one storage, plain or with a certificate.
fn registry(slipway: &Slipway, tls: Option<(&str, &str)>, wants_client: bool) -> Server {
    let address = free_address();
    let storage = slipway.context("storage", &[]);
    let mut config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    if let Some((chain, key)) = tls {
        let (chain, key) = (certificate(chain), certificate(key));
        config += &format!("  tls:\n    certificate: {}\n    key: {}\n", chain.display(), key.display());
        if wants_client {
            config += &format!("    clientcas:\n      - {}\n", certificate("root.crt").display());
        }
    }
    let place = slipway.path(&format!("{address}.yml"));
    fs::write(&place, config).unwrap();
    let log = fs::File::options().create(true).append(true).open(slipway.path("registry.log")).unwrap();
    let mut command = Command::new(find("docker-registry").unwrap());
    Server::start(command.arg("serve").arg(place).stderr(log), &address)
}

/// `registry.test` and the port of a server.
fn named(server: &Server) -> String {
    format!("{HOST}:{}", server.address.rsplit_once(':').unwrap().1)
}

/// A machine of its own: its home, its files in `/etc`, its names.
struct Machine {
    store: Slipway,
    home: PathBuf,
}

impl Machine {
    fn new(slipway: &Slipway, name: &str) -> Machine {
        let home = slipway.path(&format!("home-{name}"));
        fs::create_dir_all(&home).unwrap();
        Machine { store: slipway.another(&format!("store-{name}")), home }
    }

    /// A file in its home, which may be one of the tests' certificates.
    fn file(&self, path: &str, text: &str) -> &Machine {
        let place = self.home.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match text.ends_with(".crt") || text.ends_with(".key") {
            true => drop(fs::copy(certificate(text), place).unwrap()),
            false => fs::write(place, text).unwrap(),
        }
        self
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, &[])
    }

    fn run_with(&self, words: &[&str], variables: &[(&str, &Path)]) -> Ended {
        let hosts = self.home.join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {HOST}\n")).unwrap();
        let inner = self.store.command(words);
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(hosts);
        command.arg(inner.get_program()).args(inner.get_args()).env("HOME", &self.home);
        for (name, value) in inner.get_envs().filter(|(name, _)| *name != "HOME") {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for name in ["XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "CONTAINERS_REGISTRIES_CONF"] {
            command.env_remove(name);
        }
        // an empty one counts as the caller's own, so that the machine's is not read
        if !self.home.join(".config/containers/registries.conf").exists() {
            command.env("CONTAINERS_REGISTRIES_CONF", "/dev/null");
        }
        run(command.envs(variables.iter().copied()).stdin(Stdio::null()))
    }
}

/// A storage with `app:1` in it.
fn filled(slipway: &Slipway) {
    let plain = registry(slipway, None, false);
    for name in ["app:1", "library/tool:1", "team/app:1"] {
        let name = plain.name(name);
        slipway.ok(["tag", "base", &name]);
        slipway.ok(["push", "-q", &name]);
    }
}

macro_rules! need_registry {
    () => {
        slipway_skip::need_root!();
        slipway_skip::need!("docker-registry", "unshare", "mount");
    };
}

#[test]
fn privileged_certificates_are_believed_from_where_docker_and_podman_have_them() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let alone = registry(&slipway, Some(("alone.crt", "alone.key")), false);
    let leaf = registry(&slipway, Some(("leaf.crt", "server.key")), false);
    // what openssl req -x509 makes, and a leaf of an authority, each trusted in every way that there is
    for (server, ca) in [(&alone, "alone.crt"), (&leaf, "root.crt")] {
        let host = named(server);
        let image = format!("{host}/app:1");
        let fresh = |way: &str| Machine::new(&slipway, &format!("{way}-{ca}"));
        fresh("flag").run(&["--tls-ca", certificate(ca).to_str().unwrap(), "pull", &image]).ok();
        fresh("variable").run_with(&["pull", &image], &[("SSL_CERT_FILE", &certificate(ca))]).ok();
        for (way, folder) in [("podman", ".config/containers/certs.d"), ("docker", ".config/docker/certs.d")]
        {
            let machine = fresh(way);
            machine.file(&format!("{folder}/{host}/ca.crt"), ca).run(&["pull", &image]).ok();
        }
        // another host's folder is none of this one's
        let machine = fresh("other");
        let ended = machine.file(".config/docker/certs.d/registry.test:1/ca.crt", ca).run(&["pull", &image]);
        assert!(ended.fails(1).contains("is not trusted"));
    }
}

#[test]
fn privileged_what_is_wrong_with_a_peer_is_said_in_one_line() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let root = certificate("root.crt");
    for (chain, key, trusted, words) in [
        ("leaf.crt", "server.key", false, "its issuer is unknown"),
        ("alone.crt", "alone.key", false, "is not trusted"),
        ("expired.crt", "server.key", true, "it has expired"),
        ("other.crt", "server.key", true, "it is for another name"),
    ] {
        let server = registry(&slipway, Some((chain, key)), false);
        let image = format!("{}/app:1", named(&server));
        let machine = Machine::new(&slipway, chain);
        let variables: &[(&str, &Path)] = if trusted { &[("SSL_CERT_FILE", &root)] } else { &[] };
        let message = machine.run_with(&["pull", &image], variables).fails(1);
        let error = message.lines().find(|line| line.contains("error")).unwrap_or_default();
        assert!(error.contains(words) && error.contains(&named(&server)), "{chain}: {message}");
        assert!(message.lines().count() <= 2, "an error and a hint: {message}");
        // what was refused once is not asked again: by a pull, a push, or layers side by side
        let (address, count) = counted(&server.address);
        let host = format!("{HOST}:{}", address.rsplit_once(':').unwrap().1);
        let mine = format!("{host}/app:1");
        machine.run(&["import", base::busybox().to_str().unwrap(), &mine]).ok();
        for line in [&["pull", "--progress", "plain", &mine], &["push", "--progress", "plain", &mine]] {
            let before = count.load(Ordering::SeqCst);
            let message = machine.run_with(line, variables).fails(1);
            // configuration and layer go side by side, each on a connection of its own
            let most = if line[0] == "push" { 2 } else { 1 };
            let asked = count.load(Ordering::SeqCst) - before;
            assert!((1..=most).contains(&asked), "{chain}: {line:?}: {asked}: {message}");
            assert!(message.contains(words) && !message.contains("again in"), "{message}");
        }
        // who allows it by name gets it
        machine.run(&["--insecure-registry", &named(&server), "pull", &image]).ok();
    }
}

#[test]
fn privileged_a_registry_that_wants_a_certificate_gets_the_folder_s() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let server = registry(&slipway, Some(("leaf.crt", "server.key")), true);
    let (host, machine) = (named(&server), Machine::new(&slipway, "client"));
    let image = format!("{host}/app:1");
    let folder = format!(".config/containers/certs.d/{host}");
    machine.file(&format!("{folder}/ca.crt"), "root.crt").run(&["pull", &image]).fails(1);
    machine.file(&format!("{folder}/client.cert"), "client.crt");
    machine.file(&format!("{folder}/client.key"), "client.key").run(&["pull", &image]).ok();
}

#[test]
fn privileged_plain_http_is_taken_where_it_is_allowed_and_nowhere_else() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let plain = registry(&slipway, None, false);
    let (host, image) = (named(&plain), format!("{}/app:1", named(&plain)));
    let machine = |name: &str| Machine::new(&slipway, name);
    let message = machine("refused").run(&["pull", &image]).fails(1);
    assert!(message.contains(&format!("`{host}` does not speak TLS")), "{message}");
    assert!(message.contains("--insecure-registry"), "{message}");
    let conf = format!("[[registry]]\nlocation = '{host}'\ninsecure = true\n");
    machine("podman").file(".config/containers/registries.conf", &conf).run(&["pull", &image]).ok();
    let json = format!("{{\"insecure-registries\": [\"{host}\"]}}");
    machine("docker").file(".config/docker/daemon.json", &json).run(&["pull", &image]).ok();
    // the reverse: TLS on this machine, where plain HTTP is tried first
    let tls = registry(&slipway, Some(("leaf.crt", "server.key")), false);
    machine("reverse").run(&["pull", &tls.name("app:1")]).ok();
}

#[test]
fn privileged_names_lead_where_registries_conf_says() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let leaf = registry(&slipway, Some(("leaf.crt", "server.key")), false);
    let plain = registry(&slipway, None, false);
    let (host, local) = (named(&leaf), &plain.address);
    let trusted = |name: &str, conf: &str| {
        let machine = Machine::new(&slipway, name);
        machine.file(&format!(".config/containers/certs.d/{host}/ca.crt"), "root.crt");
        machine.file(".config/containers/registries.conf", conf);
        machine
    };
    // another location, and a mirror of the Hub's before a name that leads nowhere
    let conf = format!(
        "[[registry]]\nprefix = 'far.test/x'\nlocation = '{host}/team'\n\
         [[registry]]\nprefix = 'docker.io'\nlocation = '127.0.0.1:1'\n[[registry.mirror]]\nlocation = '{host}'\n"
    );
    let machine = trusted("moved", &conf);
    machine.run(&["pull", "far.test/x/app:1"]).ok();
    machine.run(&["pull", "docker.io/team/app:1"]).ok();
    machine.run(&["run", "--rm", "tool:1", "true"]).ok();
    let message = machine.run(&["pull", "team/none:1"]).fails(1);
    assert!(message.contains("mirrors were asked first") && message.contains(&host), "{message}");
    // aliases and the search; what was found is what is run
    let conf = format!(
        "unqualified-search-registries = ['127.0.0.1:1', '{local}']\n[aliases]\nmine = '{host}/team/app'\n"
    );
    let machine = trusted("short", &conf);
    let ended = machine.run(&["pull", "mine:1"]);
    assert!(ended.stderr.contains(&format!("`mine:1` means `{host}/team/app:1` here")), "{}", ended.stderr);
    assert!(ended.ok().contains(&format!("{host}/team/app")));
    machine.run(&["pull", "app:1"]).ok();
    drop(plain);
    machine.run(&["run", "--rm", "app:1", "true"]).ok();
    let message = machine.run(&["pull", "nowhere:1"]).fails(1);
    assert!(message.contains("or") && message.contains("127.0.0.1:1/nowhere:1"), "{message}");
    // blocked, and settings that cannot be used
    let machine = trusted("blocked", &format!("[[registry]]\nlocation = '{host}/team'\nblocked = true\n"));
    machine.run(&["pull", &format!("{host}/app:1")]).ok();
    let message = machine.run(&["pull", &format!("{host}/team/app:1")]).fails(1);
    assert!(message.contains("blocks") && message.contains(&format!("{host}/team")), "{message}");
    let message = trusted("broken", "\n[[registry]]\nlocation = 3\n").run(&["pull", "app"]).fails(1);
    assert!(message.contains("registries.conf` cannot be used: line 3"), "{message}");
    assert!(message.contains("CONTAINERS_REGISTRIES_CONF"), "{message}");
}

#[test]
fn privileged_docker_s_mirrors_are_asked_before_the_hub() {
    need_registry!();
    let slipway = Slipway::new();
    filled(&slipway);
    let plain = registry(&slipway, None, false);
    let machine = Machine::new(&slipway, "hub");
    let json = format!("{{\"registry-mirrors\": [\"https://127.0.0.1:1\", \"http://{}/\"]}}", named(&plain));
    machine.file(".config/docker/daemon.json", &json);
    machine.run(&["pull", "tool:1"]).ok();
    machine.run(&["pull", "team/app:1"]).ok();
    let said = machine.run(&["info", "--format", "{{json .Registries.RegistriesConf.HubMirrors}}"]).ok();
    assert!(said.contains(&named(&plain)), "{said}");
}

#[test]
fn privileged_no_credential_is_sent_to_a_peer_that_is_not_known() {
    slipway_skip::need_root!();
    slipway_skip::need!("unshare", "mount");
    let slipway = Slipway::empty();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("{HOST}:{}", listener.local_addr().unwrap().port());
    // answers as a plain registry that asks for a password
    let heard = std::thread::spawn(move || {
        let mut all = Vec::new();
        listener.set_nonblocking(false).unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).unwrap_or(0);
            all.extend_from_slice(&piece[..count]);
            if piece.starts_with(b"end") {
                break;
            }
            let _ = stream.write_all(
                b"HTTP/1.1 401 X\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
        all
    });
    let machine = Machine::new(&slipway, "secret");
    // user:hunter2
    let json = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dXNlcjpodW50ZXIy\"}}}}}}");
    machine.file(".docker/config.json", &json);
    machine.run(&["pull", &format!("{host}/app:1")]).fails(1);
    let port = host.rsplit_once(':').unwrap().1;
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap().write_all(b"end").unwrap();
    let heard = heard.join().unwrap();
    assert!(heard.len() > 10, "nobody asked");
    let text = String::from_utf8_lossy(&heard);
    assert!(!text.contains("dXNlcjpodW50ZXIy") && !text.to_lowercase().contains("authorization"), "{text}");
}
