//! A server that is told to stop: what is under way ends, what is new is refused, and it takes no longer than it may.

use super::*;
use std::{
    thread,
    time::{Duration, Instant},
};

/// Half a chunk of a session, on a connection of its own.
fn half(registry: &Registry) -> (TcpStream, String) {
    let session = registry.session("a");
    let mut stream = registry.connect();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
    stream.write_all(head.as_bytes()).expect("half a chunk");
    // it is under way
    thread::sleep(Duration::from_millis(200));
    (stream, session)
}

fn stop(registry: &mut Registry) -> thread::JoinHandle<Duration> {
    let server = registry.server.take().expect("a server");
    thread::spawn(move || {
        let begun = Instant::now();
        drop(server);
        begun.elapsed()
    })
}

#[test]
fn what_is_under_way_ends_and_what_is_new_is_refused() {
    let mut registry = Registry::start_with(|config| config.drain = Duration::from_secs(30));
    let address = registry.address();
    let idle = registry.connect();
    let (mut stream, session) = half(&registry);
    let stopping = stop(&mut registry);
    thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(address).is_err(), "nobody is let in any more");
    assert!(!stopping.is_finished(), "somebody is waited for");
    stream.write_all(b"cd").expect("the other half");
    let reply = Reply::read(stream, false);
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-3")));
    let took = stopping.join().expect("stopped");
    assert!(took < Duration::from_secs(10), "who has asked for nothing is not waited for: {took:?}");
    drop(idle);
    registry.restart();
    assert_eq!(registry.get(&session).header("range"), Some("0-3"));
}

#[test]
fn who_takes_too_long_is_cut_off_and_loses_nothing() {
    let mut registry = Registry::start_with(|config| config.drain = Duration::from_secs(1));
    let (stream, session) = half(&registry);
    let took = stop(&mut registry).join().expect("stopped");
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    drop(stream);
    registry.restart();
    assert_eq!(registry.get(&session).status, 204, "the session goes on");
}
