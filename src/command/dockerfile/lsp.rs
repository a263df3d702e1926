//! `slipway dockerfile lsp`: messages between two pipes and the server.

use crate::error::Failure;
use serde_json::{Value, json};
use slipway_dockerfile::lsp::Server;
use std::io::{self, BufRead, Read, Write};

/// Longest message.
const MAX_MESSAGE_BYTES: u64 = 32 << 20;
/// Longest line of a message's header.
const MAX_HEADER_BYTES: u64 = 4096;
/// Most lines of a message's header.
const MAX_HEADERS: usize = 16;
/// The protocol's code for a message that is no JSON.
const PARSE_ERROR: i32 = -32700;

/// Speak the Language Server Protocol over standard streams.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Clients pass this; standard streams are all there is
    #[arg(long, hide = true)]
    stdio: bool,
}

/// Carries the command out.
pub(super) fn run(_: &Arguments) -> Result<u8, Failure> {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        // An editor that is gone needs no more answers.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(1),
        other => Ok(other?),
    }
}

/// Answers messages until the client says `exit` or closes the stream.
fn serve(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<u8> {
    let mut server = Server::new();
    while let Some(bytes) = read_message(input)? {
        let replies = match serde_json::from_slice::<Value>(&bytes) {
            Ok(message) => server.handle(&message),
            Err(error) => {
                let error = json!({"code": PARSE_ERROR, "message": error.to_string()});
                vec![json!({"jsonrpc": "2.0", "id": null, "error": error})]
            }
        };
        for reply in replies {
            let text = reply.to_string();
            write!(output, "Content-Length: {}\r\n\r\n{text}", text.len())?;
        }
        output.flush()?;
        if let Some(status) = server.exit_status() {
            return Ok(status);
        }
    }
    // The stream ended without `exit`.
    Ok(1)
}

/// The next message's bytes; nothing at the end of the stream.
fn read_message(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let wrong = |words: String| io::Error::new(io::ErrorKind::InvalidData, words);
    let mut length = None;
    for _ in 0..MAX_HEADERS {
        let mut line = Vec::new();
        input.take(MAX_HEADER_BYTES).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            let length: u64 = length.ok_or_else(|| wrong("a message without Content-Length".to_owned()))?;
            if length > MAX_MESSAGE_BYTES {
                return Err(wrong(format!(
                    "a message of {length} bytes, more than the {MAX_MESSAGE_BYTES} that are read"
                )));
            }
            let mut bytes = Vec::new();
            input.take(length).read_to_end(&mut bytes)?;
            return Ok((bytes.len() as u64 == length).then_some(bytes));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(wrong(format!("`{line}` is no header of a message")));
        };
        if name.eq_ignore_ascii_case("Content-Length") {
            length =
                Some(value.trim().parse().map_err(|_| wrong(format!("`{}` is no length", value.trim())))?);
        }
    }
    Err(wrong("a message with too many headers".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &Value) -> String {
        let text = message.to_string();
        format!("Content-Length: {}\r\nContent-Type: x\r\n\r\n{text}", text.len())
    }

    #[test]
    fn a_conversation() {
        let messages = [
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}),
            json!({"jsonrpc": "2.0", "id": 2, "method": "shutdown"}),
            json!({"jsonrpc": "2.0", "method": "exit"}),
        ];
        let input: String = messages.iter().map(framed).collect();
        let mut output = Vec::new();
        assert_eq!(serve(&mut input.as_bytes(), &mut output).unwrap(), 0);
        let output = String::from_utf8(output).unwrap();
        assert!(output.starts_with("Content-Length: "));
        assert_eq!(output.matches("Content-Length").count(), 2);
    }

    #[test]
    fn broken_streams() {
        let mut output = Vec::new();
        assert_eq!(serve(&mut &b"Content-Length: 3\r\n\r\n{x}"[..], &mut output).unwrap(), 1);
        assert!(String::from_utf8_lossy(&output).contains("-32700"));
        for (input, is_error) in [
            ("", false),
            ("Content-Length: 9\r\n\r\n{}", false),
            ("\r\n", true),
            ("nonsense\r\n\r\n", true),
            ("Content-Length: x\r\n\r\n", true),
            ("Content-Length: 99999999999\r\n\r\n", true),
        ] {
            assert_eq!(serve(&mut input.as_bytes(), &mut Vec::new()).is_err(), is_error, "{input:?}");
        }
        let long = "A: b\r\n".repeat(100);
        assert!(serve(&mut long.as_bytes(), &mut Vec::new()).is_err());
    }
}
