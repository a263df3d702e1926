//! A language server, without the pipes: messages in, messages out.
//!
//! [`Server::handle`] takes one decoded message of the Language Server Protocol and gives those to send back. Reading and
//! writing them is the command line's work. It offers diagnostics, hover texts, completion, formatting and definitions;
//! documents are kept whole, positions count UTF-16 units, and whatever a client sends, nothing panics.
//!
//! ```
//! use serde_json::json;
//! let mut server = slipway_dockerfile::lsp::Server::new();
//! let replies = server.handle(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}));
//! assert_eq!(replies[0]["result"]["capabilities"]["hoverProvider"], true);
//! ```

mod complete;
mod context;
mod definition;
mod diagnostics;
mod docs;
mod hover;
mod position;

use crate::format;
use position::Places;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most documents that can be open at once.
const MAX_DOCUMENTS: usize = 256;

/// Longest document in bytes; longer ones are dropped.
const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// The protocol's error codes.
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const NOT_INITIALIZED: i32 = -32002;
const REQUEST_FAILED: i32 = -32803;

/// How far a conversation has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    ShutDown,
    Ended,
}

/// A conversation with one client.
#[derive(Debug)]
pub struct Server {
    documents: BTreeMap<String, String>,
    phase: Phase,
    /// Whether `shutdown` came before `exit`.
    orderly: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// A request that cannot be answered: the error's code and words.
type Refusal = (i32, String);

impl Server {
    /// A server that waits for `initialize`.
    pub fn new() -> Self {
        Self { documents: BTreeMap::new(), phase: Phase::New, orderly: false }
    }

    /// The status to exit with, once the client has sent `exit`.
    pub fn exit_status(&self) -> Option<u8> {
        (self.phase == Phase::Ended).then_some(u8::from(!self.orderly))
    }

