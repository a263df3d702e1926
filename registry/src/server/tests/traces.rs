//! Traces: what a collector gets, and that nobody waits for one that takes nothing.

use super::mirrors::{Fake, honest, mirrors, say};
use super::notices::Receiver;
use super::*;
use crate::server::{Event, Traces};
use serde_json::Value;
use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Instant,
};

fn traced(address: SocketAddr, words: &str) -> Registry {
    Registry::start_with(|config| {
        config.traces = traces(address, words);
        config.metrics_listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    })
}

fn traces(address: SocketAddr, words: &str) -> Traces {
    let setting = format!("http://{address} {words}").parse().expect("a collector");
    Traces { setting: Some(setting), ..Traces::default() }
}

fn spans(posts: &[(String, Value)]) -> Vec<Value> {
    let all = posts.iter().map(|(_, body)| &body["resourceSpans"][0]["scopeSpans"][0]["spans"]);
    all.flat_map(|spans| spans.as_array().expect("spans").clone()).collect()
}

fn attribute(span: &Value, key: &str) -> Option<Value> {
    let all = span["attributes"].as_array().expect("attributes");
    let value = all.iter().find(|one| one["key"] == key)?["value"].clone();
    Some(value["stringValue"].as_str().or(value["intValue"].as_str()).expect("a value").into())
}

