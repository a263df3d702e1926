//! Files of `/etc` that every container has of its own.

use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox::spec::{BindSource, Mount};

/// Largest `/etc/resolv.conf` of the host that is shown in containers, in bytes.
const RESOLVER_BYTES: u64 = 1 << 20;

/// What a container is called in its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A machine's name, with an address of its own and `/etc/hostname`.
    Machine(&'a str),
    /// Another name of `localhost`, as the steps of a build have it (BuildKit `executor/oci/hosts.go`).
    Localhost(&'a str),
}

/// Where a container finds itself by its name. The network is the machine's or none, so it is an address of loopback's,
/// and not `localhost`'s, whose name it would take (Debian reference, "The hostname resolution").
const OWN_ADDRESS: &str = "127.0.1.1";

/// The lines of `/etc/hosts`. What the caller says of the container's name counts more than what we would.
fn hosts_table(hosts: &[(String, String)], name: Name<'_>) -> String {
    let is_given = |name: &str| hosts.iter().any(|(given, _)| given == name);
    let mut localhost = "localhost".to_owned();
    if let Name::Localhost(name) = name
        && name != "localhost"
        && !is_given(name)
    {
        localhost = format!("{localhost} {name}");
    }
    let mut table = format!("127.0.0.1\t{localhost}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in hosts {
        table.push_str(&format!("{address}\t{name}\n"));
    }
    if let Name::Machine(name) = name
        && name != "localhost"
        && !is_given(name)
    {
        let short = name.split('.').next().filter(|short| *short != name && !short.is_empty());
        let names: Vec<&str> = [name].into_iter().chain(short).collect();
        table.push_str(&format!("{OWN_ADDRESS}\t{}\n", names.join(" ")));
    }
    table
}

/// Writes `hosts`, `resolv.conf` and, for a machine, `hostname` into `folder` and answers the mounts that show them in
/// `/etc`. `hosts` holds names and addresses beside the container's own.
///
/// # Errors
/// When a file cannot be written. A host without `/etc/resolv.conf` gives containers an empty one.
pub fn standard_files(folder: &Path, hosts: &[(String, String)], name: Name<'_>) -> io::Result<Vec<Mount>> {
    let table = hosts_table(hosts, name);
    let resolver =
        slipway_oci::file::read_capped(Path::new("/etc/resolv.conf"), RESOLVER_BYTES).unwrap_or_default();
    let mut files = vec![("hosts", table.into_bytes()), ("resolv.conf", resolver)];
    if let Name::Machine(name) = name {
        files.push(("hostname", format!("{name}\n").into_bytes()));
    }
    let mut mounts = Vec::new();
    for (name, bytes) in files {
        let source = folder.join(name);
        // every user of the container reads them
        slipway_oci::file::write_new(&source, &bytes, 0o644)?;
        mounts.push(Mount::Bind {
            source: BindSource::Path(source),
            target: PathBuf::from(format!("/etc/{name}")),
            readonly: false,
            recursive: false,
            create: true,
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_finds_itself() {
        let top = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        let given = [("db".to_owned(), "10.0.0.1".to_owned())];
        let cases = [
            (Name::Machine("box"), &[][..], format!("{top}127.0.1.1\tbox\n")),
            (Name::Machine("a.b.c"), &[], format!("{top}127.0.1.1\ta.b.c a\n")),
            (Name::Machine("box"), &given, format!("{top}10.0.0.1\tdb\n127.0.1.1\tbox\n")),
            (Name::Machine("db"), &given, format!("{top}10.0.0.1\tdb\n")),
            (Name::Machine("localhost"), &[], top.to_owned()),
            (Name::Localhost("step"), &[], top.replacen("localhost", "localhost step", 1)),
            (Name::Localhost("db"), &given, format!("{top}10.0.0.1\tdb\n")),
        ];
        for (name, hosts, expected) in cases {
            assert_eq!(hosts_table(hosts, name), expected, "{name:?}");
        }
    }
}
