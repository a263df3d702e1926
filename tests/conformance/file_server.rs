//! A web server of a few lines: files of one folder on loopback, names as they are written, `index` for a folder; `/moved/X` leads to `/X`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// Serves `folder` until the program ends; answers the address.
pub(crate) fn start(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // a client that goes away is none of the server's business
            std::thread::spawn(move || answer(&stream, &folder).ok());
        }
    });
    address
}

fn answer(mut stream: &TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
    if let Some(moved) = path.strip_prefix("moved/") {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /{moved}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let index = format!("{path}index");
    let path = if path.is_empty() || path.ends_with('/') { index.as_str() } else { path };
    let (status, body) = match std::fs::read(folder.join(path)) {
        Ok(body) if !path.contains("..") => ("200 OK", body),
        _ => ("404 Not Found", b"not found\n".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}
