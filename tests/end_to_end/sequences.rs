//! Flags in sequence: what a build is asked for decides its image, never what the store was asked for before.

use crate::support::Slipway;
use crate::support::server::Server;

const FILES: [(&str, &str); 2] = [("a", "one"), ("b", "two")];
const RECIPE: &str = "FROM base AS one\nARG who=nobody\nCOPY a /a\nRUN echo $who > /who\n\nFROM one\nWORKDIR /w\nCOPY b b\nRUN cat b /a > c\n";

/// Flags of one build each; every one is tried after every other.
const FLAGS: [&[&str]; 6] = [
    &["--compression", "zstd"],
    &["--compression", "gzip"],
    &["--compression", "uncompressed"],
    &["--compression", "gzip", "--build-arg", "who=me"],
    &["--label", "a=b"],
    &["--no-cache"],
];

/// Issue 7, B4: layers that were pushed have a source too, and were taken for a foreign image's.
#[test]
fn flags_of_an_earlier_build_do_not_stay() {
    let fresh: Vec<String> = FLAGS
        .iter()
        .map(|flags| {
            let slipway = Slipway::new();
            slipway.build_with("app", RECIPE, &FILES, flags).ok();
            slipway.digest("app")
        })
        .collect();
    let server_store = Slipway::empty();
    let server = Server::slipway(&server_store, &server_store.path("registry"));
    for (pushed, first) in [(true, 0), (false, 0), (true, 1), (false, 2), (true, 3)] {
        let slipway = Slipway::new();
        let name = server.name(&format!("app:{first}-{pushed}"));
        let mut before = FLAGS[first].to_vec();
        before.extend(pushed.then_some("--push"));
        slipway.build_with(&name, RECIPE, &FILES, &before).ok();
        for (second, flags) in FLAGS.iter().enumerate() {
            let mut flags = flags.to_vec();
            flags.extend(pushed.then_some("--push"));
            slipway.build_with(&name, RECIPE, &FILES, &flags).ok();
            assert_eq!(slipway.digest(&name), fresh[second], "{before:?}, then {flags:?}");
        }
    }
}