/// A number that is counted, once it is not zero.
fn counted(registry: &Registry, name: &str) -> u64 {
    for _ in 0..1000 {
        let text = registry.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).expect(name);
        if value > 0 {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("`{name}` stays 0")
}

#[test]
fn a_collector_gets_a_span_for_each_request() {
    let collector = Receiver::start(&[200]);
    let mut registry = traced(collector.address, "service=hub header=api-key:s3cret");
    registry.push_image("team/app", "1", b"layer");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let own = [("traceparent", parent), ("authorization", "Bearer s3cret-token")];
    assert_eq!(registry.call("GET", "/v2/team/app/manifests/1", &[], b"").status, 200);
    registry.call("GET", "/v2/team/app/tags/list", &own, b"");
    registry.call("GET", &format!("/v2/x/manifests/{}", "a".repeat(3000)), &[], b"");
    // those that end with the server are sent too
    registry.server = None;
    let posts = collector.wait_for(1);
    let (head, body) = &posts[0];
    assert!(head.starts_with("POST /v1/traces ") && head.contains("api-key: s3cret"), "{head}");
    assert_eq!(body["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "hub");
    let spans = spans(&posts);
    // two blobs, a manifest, and three reads
    assert_eq!(spans.len(), 6, "{spans:?}");
    let named =
        |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}"));
    let list = named("GET tags");
    assert_eq!(list["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(list["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(attribute(list, "url.path"), Some("/v2/team/app/tags/list".into()));
    assert_eq!(attribute(list, "slipway.repository"), Some("team/app".into()));
    assert_eq!(attribute(list, "client.address"), Some("127.0.0.1".into()));
    let manifest = named("PUT manifest");
    assert_eq!(attribute(manifest, "http.response.status_code"), Some("201".into()));
    assert_eq!(manifest.get("parentSpanId"), None);
    let nanoseconds = |key: &str| manifest[key].as_str().expect(key).parse::<u128>().expect("a number");
    assert!(nanoseconds("startTimeUnixNano") <= nanoseconds("endTimeUnixNano"));
    assert!(!format!("{posts:?}").contains("s3cret-token"), "no secret of a request is in it");
    let longest =
        spans.iter().filter_map(|span| attribute(span, "url.path")).map(|path| path.to_string().len());
    assert!(longest.max() < Some(300));
}

#[test]
fn what_a_client_or_the_settings_do_not_follow_is_not_sent() {
    let collector = Receiver::start(&[200]);
    let mut registry = traced(collector.address, "sample=0");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    registry.call("GET", "/v2/", &[("traceparent", &format!("{parent}-00"))], b"");
    registry.get("/v2/a/tags/list");
    registry.call("GET", "/v2/", &[("traceparent", &format!("{parent}-01"))], b"");
    registry.server = None;
    let spans = spans(&collector.wait_for(1));
    assert_eq!(spans.iter().map(|span| &span["name"]).collect::<Vec<_>>(), ["GET base"]);
}

#[test]
fn one_that_has_enough_is_asked_once_more() {
    let collector = Receiver::start(&[503, 200]);
    let registry = traced(collector.address, "");
    registry.get("/v2/");
    let posts = collector.wait_for(2);
    assert_eq!(posts[0].1, posts[1].1);
    assert!(counted(&registry, "slipway_spans_sent_total") >= 1);
}

#[test]
fn one_that_takes_nothing_holds_nobody_up() {
    for statuses in [&[400_u16][..], &[302], &[500]] {
        let collector = Receiver::start(statuses);
        let registry = traced(collector.address, "");
        registry.get("/v2/");
        assert!(counted(&registry, "slipway_spans_dropped_total") >= 1);
        assert!(!collector.wait_for(1).is_empty());
    }
    // nobody is there, or somebody who never answers
    let gone = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    for address in [gone, silent.local_addr().expect("an address")] {
        let mut registry = traced(address, "");
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(registry.get("/v2/").status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        registry.server = None;
        assert!(begun.elapsed() < Duration::from_secs(20), "it ends all the same");
    }
}

/// "OTLP/HTTP throttling": a collector says itself when it will have room.
#[test]
fn one_that_says_when_is_asked_then() {
    let at_once: super::notices::Answer = (429, "retry-after: 0\r\n", "");
    let collector = Receiver::answering(vec![at_once, at_once, at_once, at_once, (200, "", "")]);
    let registry = traced(collector.address, "");
    registry.get("/v2/");
    collector.wait_for(1);
    let begun = Instant::now();
    let posts = collector.wait_for(5);
    assert!(begun.elapsed() < Duration::from_secs(6), "own pauses would be 15 seconds and more");
    assert!(posts.iter().all(|post| post.1 == posts[0].1));
    assert!(counted(&registry, "slipway_spans_sent_total") >= 1);
    let collector = Receiver::answering(vec![(503, "retry-after: 2\r\n", ""), (200, "", "")]);
    let registry = traced(collector.address, "");
    registry.get("/v2/");
    collector.wait_for(1);
    let begun = Instant::now();
    collector.wait_for(2);
    assert!(begun.elapsed() > Duration::from_millis(1900), "{:?}", begun.elapsed());
}

#[test]
fn what_a_collector_does_without_is_counted_and_told_and_not_sent_again() {
    for (status, body, told) in [
        (
            200,
            r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no\n room"}}"#,
            "the collector does without 1 of the spans: no  room",
        ),
        (
            200,
            r#"{"partialSuccess":{"rejectedSpans":18446744073709551615}}"#,
            "18446744073709551615 of the spans",
        ),
        (400, r#"{"code":3,"message":"bad"}"#, "the collector answers 400 Bad Request: bad"),
        (400, "<html>", "the collector answers 400 Bad Request"),
    ] {
        let collector = Receiver::answering(vec![(status, "content-type: application/json\r\n", body)]);
        let failures: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&failures);
        let registry = Registry::start_with(|config| {
            config.traces = traces(collector.address, "");
            config.metrics_listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
            config.observer = Some(Arc::new(move |event: &Event<'_>| {
                if let Event::Failure { operation: "send traces", error } = event {
                    notes.lock().expect("notes").push(error.to_string());
                }
            }));
        });
        registry.get("/v2/");
        assert!(counted(&registry, "slipway_spans_dropped_total") >= 1, "{body}");
        let failures = failures.lock().expect("notes").clone();
        assert!(failures.iter().any(|failure| failure.contains(told)), "{told}: {failures:?}");
        assert_eq!(collector.wait_for(1).len(), 1, "{body}");
    }
    // words about what it took, and what is no answer of its kind: nothing is lost
    for body in
        ["", "{}", "[]", "<html>", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":{"errorMessage":"old"}}"#]
    {
        let collector = Receiver::answering(vec![(200, "", body)]);
        let registry = traced(collector.address, "");
        registry.get("/v2/");
        assert!(counted(&registry, "slipway_spans_sent_total") >= 1, "{body}");
        assert!(registry.get("/metrics").text().contains("slipway_spans_dropped_total 0"), "{body}");
    }
}

#[test]
fn only_known_methods_name_spans() {
    let collector = Receiver::start(&[200]);
    let mut registry = traced(collector.address, "");
    registry.call(&"X".repeat(100), "/v2/", &[("tracestate", "a=b")], b"");
    let own = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "ot=th:8,x=1"),
    ];
    registry.call("GET", "/v2/", &own, b"");
    registry.server = None;
    let spans = spans(&collector.wait_for(1));
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).expect(name);
    let odd = named("HTTP base");
    assert_eq!(attribute(odd, "http.request.method"), Some("_OTHER".into()));
    assert_eq!(attribute(odd, "http.request.method_original"), Some("X".repeat(100).into()));
    assert_eq!((odd.get("traceState"), &odd["flags"]), (None, &0x103.into()), "no trace of a client's");
    let given = named("GET base");
    assert_eq!((&given["traceState"], &given["flags"]), (&"ot=th:8,x=1".into(), &0x301.into()));
}

/// Heads of requests that an upstream saw, and the spans that tell of them.
#[test]
fn upstreams_of_mirrors_are_told_of_the_trace_and_of_nothing_else() {
    let layer = b"layer".to_vec();
    let elsewhere = Fake::start(honest(layer.clone()));
    let (whole, away) = (honest(layer.clone()), elsewhere.address);
    let upstream =
        Fake::start(move |head, stream| match head.contains("/blobs/") && head.starts_with("get ") {
            true => {
                let path = head.split(' ').nth(1).expect("a path");
                say(stream, "307 Temporary Redirect", &format!("location: http://{away}{path}\r\n"), b"");
            }
            false => whole(head, stream),
        });
    let collector = Receiver::start(&[200]);
    let mut registry = Registry::start_with(|config| {
        config.traces = traces(collector.address, "sample=0");
        let setting = format!("http://{} redirect={away} fresh=0s", upstream.address);
        config.mirrors = mirrors(&[("up", setting)]);
    });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    let followed = format!("{parent}-03");
    let others = [("tracestate", "a=b"), ("baggage", "secret=1"), ("traceparent", followed.as_str())];
    let get = |path: &str, headers: &[(&str, &str)]| {
        registry.call("GET", &format!("/v2/mirror/up/app/{path}"), headers, b"")
    };
    assert_eq!(get("manifests/1", &others).status, 200);
    assert_eq!(get(&format!("blobs/{}", Digest::sha256(&layer)), &others).status, 200);
    get("tags/list", &others);
    get(&format!("referrers/{}", Digest::sha256(b"none")), &others);
    let heads = upstream.heads();
    assert!(heads.len() >= 4, "{heads:?}");
    for head in heads.iter().chain(&elsewhere.heads()) {
        assert!(
            !head.contains("tracestate") && !head.contains("baggage") && !head.contains("secret"),
            "{head}"
        );
    }
    // a span each, of this trace; whom a redirect leads to hears nothing
    let told = |head: &String| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"));
        let (span, flags) = line.unwrap_or_else(|| panic!("{head}")).split_once('-').expect("flags");
        assert_eq!(flags, "03");
        span.to_owned()
    };
    let told: std::collections::BTreeSet<String> = heads.iter().map(told).collect();
    assert_eq!(elsewhere.asked("traceparent"), 0);
    assert_eq!(elsewhere.asked("/blobs/"), 1);
    // what a client does not follow is handed on, and what is nobody's trace is not
    get("manifests/1", &[("traceparent", &format!("{parent}-00"))]);
    assert_eq!(upstream.asked(&format!("traceparent: {parent}-00")), 1);
    let before = upstream.asked("traceparent");
    get("manifests/1", &[("tracestate", "a=b")]);
    get("manifests/2", &[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")]);
    assert_eq!(upstream.asked("traceparent"), before);
    registry.server = None;
    let spans = spans(&collector.wait_for(1));
    let (asked, requests): (Vec<&Value>, Vec<&Value>) = spans.iter().partition(|span| span["kind"] == 3);
    assert_eq!(requests.len(), 4, "{spans:?}");
    let ids: std::collections::BTreeSet<String> =
        asked.iter().map(|span| span["spanId"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, told);
    for span in &asked {
        assert!(requests.iter().any(|request| request["spanId"] == span["parentSpanId"]), "{span}");
        assert_eq!(attribute(span, "slipway.mirror"), Some("up".into()));
        assert_eq!(attribute(span, "server.address"), Some("127.0.0.1".into()));
        assert_eq!(attribute(span, "server.port"), Some(upstream.address.port().to_string().into()));
        assert_eq!(attribute(span, "slipway.repository"), Some("mirror/up/app".into()));
    }
    let named = |name: &str| {
        *asked.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}: {asked:?}"))
    };
    assert_eq!(named("fetch blob").get("status"), None);
    assert_eq!(attribute(named("fetch manifest"), "slipway.reference"), Some("1".into()));
    assert_eq!(named("list tags")["status"]["code"], 2, "the fake has none");
}
