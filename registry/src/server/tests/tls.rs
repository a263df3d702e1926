//! TLS of the server's own: both versions of HTTP, certificates that change, and who shakes no hands.

use super::access::access;
use super::*;
use crate::server::Tls;
use rustls::{
    ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{sync::Arc, time::Instant};

const ROOT: &[u8] = include_bytes!("../../client/tests/tls/root.crt");
const LEAF: &[u8] = include_bytes!("../../client/tests/tls/leaf.crt");
const OTHER: &[u8] = include_bytes!("../../client/tests/tls/other.crt");
const KEY: &[u8] = include_bytes!("../../client/tests/tls/server.key");

fn tls(certificate: &[u8]) -> Tls {
    Tls::from_pem(certificate, KEY, Some(ROOT)).expect("certificate and key")
}

fn start() -> Registry {
    Registry::start_with(|config| {
        config.tls = Some(tls(LEAF));
        config.access = access(&["anyone may all in **"], &["ann"], |_| {});
        config.budgets.idle = Duration::from_secs(2);
    })
}

fn config_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ROOT).expect("root")).expect("add");
    roots
}

fn client(protocols: &[&[u8]]) -> rustls::ClientConfig {
    let roots = config_roots();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(registry: &Registry, name: &str) -> Stream {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(client(&[b"http/1.1"])), name).expect("a client");
    StreamOwned::new(connection, registry.connect())
}

/// One request on a connection that stays open.
fn ask(stream: &mut Stream) -> std::io::Result<String> {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: r.example\r\n\r\n")?;
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains("\"errors\"") && !text.contains("\r\n\r\n{}") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    Ok(text)
}

/// A chain and its key.
type Certificate = (&'static [u8], &'static [u8]);

/// That of the user `client`.
const OWN: Certificate = (
    include_bytes!("../../client/tests/tls/client.crt"),
    include_bytes!("../../client/tests/tls/client.key"),
);

/// What is answered to a request, which says itself that it is the last one, of whoever has a certificate or none.
fn ask_as(registry: &Registry, certificate: Option<Certificate>, request: &str) -> std::io::Result<String> {
    let mut config = client(&[b"http/1.1"]);
    if let Some((chain, key)) = certificate {
        let chain = vec![CertificateDer::from_pem_slice(chain).expect("a certificate")];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(config_roots())
            .with_client_auth_cert(chain, key)
            .expect("a client");
    }
    let name = ServerName::try_from("registry.test").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, registry.connect());
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    // the end without a farewell is no concern here
    let _ = stream.read_to_string(&mut text);
    if text.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

/// The status of an answer; 0 where there was none.
fn status(answer: std::io::Result<String>) -> u16 {
    answer.map_or(0, |text| text[9..12].parse().expect("a status"))
}

