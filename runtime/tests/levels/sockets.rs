//! Issue 7, A6: what of a network that is shared can be reached. The test program itself is what runs in the container.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::ExitCode;

use slipway_runtime::{CapabilitySet, Namespace, Security};

use crate::Case;
use crate::support::{Scratch, spec, succeed};

pub(crate) const CASES: &[Case] = cases! {
    abstract_and_raw_sockets_of_a_shared_network_are_out_of_reach;
};

fn address(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

/// What the container runs.
pub(crate) fn probe(name: &str) -> ExitCode {
    let kind = |result: std::io::Result<()>| match result {
        Ok(()) => "reached".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    println!("\nstream {}", kind(UnixStream::connect_addr(&address(name)).map(drop)));
    let datagram = UnixDatagram::unbound().unwrap();
    let sent = datagram.send_to_addr(b"x", &address(&format!("{name}-datagram"))).map(drop);
    println!("datagram {}", kind(sent));
    let own = format!("{name}-own");
    let _listener = UnixListener::bind_addr(&address(&own)).unwrap();
    println!("own {}", kind(UnixStream::connect_addr(&address(&own)).map(drop)));
    let raw = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::RAW,
        Some(rustix::net::ipproto::ICMP),
    );
    println!("raw {}", kind(raw.map(drop).map_err(Into::into)));
    let packet = rustix::net::AddressFamily::from_raw(17); // AF_PACKET
    let packet = rustix::net::socket(packet, rustix::net::SocketType::RAW, None);
    println!("packet {}", kind(packet.map(drop).map_err(Into::into)));
    ExitCode::SUCCESS
}

fn abstract_and_raw_sockets_of_a_shared_network_are_out_of_reach() {
    let scratch = Scratch::new();
    fs::copy(std::env::current_exe().unwrap(), scratch.path("root/bin/probe")).unwrap();
    let name = format!("slipway-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&address(&name)).unwrap();
    let datagrams = UnixDatagram::bind_addr(&address(&format!("{name}-datagram"))).unwrap();
    let run = |network: Namespace, security: Security, capabilities: CapabilitySet, uid: u32| {
        let mut spec = spec(scratch.directory(), &["/bin/probe", "inner", "probe", &name]);
        (spec.namespaces.network, spec.security, spec.process.capabilities) =
            (network, security, capabilities);
        spec.process.user.uid = uid;
        spec.process.no_new_privileges = uid == 7;
        let seen = succeed(spec);
        let lines = seen.lines().filter(|line| {
            ["stream ", "datagram ", "own ", "raw ", "packet "].iter().any(|word| line.starts_with(word))
        });
        lines.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    const REFUSED: &str = "raw PermissionDenied, packet PermissionDenied";
    let default = || CapabilitySet::default_for(&Namespace::Host);
    let report = slipway_runtime::host::probe();
    if report.network.host_abstract_sockets {
        slipway_skip::skip("this kernel hides no abstract sockets (Landlock before version 6)");
    } else {
        for uid in [0, 7, 1000] {
            let seen = run(Namespace::Host, Security::default(), default(), uid);
            let expected =
                format!("stream PermissionDenied, datagram PermissionDenied, own reached, {REFUSED}");
            assert_eq!(seen, expected, "{uid}");
        }
        datagrams.set_nonblocking(true).unwrap();
        assert!(datagrams.recv(&mut [0; 8]).is_err(), "nothing arrived");
    }
    let open = Security { abstract_sockets: true, ..Security::default() };
    let seen = run(Namespace::Host, open, default(), 0);
    assert_eq!(seen, format!("stream reached, datagram reached, own reached, {REFUSED}"));
    let seen = run(Namespace::New, Security::default(), CapabilitySet::default_for(&Namespace::New), 0);
    let expected =
        "stream ConnectionRefused, datagram ConnectionRefused, own reached, raw reached, packet reached";
    assert_eq!(seen, expected);
}
