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

#[test]
fn a_certificate_is_a_name() {
    let ask_as =
        |registry: &Registry, certificate: Option<(&[u8], &[u8])>, header: &str| -> std::io::Result<String> {
            let mut config = client(&[b"http/1.1"]);
            if let Some((chain, key)) = certificate {
                let chain = vec![CertificateDer::from_pem_slice(chain).expect("a certificate")];
                let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key).expect("a key");
                let roots = config_roots();
                config = rustls::ClientConfig::builder_with_provider(Arc::new(
                    rustls::crypto::ring::default_provider(),
                ))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, key)
                .expect("a client");
            }
            let name = ServerName::try_from("registry.test").expect("a name");
            let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
            let mut stream = StreamOwned::new(connection, registry.connect());
            stream.write_all(
                format!("GET /v2/a/tags/list HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n")
                    .as_bytes(),
            )?;
            let mut text = String::new();
            // the end without a farewell is no concern here
            let _ = stream.read_to_string(&mut text);
            if text.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
        };
    let with = |certificates: bool, rule: &str| {
        Registry::start_with(|config| {
            config.tls = Some(tls(LEAF));
            config.access = access(&[rule], &["ann"], |config| config.certificates = certificates);
        })
    };
    let own: (&[u8], &[u8]) = (
        include_bytes!("../../client/tests/tls/client.crt"),
        include_bytes!("../../client/tests/tls/client.key"),
    );
    let foreign: (&[u8], &[u8]) = (
        include_bytes!("../../client/tests/tls/alone.crt"),
        include_bytes!("../../client/tests/tls/alone.key"),
    );
    let wrong = format!("authorization: {}\r\n", super::access::basic("ann", "wrong"));
    let registry = with(true, "client may pull in a");
    let status = |answer: std::io::Result<String>| {
        answer.map_or(0, |text| text[9..12].parse::<u16>().expect("a status"))
    };
    assert_eq!(status(ask_as(&registry, Some(own), "")), 404, "let in, and nothing is there");
    assert_eq!(status(ask_as(&registry, None, "")), 401);
    assert_eq!(status(ask_as(&registry, Some(own), &wrong)), 401, "words count more");
    assert_eq!(status(ask_as(&registry, Some(foreign), "")), 0, "nobody vouches for it");
    assert_eq!(status(ask_as(&with(true, "ann may pull in a"), Some(own), "")), 403);
    assert_eq!(
        status(ask_as(&with(false, "client may pull in a"), Some(own), "")),
        401,
        "nobody asked for it"
    );
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
