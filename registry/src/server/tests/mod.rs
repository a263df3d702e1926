//! The server over real sockets, with requests written by hand: what no well-meaning client sends.

mod access;
mod blobs;
mod collection;
mod direct;
mod drain;
mod engines;
mod forwarded;
mod hostile;
mod issuer;
mod issuers;
mod life;
mod limits;
mod manifests;
mod mirrors;
mod notices;
mod outside;
mod pressure;
mod quotas;
mod reindex;
mod replicas;
mod rot;
mod stranger;
mod tls;
mod tokens;
mod traces;
mod uploads;
mod web;

use super::Listen;
use super::{RunningServer, Server, ServerConfig};
use slipway_oci::{Algorithm, Descriptor, Digest, Hasher, spec::media_type};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A server on a free port of loopback, with its folder.
struct Registry {
    server: Option<RunningServer>,
    folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Registry {
        Registry::start_with(|_| {})
    }

    /// A server with another configuration than the default.
    fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Registry {
        let folder = tempfile::tempdir().expect("folder");
        Registry { server: Some(run(&folder, change)), folder }
    }

    /// Stops the server and opens its folder again.
    fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    fn restart_with(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        self.server = None;
        self.server = Some(run(&self.folder, change));
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("a running server").address()
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str("host: test\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| matches!(*name, "content-length" | "transfer-encoding")) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("head");
        // a server that refuses early may have closed already
        let _ = stream.write_all(body);
        Reply::read(stream, method == "HEAD")
    }

    fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        stream
    }

    /// Starts a session and answers its path.
    fn session(&self, name: &str) -> String {
        let reply = self.call("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!(reply.status, 202);
        reply.header("location").expect("location").to_owned()
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let reply = self.call("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    /// Pushes an image of one layer under a tag and answers its digest and bytes.
    fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> (Digest, Vec<u8>) {
        self.push_blob(name, b"{}");
        self.push_blob(name, layer);
        let bytes = image(layer, "");
        let reply = self.put_manifest(name, tag, media_type::OCI_MANIFEST, &bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        (Digest::sha256(&bytes), bytes)
    }

    fn put_manifest(&self, name: &str, reference: &str, kind: &str, bytes: &[u8]) -> Reply {
        self.call("PUT", &format!("/v2/{name}/manifests/{reference}"), &[("content-type", kind)], bytes)
    }
}

fn run(folder: &tempfile::TempDir, change: impl FnOnce(&mut ServerConfig)) -> RunningServer {
    let mut config = ServerConfig::new(folder.path().join("registry"));
    config.listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    config.observer = Some(std::sync::Arc::new(|event| {
        if let super::Event::Failure { operation, error } = event {
            eprintln!("{operation}: {error:?}");
        }
    }));
    change(&mut config);
    engines::bind(config).expect("bind").spawn()
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server = None;
        engines::forget(&self.folder.path().join("registry"));
    }
}

/// An image manifest with the configuration `{}`, one layer, and more fields.
fn image(layer: &[u8], more: &str) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    let layer = Descriptor::of(media_type::OCI_LAYER, layer);
    let (config, layer) =
        (serde_json::to_string(&config).expect("json"), serde_json::to_string(&layer).expect("json"));
    // spaces on purpose: the bytes have to come back as they went
    format!(
        r#"{{ "schemaVersion": 2,  "mediaType":"{}","config":{config},"layers":[{layer}]{more}, "unknown" : [1,2 ] }}"#,
        media_type::OCI_MANIFEST
    )
    .into_bytes()
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn read(mut stream: TcpStream, head: bool) -> Reply {
        let mut bytes = Vec::new();
        // a reset after the reply is no concern here
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a reply's head");
        let text = String::from_utf8(bytes[..end].to_vec()).expect("a head in ASCII");
        let mut lines = text.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status").parse().expect("number");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: bytes[end + 4..].to_vec() };
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = unchunk(&reply.body);
        }
        if head {
            assert!(reply.body.is_empty(), "HEAD has no body");
        }
        assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
        reply
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Status and error code.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().expect("a code").to_owned())
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's length");
        let length =
            usize::from_str_radix(std::str::from_utf8(&bytes[..end]).expect("hex"), 16).expect("hex");
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}