    /// Takes one message; gives the answers and notifications to send.
    pub fn handle(&mut self, message: &Value) -> Vec<Value> {
        let id = message.get("id").filter(|id| id.is_string() || id.is_number());
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            // An answer to a request of ours would end here too, but this server sends none.
            let is_reply = message.get("result").is_some() || message.get("error").is_some();
            let refusal = (INVALID_REQUEST, "the message has no method".to_owned());
            return if is_reply { Vec::new() } else { vec![failure(id.unwrap_or(&Value::Null), refusal)] };
        };
        let params = message.get("params").unwrap_or(&Value::Null);
        match id {
            Some(id) => match self.request(method, params) {
                Ok(result) => vec![json!({"jsonrpc": "2.0", "id": id, "result": result})],
                Err(refusal) => vec![failure(id, refusal)],
            },
            None => self.notification(method, params),
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<Value, Refusal> {
        match (self.phase, method) {
            (Phase::New, "initialize") => {
                self.phase = Phase::Running;
                Ok(capabilities())
            }
            (Phase::New, _) => Err((NOT_INITIALIZED, "the first request must be `initialize`".to_owned())),
            (Phase::Running, "shutdown") => {
                self.phase = Phase::ShutDown;
                Ok(Value::Null)
            }
            (Phase::Running, _) => self.answer(method, params),
            (Phase::ShutDown | Phase::Ended, _) => {
                Err((INVALID_REQUEST, "the server is shut down".to_owned()))
            }
        }
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, Refusal> {
        match method {
            "textDocument/hover" => {
                let (text, places, offset) = self.place(params)?;
                let found = hover::text(text, offset);
                drop(places);
                Ok(found
                    .map_or(Value::Null, |words| json!({"contents": {"kind": "markdown", "value": words}})))
            }
            "textDocument/completion" => {
                let (text, places, offset) = self.place(params)?;
                Ok(json!({"isIncomplete": false, "items": complete::items(text, offset, &places)}))
            }
            "textDocument/definition" => {
                let (text, places, offset) = self.place(params)?;
                let uri = &params["textDocument"]["uri"];
                let found = definition::find(text, offset);
                Ok(found.map_or(
                    Value::Null,
                    |span| json!({"uri": uri, "range": places.range(span.start, span.end)}),
                ))
            }
            "textDocument/formatting" => self.formatting(params),
            "initialize" => Err((INVALID_REQUEST, "the server is initialized already".to_owned())),
            other => Err((METHOD_NOT_FOUND, format!("there is no method `{other}`"))),
        }
    }

    fn document(&self, params: &Value) -> Result<&str, Refusal> {
        let uri = params.pointer("/textDocument/uri").and_then(Value::as_str);
        let uri = uri.ok_or_else(|| (INVALID_PARAMS, "`textDocument.uri` is missing".to_owned()))?;
        let text = self.documents.get(uri).map(String::as_str);
        text.ok_or_else(|| (INVALID_PARAMS, format!("`{uri}` is not open")))
    }

    fn place(&self, params: &Value) -> Result<(&str, Places<'_>, usize), Refusal> {
        let text = self.document(params)?;
        let places = Places::new(text);
        let offset = params.get("position").and_then(|position| places.offset(position));
        let offset = offset.ok_or_else(|| (INVALID_PARAMS, "`position` is missing".to_owned()))?;
        Ok((text, places, offset))
    }

    fn formatting(&self, params: &Value) -> Result<Value, Refusal> {
        let text = self.document(params)?;
        match format::format(text) {
            Ok(tidy) if tidy == text => Ok(json!([])),
            Ok(tidy) => Ok(json!([{"range": Places::new(text).range(0, text.len()), "newText": tidy}])),
            Err(found) => {
                let first = found.first().map_or("", |found| found.message.as_str());
                Err((REQUEST_FAILED, format!("the recipe has mistakes and stays as it is: {first}")))
            }
        }
    }

    fn notification(&mut self, method: &str, params: &Value) -> Vec<Value> {
        if method == "exit" {
            self.orderly = self.phase == Phase::ShutDown;
            self.phase = Phase::Ended;
        }
        let uri = params.pointer("/textDocument/uri").and_then(Value::as_str);
        let (Phase::Running, Some(uri)) = (self.phase, uri) else { return Vec::new() };
        match method {
            "textDocument/didOpen" => {
                let text = params.pointer("/textDocument/text").and_then(Value::as_str).unwrap_or_default();
                self.keep(uri, text.to_owned())
            }
            "textDocument/didChange" => {
                let Some(mut text) = self.documents.get(uri).cloned() else { return Vec::new() };
                for change in params.get("contentChanges").and_then(Value::as_array).into_iter().flatten() {
                    apply(&mut text, change);
                    if text.len() > MAX_DOCUMENT_BYTES {
                        break;
                    }
                }
                self.keep(uri, text)
            }
            "textDocument/didClose" => {
                self.documents.remove(uri);
                vec![publish(uri, &json!([]))]
            }
            _ => Vec::new(),
        }
    }

    /// Keeps a document and says what is wrong with it.
    fn keep(&mut self, uri: &str, text: String) -> Vec<Value> {
        let is_full = self.documents.len() >= MAX_DOCUMENTS && !self.documents.contains_key(uri);
        if is_full || text.len() > MAX_DOCUMENT_BYTES {
            self.documents.remove(uri);
            let message = "this document is too large, or too many are open; it is not looked at";
            return vec![
                json!({"jsonrpc": "2.0", "method": "window/showMessage", "params": {"type": 2, "message": message}}),
            ];
        }
        let found = diagnostics::of(&text, uri);
        self.documents.insert(uri.to_owned(), text);
        vec![publish(uri, &found)]
    }
}

/// Applies one change, that of a range or of the whole text; one that makes no sense is left out.
fn apply(text: &mut String, change: &Value) {
    let Some(new) = change.get("text").and_then(Value::as_str) else { return };
    let Some(range) = change.get("range").filter(|range| !range.is_null()) else {
        new.clone_into(text);
        return;
    };
    let places = Places::new(text);
    let offset = |name: &str| range.get(name).and_then(|position| places.offset(position));
    if let (Some(start), Some(end)) = (offset("start"), offset("end")) {
        text.replace_range(start.min(end)..end.max(start), new);
    }
}

fn publish(uri: &str, diagnostics: &Value) -> Value {
    let params = json!({"uri": uri, "diagnostics": diagnostics});
    json!({"jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params})
}

fn failure(id: &Value, (code, message): Refusal) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

fn capabilities() -> Value {
    json!({
        "capabilities": {
            "positionEncoding": "utf-16",
            "textDocumentSync": {"openClose": true, "change": 2},
            "hoverProvider": true,
            "completionProvider": {"triggerCharacters": ["-", "=", "$", "{", ",", " "]},
            "definitionProvider": true,
            "documentFormattingProvider": true,
        },
        "serverInfo": {"name": "slipway", "version": env!("CARGO_PKG_VERSION")},
    })
}

#[cfg(test)]
mod tests;
