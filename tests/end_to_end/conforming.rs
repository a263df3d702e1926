//! The specification's own conformance program (opencontainers/distribution-spec, `conformance/`) against `slipway serve`,
//! with everything that it can try switched on.

use super::login::private;
use crate::support::server::Server;
use crate::support::{Slipway, find, run};
use slipway_skip::need;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What the program leaves out unless it is told, and the specification has.
const EVERYTHING: [&str; 5] = [
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
    "OCI_DATA_SPARSE",
];

/// Runs the program, which must find no fault; answers how many cases ended in which way, and its report.
#[track_caller]
fn conformance(
    slipway: &Slipway,
    server: &Server,
    login: &[(&str, &str)],
) -> (BTreeMap<String, u32>, String) {
    let mut command = Command::new(find("oci-conformance").unwrap());
    command.current_dir(slipway.path("")).envs(login.iter().copied()).envs([
        ("OCI_REGISTRY", server.address.as_str()),
        ("OCI_TLS", "disabled"),
        ("OCI_VERSION", "dev"),
        ("OCI_LOG", "error"),
    ]);
    let ended = run(command.envs(EVERYTHING.map(|name| (name, "true"))));
    let faults: Vec<&str> = ended.stdout.lines().filter(|line| line.ends_with("FAIL")).collect();
    assert!(ended.code() == Some(0) && faults.is_empty(), "{}\n{}", faults.join("\n"), ended.stderr);
    let counts = ended.stdout.lines().filter_map(|line| {
        let (name, number) = line.split_once(':')?;
        let number = number.trim().parse().ok()?;
        Some((name.trim().trim_matches('.').to_owned(), number))
    });
    (counts.collect(), ended.stdout.clone())
}

/// Nothing failed, and nothing was left out.
#[track_caller]
fn is_whole((counts, report): &(BTreeMap<String, u32>, String)) {
    assert!(counts["Pass"] >= 1028, "{report}");
    for ending in ["FAIL", "Error", "Skip", "Disabled"] {
        assert_eq!(counts.get(ending).copied().unwrap_or(0), 0, "{ending}\n{report}");
    }
}

#[test]
fn the_conformance_program_finds_no_fault_and_leaves_nothing_out() {
    need!("oci-conformance");
    let slipway = Slipway::empty();
    let address = crate::support::server::free_address();
    let mut command = slipway.command(["serve", "--listen", &address, "--sparse", "--storage"]);
    let server = Server::start(command.arg(slipway.path("storage")).stderr(Stdio::null()), &address);
    is_whole(&conformance(&slipway, &server, &[]));
}

/// The program shows a password where it is asked for one, or gets itself a token for exactly what a challenge names.
#[test]
fn the_conformance_program_finds_no_fault_behind_a_login() {
    need!("oci-conformance");
    let login = [("OCI_USERNAME", "ann"), ("OCI_PASSWORD", "secret")];
    for flags in [&["--sparse", "--basic-only"][..], &["--sparse"]] {
        let slipway = Slipway::empty();
        let server = private(&slipway, flags);
        is_whole(&conformance(&slipway, &server, &login));
    }
}
