//! As much of HTTP/1.1 as a bench needs to fill a registry: one connection, one request at a time (RFC 9112).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::{Failure, failed};

/// A connection that is kept.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where `Location` points, without scheme and host.
    pub(super) location: Option<String>,
    /// `WWW-Authenticate`.
    pub(super) challenge: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Connection {
    /// Connects to `ADDRESS:PORT`.
    pub(super) fn open(address: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).map_err(failed(format!("cannot reach {address}")))?;
        stream.set_nodelay(true).map_err(failed("cannot set the connection up"))?;
        Ok(Connection { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Sends one request; `headers` are whole lines without their ends.
    pub(super) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        let lost = || failed(format!("`{method} {target}` had no answer"));
        self.stream.get_mut().write_all(&request).map_err(lost())?;
        self.answer(method == "HEAD").map_err(lost())
    }

    fn answer(&mut self, is_head: bool) -> std::io::Result<Answer> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut answer = Answer {
            status: status.ok_or_else(|| bad("no status"))?,
            location: None,
            challenge: None,
            body: Vec::new(),
        };
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(|_| bad("no length"))?,
                "transfer-encoding" => is_chunked = true,
                "www-authenticate" => answer.challenge = Some(value.trim().to_owned()),
                "location" => answer.location = Some(path_of(value.trim()).to_owned()),
                _ => {}
            }
        }
        if is_head {
            return Ok(answer);
        }
        if !is_chunked {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body)?;
            return Ok(answer);
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| bad("no chunk"))?;
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk)?;
            if size == 0 {
                return Ok(answer);
            }
            answer.body.extend_from_slice(&chunk[..size]);
        }
    }
}

/// What follows the authority of an absolute URL, or the whole of a relative one.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    rest.map_or(url, |rest| rest.find('/').map_or("/", |slash| &rest[slash..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path() {
        for (url, path) in [
            ("http://a:5/v2/x?y=1", "/v2/x?y=1"),
            ("/v2/x", "/v2/x"),
            ("https://a", "/"),
            ("http://a/b://c", "/b://c"),
        ] {
            assert_eq!(path_of(url), path);
        }
    }

    #[test]
    fn answers_of_both_kinds_are_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answers = [
                "HTTP/1.1 202 Accepted\r\nLocation: http://h/up?s=1\r\nContent-Length: 3\r\n\r\nabc",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n",
            ];
            let mut seen = [0; 1000];
            for answer in answers {
                let count = stream.read(&mut seen).unwrap();
                assert!(seen[..count].ends_with(b"Content-Length: 2\r\n\r\nhi"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = Connection::open(&address).unwrap();
        let first = connection.ask("POST", "/", &["X: 1"], b"hi").unwrap();
        assert_eq!(
            (first.status, first.location.as_deref(), &first.body[..]),
            (202, Some("/up?s=1"), &b"abc"[..])
        );
        assert_eq!(connection.ask("PUT", "/", &[], b"hi").unwrap().body, b"def");
        server.join().unwrap();
    }
}
