//! What `slipway serve` writes about its requests and changes.
//!
//! A line each, whatever a client sends: as JSON control characters are escaped by its grammar, as text by [`show::note`].

use crate::{
    error::{self, Failure},
    settings::{LogFormat, Settings},
    show,
};
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;
use slipway_registry::server::{Change, Dropped, Event, Handled, Observer, storage::Damage};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// What is told, as the settings say.
pub(super) fn observer(settings: &Settings) -> Result<Observer, Failure> {
    let format = settings.access_log.then(|| settings.log_format.unwrap_or(LogFormat::Text));
    let audit = settings.audit_log.clone();
    if let Some(path) = &audit {
        // what cannot be written is found before anybody is served
        open(path).map_err(|error| {
            Failure::new(format!("cannot write the audit log `{}`: {error}", path.display()))
        })?;
    }
    Ok(Arc::new(move |event: &Event<'_>| match event {
        Event::Request(handled) => match format {
            Some(LogFormat::Json) => show::note(of_request(handled)),
            Some(LogFormat::Text) => show::note(in_words(handled)),
            None => {}
        },
        Event::Change(change) => {
            if let Some(path) = &audit {
                keep(path, change);
            }
        }
        Event::Damaged(damage) => {
            show::note(format_args!("error: {damage}"));
            if let Some(path) = &audit {
                write(path, &of_damage(damage));
            }
        }
        Event::Collected(collected) => {
            show::note(format_args!("collected {}", super::gc::in_words(collected)));
        }
        Event::Certificate { names, ends } => show::note(format_args!(
            "a new certificate for {}, until {}",
            names.join(", "),
            rfc3339::format(*ends)
        )),
        Event::Failure { operation, error } => {
            show::note(format_args!("error: {operation}: {}", error::chain(*error)));
        }
        Event::NoticeDropped(Dropped { hook, attempts, why }) => show::note(format_args!(
            "error: a notice to the webhook `{hook}` is given up after {attempts} attempts: {why}"
        )),
        // others can be sent by anybody, and are a line for who asks for one a request
        Event::Refused { issuer, why, signed } if *signed || format.is_some() => {
            show::note(format_args!("refused a token of issuer {issuer}: {why}"));
        }
        _ => {}
    }))
}

fn in_words(handled: &Handled<'_>) -> String {
    let Handled { method, path, user, status, elapsed, .. } = handled;
    let user = user.map(|user| format!(" {user}")).unwrap_or_default();
    format!("{method} {path} {status} {:.1}ms{user}", elapsed.as_secs_f64() * 1000.0)
}

fn of_request(handled: &Handled<'_>) -> Value {
    json!({
        "time": written(handled.began),
        "client": handled.client,
        "user": handled.user,
        "agent": handled.agent,
        "method": handled.method,
        "path": handled.path,
        "repository": handled.repository,
        "status": handled.status,
        "received": handled.received,
        "bytes": handled.sent,
        "complete": handled.complete,
        // whole microseconds
        "duration_ms": handled.elapsed.as_micros() as f64 / 1000.0,
    })
}

fn of_change(change: &Change<'_>) -> Value {
    json!({
        "time": written(change.time),
        "action": change.action,
        "repository": change.repository,
        "tags": change.tags,
        "digest": change.digest,
        "user": change.user,
        "client": change.client,
        "agent": change.agent,
    })
}

fn of_damage(damage: &Damage) -> Value {
    json!({
        "time": written(SystemTime::now()),
        "action": "damaged",
        "repositories": damage.repositories,
        "digest": damage.digest.to_string(),
        "why": damage.fault.to_string(),
        "quarantined": damage.aside,
    })
}

/// A moment with its milliseconds (RFC 3339).
fn written(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = rfc3339::format(since.as_secs() as i64);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), since.subsec_millis())
}

fn open(path: &Path) -> io::Result<File> {
    // who did what is its operator's alone
    File::options().create(true).append(true).mode(0o600).open(path)
}

fn keep(path: &Path, change: &Change<'_>) {
    write(path, &of_change(change));
}

/// Adds a line in one write. The file is opened each time, so that it can be moved away.
fn write(path: &Path, value: &Value) {
    let line = format!("{value}\n");
    if let Err(error) = open(path).and_then(|mut file| file.write_all(line.as_bytes())) {
        show::note(format_args!("error: cannot write the audit log `{}`: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn handled<'a>(path: &'a str, agent: &'a str) -> Handled<'a> {
        Handled {
            began: UNIX_EPOCH + Duration::from_millis(1_700_000_000_007),
            method: "GET",
            path,
            repository: Some("team/app"),
            user: Some("ann"),
            client: "192.0.2.1".parse().ok(),
            agent: Some(agent),
            status: 200,
            elapsed: Duration::from_micros(1500),
            received: 0,
            sent: 7,
            complete: true,
        }
    }

    #[test]
    fn a_request_is_a_line_whatever_it_says() {
        for (path, agent) in [("/v2/", "podman/5"), ("/v2/%0a%0d", "a\nb\r\u{1b}[2J\u{2028}\"}")] {
            let line = of_request(&handled(path, agent)).to_string();
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
            let read: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((&read["path"], &read["agent"]), (&json!(path), &json!(agent)));
            assert_eq!(read["time"], json!("2023-11-14T22:13:20.007Z"));
            assert_eq!((&read["duration_ms"], &read["bytes"]), (&json!(1.5), &json!(7)));
            assert_eq!((&read["client"], &read["user"]), (&json!("192.0.2.1"), &json!("ann")));
        }
        assert_eq!(in_words(&handled("/v2/", "x")), "GET /v2/ 200 1.5ms ann");
    }

    #[test]
    fn changes_are_added_and_the_file_is_its_owner_s() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit");
        let tags = ["1".to_owned()];
        let change = Change {
            time: UNIX_EPOCH,
            action: "push",
            repository: "a",
            tags: &tags,
            digest: Some("sha256:0"),
            user: None,
            client: None,
            agent: Some("a\nb"),
        };
        keep(&path, &change);
        keep(&path, &change);
        let text = std::fs::read_to_string(&path).expect("the log");
        assert_eq!(text.lines().count(), 2);
        let read: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(
            (&read["action"], &read["tags"], &read["user"]),
            (&json!("push"), &json!(["1"]), &Value::Null)
        );
        let mode = std::fs::metadata(&path).expect("the log").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
