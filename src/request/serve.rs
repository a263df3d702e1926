//! What the flags of `serve` ask for, and what a service manager hands over.

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use slipway_registry::server::Listen;
use std::{io, path::PathBuf, sync::Arc};

/// A place of `--listen`: `ADDRESS:PORT`, `localhost:PORT` for every loopback address, `:PORT` for every address of the machine
/// as Go's servers write it, `PORT` for this machine alone, and `unix:PATH`.
///
/// # Errors
/// When it is none of them, in words.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if let Ok(address) = text.parse() {
        return Ok(Listen::Address(address));
    }
    let words = || {
        "it is ADDRESS:PORT, localhost:PORT, :PORT for every address, PORT for this machine alone, or unix:PATH"
            .to_owned()
    };
    if let Some(path) = text.strip_prefix("unix:") {
        // as in addresses of docker and gRPC
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(words()) } else { Ok(Listen::File(PathBuf::from(path))) };
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    // `+5000` is a number to the parser
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|_| digits).ok_or_else(words)?;
    match host {
        "localhost" => Ok(Listen::Localhost(port)),
        "" | "*" => Ok(Listen::Everywhere(port)),
        _ => Err(words()),
    }
}

/// The first descriptor that systemd passes (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: i32 = 3;
/// Most sockets that are taken.
const MOST_PASSED: i32 = 64;

/// The sockets that a service manager passes to this very process (sd_listen_fds(3)): from descriptor 3 on, `LISTEN_FDS`
/// of them, if `LISTEN_PID` is its id.
///
/// # Errors
/// When a descriptor that is named is not there.
pub(crate) fn passed(own: u32, variable: &dyn Fn(&str) -> Option<String>) -> io::Result<Vec<Listen>> {
    let number = |name: &str| variable(name).and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(own) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let all = (FIRST_PASSED..).take(count.min(MOST_PASSED) as usize);
    all.map(|number| Ok(Listen::Passed(Arc::new(pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_every_form() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::]:80", "[::]:80"),
            ("localhost:5000", "localhost:5000"),
            (":5000", ":5000"),
            ("*:5000", ":5000"),
            ("5000", "localhost:5000"),
            ("unix:/run/s", "unix:/run/s"),
            ("unix:///run/s", "unix:/run/s"),
            ("unix:s", "unix:s"),
        ] {
            assert_eq!(listen(text).map(|place| place.to_string()).as_deref(), Ok(expected), "{text}");
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
            "unix:",
            "nowhere:5000",
        ] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sockets_are_taken_only_by_whom_they_are_meant_for() {
        let with = |pid: Option<&str>, count: Option<&str>| {
            let (pid, count) = (pid.map(str::to_owned), count.map(str::to_owned));
            passed(42, &move |name| match name {
                "LISTEN_PID" => pid.clone(),
                "LISTEN_FDS" => count.clone(),
                _ => None,
            })
        };
        for (pid, count) in [
            (None, None),
            (Some("41"), Some("1")),
            (None, Some("1")),
            (Some("x"), Some("1")),
            (Some("42"), None),
            (Some("42"), Some("0")),
            (Some("42"), Some("-1")),
            (Some("42"), Some("x")),
        ] {
            assert!(with(pid, count).expect("nothing").is_empty(), "{pid:?} {count:?}");
        }
    }
}
