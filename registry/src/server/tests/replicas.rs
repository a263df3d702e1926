//! Two replicas in one process: what they know together.

use super::{access::access, *};
use crate::server::{Limits, Policy};
use slipway_skip::engines;
use std::time::Instant;

/// Two replicas of a new registry; `None` where the engines are not installed, which is said.
pub(super) fn two(change: impl Fn(&mut ServerConfig)) -> Option<[Registry; 2]> {
    if engines::postgres().is_none() || engines::store().is_none() {
        slipway_skip::skip("`initdb` or `versitygw` is not installed");
        return None;
    }
    // the folder is but the name of what they share
    let folder = tempfile::tempdir().expect("folder");
    let engines = super::engines::shared(folder.path());
    Some([0, 1].map(|_| {
        Registry::start_with(|config| {
            config.engines = Some(engines.clone());
            change(config);
        })
    }))
}

/// What one address guesses at one replica counts at the other within seconds, and what is right does not.
#[test]
fn wrong_passwords_and_requests_count_at_every_replica() {
    let found = two(|config| {
        let mut limits = Limits::default();
        for text in ["address: 6 failed logins/h", "user: 40 uploads/h"] {
            limits.add(&text.parse().expect(text));
        }
        config.policy = Policy { limits, ..Policy::default() };
        config.access = access(&["users may all in **"], &["ann", "bob"], |_| {});
    });
    let Some([first, second]) = found else { return };
    let wrong = |registry: &Registry, number: usize| {
        let shown = super::access::basic("ann", &format!("wrong {number}"));
        registry.call("GET", "/v2/", &[("authorization", &shown)], b"").status
    };
    for number in 0..4 {
        assert_eq!(wrong(&first, number), 401);
    }
    let begun = Instant::now();
    let mut tried = 100;
    while wrong(&second, tried) == 401 {
        tried += 1;
        assert!(tried < 106, "six are all that an address has, wherever");
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(900));
    }
    let begin = |registry: &Registry| registry.ask("bob", "POST", "/v2/a/blobs/uploads/", &[], b"").status;
    let (mut taken, begun) = (0, Instant::now());
    // it came from here with the right password first, at both
    while begun.elapsed() < Duration::from_secs(60) {
        match (begin(&first), begin(&second)) {
            (429, 429) => break,
            both => taken += [both.0, both.1].iter().filter(|status| **status == 202).count(),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!((40..=80).contains(&taken), "{taken} of forty were taken at two replicas");
}