#[test]
fn a_certificate_is_a_name() {
    let ask_as = |registry: &Registry, certificate: Option<Certificate>, header: &str| {
        let head = format!("GET /v2/a/tags/list HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
        ask_as(registry, certificate, &head)
    };
    let with = |certificates: bool, rule: &str| {
        Registry::start_with(|config| {
            config.tls = Some(tls(LEAF));
            config.access = access(&[rule], &["ann"], |config| config.certificates = certificates);
        })
    };
    let foreign: Certificate = (
        include_bytes!("../../client/tests/tls/alone.crt"),
        include_bytes!("../../client/tests/tls/alone.key"),
    );
    let wrong = format!("authorization: {}\r\n", super::access::basic("ann", "wrong"));
    let registry = with(true, "client may pull in a");
    assert_eq!(status(ask_as(&registry, Some(OWN), "")), 404, "let in, and nothing is there");
    assert_eq!(status(ask_as(&registry, None, "")), 401);
    assert_eq!(status(ask_as(&registry, Some(OWN), &wrong)), 401, "words count more");
    assert_eq!(status(ask_as(&registry, Some(foreign), "")), 0, "nobody vouches for it");
    assert_eq!(status(ask_as(&with(true, "ann may pull in a"), Some(OWN), "")), 403);
    assert_eq!(
        status(ask_as(&with(false, "client may pull in a"), Some(OWN), "")),
        401,
        "nobody asked for it"
    );
}

/// What a device gets lasts, and nobody could take it back who has no password to change: a certificate alone lets no device in.
#[test]
fn a_certificate_alone_lets_no_device_in() {
    let registry = Registry::start_with(|config| {
        config.tls = Some(tls(LEAF));
        config.policy.web = true;
        let rules = ["client may all in **", "users may all in **"];
        config.access = access(&rules, &["ann"], |config| config.certificates = true);
    });
    let send = |certificate: Option<Certificate>, line: &str, headers: &str, body: &str| {
        let length = body.len();
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        let head =
            format!("{line} HTTP/1.1\r\nhost: r.example\r\n{kind}{headers}content-length: {length}\r\n");
        ask_as(&registry, certificate, &format!("{head}connection: close\r\n\r\n{body}")).expect("an answer")
    };
    let begun = send(None, "POST /token/device", "", "client_id=slipway");
    let codes: serde_json::Value =
        serde_json::from_str(begun.split_once("\r\n\r\n").expect("a body").1).expect("codes");
    let (device, code) =
        (codes["device_code"].as_str().expect("a code"), codes["user_code"].as_str().expect("a code"));
    // the certificate opens the page, and not this part of it
    assert_eq!(status(Ok(send(Some(OWN), "GET /", "", ""))), 200);
    let led = send(Some(OWN), "GET /device", "", "");
    assert!(led.starts_with("HTTP/1.1 303") && led.contains("location: /login?next="), "{led}");
    let page = send(Some(OWN), "GET /login", "", "");
    let token = super::web::rights::token(&page);
    let origin = "origin: https://r.example\r\n";
    for decision in ["", "&decision=allow", "&decision=refuse"] {
        let body = format!("code={code}&token={token}{decision}");
        let answer = send(Some(OWN), "POST /device", origin, &body);
        assert!(answer.starts_with("HTTP/1.1 303") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    let poll = send(Some(OWN), "POST /token", "", &format!("{grant}&device_code={device}&client_id=slipway"));
    assert!(poll.contains("authorization_pending"), "{poll}");
    // whoever has this certificate and logs in with a password says yes by the password
    let form = format!("token={token}&name=ann&password=secret+of+ann");
    let led = send(Some(OWN), "POST /login", origin, &form);
    let cookie =
        led.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_else(|| panic!("{led}"));
    let session = format!("cookie: {}\r\n", cookie.split_once(';').expect("its attributes").0);
    let page = send(Some(OWN), "GET /device", &session, "");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let token = super::web::rights::token(&page);
    let body = format!("code={code}&token={token}&decision=allow");
    let allowed = send(Some(OWN), "POST /device", &format!("{session}{origin}"), &body);
    assert!(allowed.contains("It is logged in"), "{allowed}");
}

#[test]
fn clients_are_sent_to_a_secure_token_endpoint() {
    let registry = start();
    let text = ask(&mut connect(&registry, "registry.test")).expect("an answer");
    assert!(text.contains("realm=\"https://r.example/token\""), "{text}");
}

#[test]
fn both_versions_of_http_are_spoken() {
    let registry = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (protocols, version) in [
        (&[b"h2".as_slice(), b"http/1.1".as_slice()][..], axum::http::Version::HTTP_2),
        (&[b"http/1.1".as_slice()][..], axum::http::Version::HTTP_11),
    ] {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client(protocols))
            .resolve("registry.test", registry.address())
            .no_proxy()
            .build()
            .expect("a client");
        let address = format!("https://registry.test:{}", registry.address().port());
        runtime.block_on(async {
            let bytes = vec![7_u8; 3 << 20];
            let digest = Digest::sha256(&bytes);
            let target = format!("{address}/v2/a/blobs/uploads/?digest={digest}");
            let pushed = client.post(target).body(bytes.clone()).send().await.expect("a push");
            assert_eq!((pushed.status().as_u16(), pushed.version()), (201, version));
            let read = client.get(format!("{address}/v2/a/blobs/{digest}")).send().await.expect("a pull");
            assert_eq!(read.bytes().await.expect("bytes"), bytes);
        });
    }
}

#[test]
fn a_certificate_is_replaced_without_dropping_a_connection() {
    let registry = start();
    let mut before = connect(&registry, "registry.test");
    ask(&mut before).expect("an answer");
    registry.server.as_ref().expect("a server").control().replace_tls(tls(OTHER));
    ask(&mut before).expect("the connection goes on");
    assert!(ask(&mut connect(&registry, "registry.test")).is_err(), "the other certificate has another name");
    registry.server.as_ref().expect("a server").control().replace_tls(tls(LEAF));
    ask(&mut connect(&registry, "registry.test")).expect("an answer");
}

#[test]
fn who_shakes_no_hands_is_told_or_let_go() {
    let registry = start();
    let mut plain = registry.connect();
    plain.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.contains("HTTPS server"), "{answer}");
    // who says nothing, half of a hello, or rubbish has the time of a connection without a request
    let begin = Instant::now();
    for bytes in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\xff\xff"] {
        let mut stream = registry.connect();
        stream.write_all(bytes).expect("bytes");
        let mut rest = Vec::new();
        // an alert or nothing, and the end
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
    ask(&mut connect(&registry, "registry.test")).expect("others are served");
}
