//! Traces: what a collector gets, and that nobody waits for one that takes nothing.

use super::notices::Receiver;
use super::*;
use crate::server::Traces;
use serde_json::Value;
use std::{net::TcpListener, time::Instant};

fn traced(address: SocketAddr, words: &str) -> Registry {
    Registry::start_with(|config| {
        let setting = format!("http://{address} {words}").parse().expect("a collector");
        config.traces = Traces { setting: Some(setting), ..Traces::default() };
        config.metrics_listen = vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    })
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
        let collector = Receiver::start(Box::leak(statuses.to_vec().into_boxed_slice()));
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
