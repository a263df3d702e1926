//! What an operator sees of `slipway serve`: numbers, health, logs.

use crate::support::http::request;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

#[test]
fn requests_and_changes_are_lines_of_json_and_numbers_have_a_place_of_their_own() {
    let slipway = Slipway::new();
    let (address, outside) = (free_address(), free_address());
    let (log, audit) = (slipway.path("serve.log"), slipway.path("audit.log"));
    let storage = slipway.path("storage");
    let words =
        ["serve", "--listen", &address, "--metrics-listen", &outside, "--access-log", "--log-format", "json"];
    let mut command = slipway.command(words);
    command
        .arg("--audit-log")
        .arg(&audit)
        .arg("--storage")
        .arg(&storage)
        .stderr(fs::File::create(&log).unwrap());
    let mut server = Server::start(&mut command, &address);
    let name = server.name("team/app:1");
    slipway.ok(["push", "-q", "base", &name]);
    let digest = slipway.ok(["digest", &name]).trim().to_owned();
    // what a client says of itself is no line of its own
    let agent = [("user-agent", "a\\\"} {\"status\":200")];
    assert_eq!(request(&address, "GET", "/v2/%0a%7b/tags/list", &agent, b"").status, 400);
    slipway.ok(["delete", &name]);
    let read = |path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    };
    wait_until("all is written", || read(&log).iter().any(|line| line["method"] == json!("DELETE")));
    let requests = read(&log);
    let put = requests
        .iter()
        .find(|line| line["method"] == json!("PUT") && line["path"] == json!("/v2/team/app/manifests/1"));
    let put = put.unwrap_or_else(|| panic!("{requests:#?}"));
    assert_eq!(
        (&put["repository"], &put["status"], &put["client"]),
        (&json!("team/app"), &json!(201), &json!("127.0.0.1"))
    );
    assert!(
        put["agent"].as_str().unwrap().starts_with("slipway/") && put["received"].as_u64() > Some(100),
        "{put}"
    );
    assert!(put["time"].as_str().unwrap().ends_with('Z') && put["duration_ms"].is_number(), "{put}");
    let odd = requests.iter().find(|line| line["agent"] == json!(agent[0].1)).unwrap();
    assert_eq!(odd["path"], json!("/v2/%0a%7b/tags/list"));
    let changes = read(&audit);
    let push = changes.iter().find(|line| line["action"] == json!("push")).unwrap();
    assert_eq!((&push["tags"], &push["digest"]), (&json!(["1"]), &json!(digest)));
    assert_eq!(changes.last().unwrap()["action"], json!("delete"));
    let numbers = request(&outside, "GET", "/metrics", &[], b"").text();
    assert!(
        numbers.contains("slipway_requests_total{route=\"manifest\",method=\"PUT\",status=\"201\"} 1"),
        "{numbers}"
    );
    // while it stops it is not ready, and lives
    assert_eq!(request(&outside, "GET", "/readyz", &[], b"").status, 200);
    let mut slow = TcpStream::connect(&address).unwrap();
    let head = "POST /v2/a/blobs/uploads/?digest=sha256:0 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12";
    let head = head.replace("sha256:0", &digest);
    slow.write_all(head.as_bytes()).unwrap();
    wait_until("the request is there", || {
        request(&outside, "GET", "/metrics", &[], b"").text().contains("slipway_requests_active 1")
    });
    let pid = rustix::process::Pid::from_raw(server.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("it is stopping", || request(&outside, "GET", "/readyz", &[], b"").status == 503);
    assert_eq!(request(&outside, "GET", "/healthz", &[], b"").status, 200);
    slow.write_all(b"345").unwrap();
    server.terminate_wait();
}

#[test]
fn what_cannot_be_written_is_said_before_anybody_is_served() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let words = ["serve", "--listen", &free_address(), "--audit-log", "/nowhere/at/all", "--storage"];
    let ended = crate::support::run(slipway.command(words).arg(storage));
    assert!(ended.fails(1).contains("cannot write the audit log `/nowhere/at/all`"));
}

#[test]
fn a_webhook_is_told_of_a_push() {
    let slipway = Slipway::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (receiver, address) = (listener.local_addr().unwrap(), free_address());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                let small = line.to_ascii_lowercase();
                length = small
                    .strip_prefix("content-length: ")
                    .map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            tell.send(serde_json::from_slice::<Value>(&body).unwrap()).unwrap();
        }
    });
    let hook = format!("ci=harbor http://{receiver}/ for push in team/**");
    let log = slipway.path("serve.log");
    let words =
        ["serve", "--listen", &address, "--metrics-listen", "127.0.0.1:0", "--webhook", &hook, "--storage"];
    let mut command = slipway.command(words);
    command.arg(slipway.path("storage")).stderr(fs::File::create(&log).unwrap());
    let server = Server::start(&mut command, &address);
    slipway.ok(["push", "-q", "base", &server.name("other:1")]);
    slipway.ok(["push", "-q", "base", &server.name("team/app:1")]);
    let body = told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(body["type"], json!("PUSH_ARTIFACT"));
    let resource = &body["event_data"]["resources"][0];
    assert_eq!(resource["resource_url"], json!(server.name("team/app:1")));
    assert_eq!(resource["digest"], json!(slipway.ok(["digest", &server.name("team/app:1")]).trim()));
    let shown = fs::read_to_string(&log).unwrap();
    assert!(shown.contains("showing numbers and health on http://127.0.0.1:"), "{shown}");
}
