//! Certificates that the server gets by itself, from pebble, Let's Encrypt's test authority.

use super::replicas::both_engines;
use crate::support::server::{Server, free_address, keys};
use crate::support::{Slipway, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// An authority that asks at these ports.
struct Pebble {
    directory: String,
    management: String,
    /// Who vouches for the authority's own certificate.
    own: String,
    _servers: [Server; 2],
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

impl Pebble {
    /// Certificates last so many seconds; every name is this machine's.
    fn start(slipway: &Slipway, tls: &str, http: &str, seconds: u64, external: bool) -> Pebble {
        let (certificate, key) = (slipway.path("pebble.pem"), slipway.path("pebble.key"));
        let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout";
        run(Command::new("openssl").args(words.split(' ')).arg(&key).arg("-out").arg(&certificate)).ok();
        let (dns, management, directory) = (free_address(), free_address(), free_address());
        let manage = free_address();
        let names = Server::start(
            Command::new("pebble-challtestsrv")
                .args([
                    "-dns01",
                    &dns,
                    "-management",
                    &manage,
                    "-defaultIPv4",
                    "127.0.0.1",
                    "-defaultIPv6",
                    "",
                ])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .stderr(Stdio::null()),
            &manage,
        );
        let config = serde_json::json!({ "pebble": {
            "listenAddress": directory,
            "managementListenAddress": management,
            "certificate": certificate,
            "privateKey": key,
            "httpPort": port(http).parse::<u16>().unwrap(),
            "tlsPort": port(tls).parse::<u16>().unwrap(),
            "certificateValidityPeriod": seconds,
            // whether who asks has to show an account of elsewhere
            "externalAccountBindingRequired": external,
            "externalAccountMACKeys": { "kid-1": KEY },
        }});
        let place = slipway.path("pebble.json");
        fs::write(&place, config.to_string()).unwrap();
        let log = fs::File::create(slipway.path("pebble.log")).unwrap();
        let pebble = Server::start(
            Command::new("pebble")
                .arg("-config")
                .arg(&place)
                .args(["-dnsserver", &dns, "-strict=false"])
                .env("PEBBLE_VA_NOSLEEP", "1")
                .stderr(log),
            &directory,
        );
        let directory = format!("https://localhost:{}/dir", port(&directory));
        let own = certificate.to_str().unwrap().to_owned();
        Pebble { directory, management, own, _servers: [pebble, names] }
    }

    /// The root of the certificates that it gives.
    fn root(&self, slipway: &Slipway) -> String {
        let mut asking = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &self.management])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        asking.stdin.as_mut().unwrap().write_all(b"GET /roots/0 HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        asking.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        asking.wait().unwrap();
        let path = slipway.path("root.pem");
        fs::write(&path, &text[text.find("-----BEGIN").unwrap()..]).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A server on `address` that gets its certificate from `directory`.
fn serve(slipway: &Slipway, address: &str, pebble: &Pebble, more: &[&str]) -> Server {
    let log = fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
    let words = ["--acme", "localhost,Registry.Test", "--acme-contact", "ops@example.com"];
    let mut command = slipway.command(["serve", "--tls-ca", &pebble.own, "--listen", address]);
    command.args(words).args(["--acme-directory", &pebble.directory]).args(more);
    Server::start(command.arg("--storage").arg(slipway.path("storage")).stderr(log), address)
}

fn said(slipway: &Slipway, words: &str) -> usize {
    fs::read_to_string(slipway.path("serve.log")).unwrap().matches(words).count()
}

/// A handshake, with whether the certificate is right for a name.
fn handshake(address: &str, name: &str, root: &str) -> bool {
    let words = ["s_client", "-connect", address, "-servername", name, "-verify_hostname", name];
    let mut command = Command::new("openssl");
    command.args(words).args(["-CAfile", root, "-verify_return_error"]).stdin(Stdio::null());
    run(&mut command).code() == Some(0)
}

/// A connection that stays open.
struct Kept(std::process::Child);

impl Kept {
    fn open(address: &str) -> Kept {
        let words =
            ["s_client", "-quiet", "-no_ign_eof", "-connect", address, "-servername", "registry.test"];
        let mut command = Command::new("openssl");
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Kept(command.spawn().unwrap())
    }

    /// One request and its answer.
    fn ask(&mut self) -> String {
        let request = b"GET /healthz HTTP/1.1\r\nhost: registry.test\r\n\r\n";
        self.0.stdin.as_mut().unwrap().write_all(request).unwrap();
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while !text.ends_with("ok\n") {
            let count = self.0.stdout.as_mut().unwrap().read(&mut piece).unwrap();
            assert!(count > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        text
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An account's key that the authority knows.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

const NEW: &str = "a new certificate for localhost, registry.test, until ";

#[test]
fn a_certificate_is_got_over_tls_and_renewed_ahead_of_time() {
    slipway_skip::need!("pebble", "pebble-challtestsrv", "openssl");
    let slipway = Slipway::new();
    let address = free_address();
    let pebble = Pebble::start(&slipway, &address, &free_address(), 12, false);
    let mut server = serve(&slipway, &address, &pebble, &[]);
    wait_until("there is a certificate", || said(&slipway, NEW) == 1);
    let root = pebble.root(&slipway);
    assert!(handshake(&address, "registry.test", &root) && handshake(&address, "localhost", &root));
    assert!(!handshake(&address, "other.test", &root), "it is not for that");
    let name = format!("localhost:{}/app:1", port(&address));
    slipway.ok(["--tls-ca", &root, "push", "-q", "base", &name]);
    // one connection has an answer before and after the renewal, which comes before the end
    let mut kept = Kept::open(&address);
    kept.ask();
    wait_until("it is renewed", || said(&slipway, NEW) > 1);
    kept.ask();
    assert!(handshake(&address, "registry.test", &root));
    // what is kept is its owner's, and served by the next one without asking
    for file in ["account.json", "certificate.json"] {
        let found = fs::metadata(slipway.path("storage/acme").join(file)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
    }
    drop(kept);
    assert!(server.terminate().success());
    let count = said(&slipway, NEW);
    let server = serve(&slipway, &address, &pebble, &[]);
    assert!(handshake(&address, "registry.test", &root));
    assert_eq!(said(&slipway, NEW), count);
    drop(server);
    assert_eq!(said(&slipway, "PRIVATE KEY"), 0);
}

#[test]
fn a_certificate_is_got_by_http() {
    slipway_skip::need!("pebble", "pebble-challtestsrv", "openssl");
    let slipway = Slipway::new();
    let (address, http) = (free_address(), free_address());
    let pebble = Pebble::start(&slipway, &address, &http, 86_400, true);
    let external = format!("kid-1:{KEY}");
    let words = ["--acme-http", &http, "--acme-external", &external];
    let _server = serve(&slipway, &address, &pebble, &words);
    wait_until("there is a certificate", || said(&slipway, NEW) == 1);
    assert!(handshake(&address, "registry.test", &pebble.root(&slipway)));
    // the place answers nothing else
    for path in ["/", "/v2/", "/metrics", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x"] {
        assert_eq!(crate::support::http::request(&http, "GET", path, &[], b"").status, 404, "{path}");
    }
}

/// A replica of a cluster that gets one certificate.
fn replica(slipway: &Slipway, address: &str, pebble: &Pebble, number: usize, more: &[&str]) -> Server {
    let log = fs::File::options().create(true).append(true).open(slipway.path("serve.log")).unwrap();
    let mut command = slipway.command(["serve", "--tls-ca", &pebble.own, "--listen", address]);
    command.args(["--acme", "localhost,Registry.Test", "--acme-directory", &pebble.directory]).args(more);
    command.arg("--config").arg(slipway.path("cluster.toml")).envs(keys());
    Server::start(command.arg("--storage").arg(slipway.path(&format!("own-{number}"))).stderr(log), address)
}

/// Of two replicas one asks, the other one is asked by the authority whether it knows of that, and both have what comes of it.
#[test]
fn replicas_get_one_certificate() {
    slipway_skip::need!("pebble", "pebble-challtestsrv", "openssl");
    let (server, store) = both_engines!();
    for kind in ["tls", "http"] {
        let slipway = Slipway::empty();
        let database = server.database();
        let name = database.split(['/', '?']).nth(3).unwrap().to_owned();
        fs::write(slipway.path("key"), "0123456789abcdef0123456789abcdef").unwrap();
        let settings = format!(
            "database = \"{database}\"\ncontent = \"s3://registry/renewed-{kind} endpoint={}\"\ntoken-key = \"{}\"\n",
            store.endpoint(),
            slipway.path("key").display()
        );
        fs::write(slipway.path("cluster.toml"), settings).unwrap();
        let (one, other, place) = (free_address(), free_address(), free_address());
        let pebble = Pebble::start(&slipway, &one, &place, 86_400, false);
        let elsewhere = free_address();
        let by_http = |place| if kind == "http" { vec!["--acme-http", place] } else { Vec::new() };
        // the tables are there, and nobody has the turn, until the one that the authority looks at stands still
        let mut first = slipway.command(["serve", "--listen", &other, "--storage"]);
        first.arg(slipway.path("first")).arg("--config").arg(slipway.path("cluster.toml")).envs(keys());
        drop(Server::start(&mut first, &other));
        server.tell(&name, "INSERT INTO slipway.leases (name, holder, until, fence) VALUES ('acme', 'test', now() + interval '1 hour', 1)");
        let asked = replica(&slipway, &one, &pebble, 1, &by_http(&place));
        let asks = replica(&slipway, &other, &pebble, 2, &by_http(&elsewhere));
        let process = Pid::from_raw(asked.id() as i32).unwrap();
        kill_process(process, Signal::STOP).unwrap();
        server.tell(&name, "UPDATE slipway.leases SET until = now() WHERE name = 'acme'");
        let holder = "SELECT holder <> 'test' FROM slipway.leases WHERE name = 'acme'";
        wait_until("the other one asks", || server.tell(&name, holder) == "t");
        kill_process(process, Signal::CONT).unwrap();
        wait_until("there is a certificate", || said(&slipway, NEW) == 1);
        let root = pebble.root(&slipway);
        for address in [&one, &other] {
            wait_until("it is presented", || handshake(address, "registry.test", &root));
        }
        let plain = "SELECT count(*) FROM slipway.secrets WHERE position('PRIVATE KEY'::bytea IN value) > 0 OR position('{'::bytea IN value) = 1";
        assert_eq!(server.tell(&name, plain), "0");
        assert_eq!(server.tell(&name, "SELECT count(*) >= 3 FROM slipway.secrets"), "t");
        // who comes later has it at once
        drop(asks);
        let _again = replica(&slipway, &other, &pebble, 3, &by_http(&elsewhere));
        assert!(handshake(&other, "registry.test", &root));
        assert_eq!(said(&slipway, NEW), 1);
    }
}

#[test]
fn an_authority_that_cannot_see_the_server_is_said() {
    slipway_skip::need!("pebble", "pebble-challtestsrv", "openssl");
    let slipway = Slipway::new();
    let address = free_address();
    // it asks where nobody listens
    let pebble = Pebble::start(&slipway, &free_address(), &free_address(), 86_400, false);
    let _server = serve(&slipway, &address, &pebble, &[]);
    wait_until("it is said", || said(&slipway, "is this server") == 1);
    assert!(!handshake(&address, "registry.test", &pebble.own), "there is no certificate");
    assert!(!slipway.path("storage/acme/certificate.json").exists());
    // what cannot be meant is refused before anything listens
    for (words, expected) in [
        (&["--acme", "*.registry.test"][..], "no name of a host"),
        (&["--acme-http", ":80"], "`acme-http` needs names"),
        (&["--acme", "a.test", "--tls-cert", "a", "--tls-key", "b"], ""),
        (&["--acme", "a.test", "--acme-directory", "http://localhost/dir"], "https://"),
    ] {
        let ended = slipway.run([&["serve", "--listen", &address][..], words].concat());
        assert!(ended.code() != Some(0) && ended.stderr.contains(expected), "{words:?}: {}", ended.stderr);
    }
}
