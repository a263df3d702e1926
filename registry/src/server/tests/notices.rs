//! Webhooks: what receivers get, and what becomes of notices that they do not take.

use super::*;
use crate::server::{Event, Hook, Hooks};
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    sync::{Arc, Mutex},
};

/// What a receiver answers: a status, more headers with their line ends, and a body.
pub(super) type Answer = (u16, &'static str, &'static str);

/// A receiver that answers with these, the last one for good, and keeps what it got.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
}

impl Receiver {
    pub(super) fn start(statuses: &[u16]) -> Receiver {
        let elsewhere = "location: http://127.0.0.1:1/\r\n";
        let answer = |status: &u16| (*status, if *status == 302 { elsewhere } else { "" }, "");
        Receiver::answering(statuses.iter().map(answer).collect())
    }

    pub(super) fn answering(answers: Vec<Answer>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let got: Arc<Mutex<Vec<(String, serde_json::Value)>>> = Arc::default();
        let notes = Arc::clone(&got);
        std::thread::spawn(move || {
            let mut answered = 0;
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().expect("a second end"));
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let line = line.trim().to_owned();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = value.parse().expect("a length");
                    }
                    head.push_str(&line);
                    head.push('\n');
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() || body.is_empty() {
                    continue;
                }
                let (status, headers, text) = answers[answered.min(answers.len() - 1)];
                answered += 1;
                notes.lock().expect("notes").push((head, serde_json::from_slice(&body).expect("JSON")));
                let length = text.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{text}"
                );
            }
        });
        Receiver { address, got }
    }

    pub(super) fn wait_for(&self, count: usize) -> Vec<(String, serde_json::Value)> {
        for _ in 0..1000 {
            let got = self.got.lock().expect("notes").clone();
            if got.len() >= count {
                return got;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} notices: {:?}", self.got.lock());
    }
}

fn hooks(all: &[String]) -> Hooks {
    let hooks = all.iter().map(|text| text.parse::<Hook>().expect(text)).collect();
    Hooks { hooks, pause: Duration::from_millis(5), ..Hooks::default() }
}

