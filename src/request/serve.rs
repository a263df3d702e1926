//! What the flags of `serve` ask for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address of `--listen`: `ADDRESS:PORT`, `localhost:PORT`, `:PORT` for every address of the machine as Go's servers
/// write it, and `PORT` for loopback alone.
///
/// # Errors
/// When it is none of them, in words.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let words = || {
        "it is ADDRESS:PORT, localhost:PORT, :PORT for every address, or PORT for this machine alone"
            .to_owned()
    };
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let host = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => return Err(words()),
    };
    // `+5000` is a number to the parser
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|_| digits).ok_or_else(words)?;
    Ok(SocketAddr::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::listen;

    #[test]
    fn addresses_in_every_form() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::]:80", "[::]:80"),
            ("localhost:5000", "127.0.0.1:5000"),
            (":5000", "0.0.0.0:5000"),
            ("*:5000", "0.0.0.0:5000"),
            ("5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(listen(text).map(|address| address.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":",
            "localhost",
            "::1:5000",
            "nowhere",
            "1.2.3:5",
            "5000x",
            "+5000",
            "70000",
            ":-1",
            "unix:/x",
        ] {
            assert!(listen(text).is_err(), "{text}");
        }
    }
}
