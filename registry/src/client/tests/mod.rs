//! The client against our own server, through a line that breaks, and against servers that lie.

mod auth;
mod devices;
mod hostile;
mod places;
mod resume;
mod round_trip;
mod tls;
mod url;

use super::*;
use crate::server::{Listen, RunningServer, Server, ServerConfig};
use slipway_oci::spec::{media_type, to_json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A client that does not wait long.
fn client() -> Client {
    client_with(|_| {})
}

fn client_with(change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig { backoff: Duration::from_millis(5), ..ClientConfig::default() };
    change(&mut config);
    Client::new(config).expect("client")
}

/// A folder of blobs of its own.
struct Local {
    blobs: Blobs,
    _folder: tempfile::TempDir,
}

impl Local {
    fn new() -> Local {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("blobs"), &folder.path().join("tmp")).expect("blobs");
        Local { blobs, _folder: folder }
    }

    fn put(&self, kind: &str, bytes: &[u8]) -> Descriptor {
        self.blobs.put(bytes).expect("put");
        Descriptor::of(kind, bytes)
    }

    /// An image with these layers: its manifest, that one's bytes, and all its blobs.
    fn image(&self, layers: &[&[u8]]) -> (Descriptor, Vec<u8>, Vec<Descriptor>) {
        let config = self.put(media_type::OCI_CONFIG, format!("{{\"n\":{}}}", layers.len()).as_bytes());
        let layers: Vec<Descriptor> =
            layers.iter().map(|bytes| self.put(media_type::OCI_LAYER, bytes)).collect();
        let manifest = slipway_oci::spec::Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: config.clone(),
            layers: layers.clone(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = to_json(&manifest);
        let blobs = std::iter::once(config).chain(layers).collect();
        (Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes, blobs)
    }
}

/// Our server on a free port.
struct Registry {
    server: RunningServer,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Registry {
        let folder = tempfile::tempdir().expect("folder");
        let mut config = ServerConfig::new(folder.path().to_owned());
        config.listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
        Registry { server: Server::bind(config).expect("bind").spawn(), _folder: folder }
    }

    fn reference(&self, rest: &str) -> Reference {
        at(self.server.address(), rest)
    }
}

fn at(address: SocketAddr, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().expect("reference")
}

/// Notes every event in words.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn event(&self, event: &Event<'_>) {
        let text = match event {
            Event::Advanced { done_bytes, size_bytes, .. } => {
                assert!(done_bytes <= size_bytes || *size_bytes == 0);
                return;
            }
            Event::Started { .. } => "started".to_owned(),
            Event::Present { .. } => "present".to_owned(),
            Event::Mounted { from, .. } => format!("mounted from {from}"),
            Event::Finished { .. } => "finished".to_owned(),
            Event::PassedOver { place, .. } => format!("passed over {place}"),
            Event::Retrying { attempt, pause, .. } => format!("retry {attempt} after {}", pause.as_secs()),
        };
        self.0.lock().expect("notes").push(text);
    }
}

impl Notes {
    fn count(&self, start: &str) -> usize {
        self.0.lock().expect("notes").iter().filter(|text| text.starts_with(start)).count()
    }
}

/// A request as a fake server sees it.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn read(stream: &TcpStream) -> Option<Asked> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Asked { method, path, headers, body })
    }
}

/// A server that answers what a test says, a connection a request, and notes what it was asked.
struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// `answer` gets each request, and how many of the same method and path came before it.
    fn start(answer: impl Fn(&Asked, usize) -> Vec<u8> + Send + Sync + 'static) -> Fake {
        Fake::streaming(move |asked, before, stream| {
            // the client may have hung up, which is its right
            let _ = stream.write_all(&answer(asked, before));
        })
    }

    fn streaming(answer: impl Fn(&Asked, usize, &mut TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (notes, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
                thread::spawn(move || {
                    let Some(request) = Asked::read(&stream) else { return };
                    let mut notes = notes.lock().expect("notes");
                    let same = |other: &&Asked| other.method == request.method && other.path == request.path;
                    let before = notes.iter().filter(same).count();
                    notes.push(request.clone());
                    drop(notes);
                    answer(&request, before, &mut stream);
                });
            }
        });
        Fake { address, asked }
    }

    fn reference(&self, rest: &str) -> Reference {
        at(self.address, rest)
    }

    /// Requests other than the first look whether this is a registry.
    fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().expect("notes");
        asked.iter().filter(|asked| asked.path != "/v2/").cloned().collect()
    }
}

/// A reply with a body and its length.
fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut all = vec![("content-length", length.as_str())];
    all.extend_from_slice(headers);
    let mut bytes = head(status, &all);
    bytes.extend_from_slice(body);
    bytes
}

/// A reply's head alone.
fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}