#[test]
fn receivers_are_told_in_the_words_that_they_know() {
    let (harbor, plain) = (Receiver::start(&[200]), Receiver::start(&[202]));
    let all = [
        format!("h=harbor http://{}/h for push, delete, pull in team/**", harbor.address),
        format!("d=http://user:secret@{}/d", plain.address),
    ];
    let registry = Registry::start_with(|config| config.hooks = hooks(&all));
    let (digest, bytes) = registry.push_image("team/app", "1", b"layer");
    registry.get("/v2/team/app/manifests/1");
    registry.call("HEAD", "/v2/team/app/manifests/1", &[], b"");
    registry.call("DELETE", "/v2/team/app/manifests/1", &[], b"");
    registry.call("DELETE", "/v2/team/app/manifests/1", &[], b"");
    registry.push_image("other", "1", b"layer");
    let digest = digest.to_string();
    let told = harbor.wait_for(3);
    let kinds: Vec<&str> = told.iter().map(|(_, body)| body["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["PUSH_ARTIFACT", "PULL_ARTIFACT", "DELETE_ARTIFACT"]);
    let data = &told[0].1["event_data"];
    let resource = serde_json::json!({ "digest": digest, "tag": "1", "resource_url": "test/team/app:1" });
    assert_eq!(data["resources"], serde_json::json!([resource]));
    let repository = &data["repository"];
    assert_eq!((&repository["namespace"], &repository["name"]), (&"team".into(), &"app".into()));
    assert!(told[0].0.contains("content-type: application/json"), "{}", told[0].0);
    let told = plain.wait_for(3);
    let actions: Vec<&str> =
        told.iter().map(|(_, body)| body["events"][0]["action"].as_str().expect("an action")).collect();
    assert_eq!(actions, ["push", "delete", "push"]);
    let event = &told[0].1["events"][0];
    let target = &event["target"];
    assert_eq!(target["repository"], "team/app");
    assert_eq!((&target["digest"], &target["tag"]), (&digest.as_str().into(), &"1".into()));
    assert_eq!(
        (&target["mediaType"], &target["size"]),
        (&media_type::OCI_MANIFEST.into(), &bytes.len().into())
    );
    assert_eq!(target["url"], format!("http://test/v2/team/app/manifests/{digest}"));
    assert_eq!(
        (&event["request"]["method"], &event["request"]["addr"]),
        (&"PUT".into(), &"127.0.0.1".into())
    );
    assert!(event["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')));
    assert!(told[0].0.contains("vnd.docker.distribution.events.v1+json"), "{}", told[0].0);
    assert!(told[0].0.to_lowercase().contains("authorization: basic "), "{}", told[0].0);
    assert_eq!(told[1].1["events"][0]["target"]["tag"], "1");
    assert_eq!(harbor.wait_for(3).len(), 3, "a HEAD and what failed are nothing to tell");
}

#[test]
fn a_notice_waits_for_its_receiver_through_failures_and_restarts() {
    let receiver = Receiver::start(&[500, 302, 200]);
    let all = [format!("d=http://{}/", receiver.address)];
    let mut registry = Registry::start_with(|config| config.hooks = hooks(&all));
    registry.push_image("a", "1", b"one");
    receiver.wait_for(1);
    // a server that is gone sends what is left when it is back, in order
    registry.restart_with(|config| config.hooks = hooks(&["d=http://127.0.0.1:1/".to_owned()]));
    registry.push_image("a", "2", b"two");
    registry.restart_with(|config| config.hooks = hooks(&all));
    let told = receiver.wait_for(4);
    let tags: Vec<&str> =
        told.iter().map(|(_, body)| body["events"][0]["target"]["tag"].as_str().expect("a tag")).collect();
    assert_eq!(tags, ["1", "1", "1", "2"], "again until it is taken, and the next one after it");
    let digests: Vec<_> = told[..3].iter().map(|(_, body)| &body["events"][0]["id"]).collect();
    assert!(digests.iter().all(|id| *id == digests[0]), "the same notice");
    let left = || {
        let text = registry.get("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix("slipway_notices_waiting ")).map(str::to_owned)
    };
    for _ in 0..500 {
        if left().as_deref() == Some("0") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("notices are left: {:?}", left());
}

#[test]
fn what_is_refused_again_and_again_is_given_up_and_said() {
    let receiver = Receiver::start(&[400]);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&told);
    let registry = Registry::start_with(|config| {
        config.hooks = hooks(&[format!("d=http://u:hunter2@{}/", receiver.address)]);
        config.observer = Some(Arc::new(move |event| {
            if let Event::NoticeDropped(dropped) = event {
                notes
                    .lock()
                    .expect("notes")
                    .push(format!("{} {} {}", dropped.hook, dropped.attempts, dropped.why));
            }
        }));
    });
    registry.push_image("a", "1", b"one");
    for _ in 0..3000 {
        if !told.lock().expect("notes").is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = told.lock().expect("notes").clone();
    assert_eq!(told, ["d 5 it answers 400 Bad Request"]);
    assert_eq!(receiver.wait_for(5).len(), 5);
}

#[test]
fn a_client_that_hangs_up_is_told_of_all_the_same() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&told);
    let registry = Registry::start_with(|config| {
        config.observer = Some(Arc::new(move |event| {
            if let Event::Change(change) = event {
                notes.lock().expect("notes").push(format!("{} {}", change.action, change.tags.join(",")));
            }
        }));
    });
    let (_, bytes) = registry.push_image("a", "1", b"one");
    for tag in 0..20 {
        let mut stream = registry.connect();
        let kind = media_type::OCI_MANIFEST;
        let head = format!(
            "PUT /v2/a/manifests/gone{tag} HTTP/1.1\r\nhost: t\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(&[head.as_bytes(), &bytes].concat()).expect("a request");
        // gone before it is answered
        drop(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    let there = registry.get("/v2/a/tags/list").json()["tags"].as_array().expect("tags").len() - 1;
    let said = told.lock().expect("notes").iter().filter(|line| line.starts_with("push gone")).count();
    assert_eq!(said, there, "every tag that is there was told of");
}
