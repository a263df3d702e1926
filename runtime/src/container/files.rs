//! Files of `/etc` that every container has of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox::spec::{BindSource, Mount};

/// Largest `/etc/resolv.conf` of the host that is shown in containers, in bytes.
const RESOLVER_BYTES: u64 = 1 << 20;

/// Writes `hosts`, `resolv.conf` and, where a name is given, `hostname` into `folder` and answers the mounts that
/// show them in `/etc`. `hosts` holds names and addresses beside localhost's.
///
/// # Errors
/// When a file cannot be written. A host without `/etc/resolv.conf` gives containers an empty one.
pub fn standard_files(
    folder: &Path,
    hosts: &[(String, String)],
    hostname: Option<&str>,
) -> io::Result<Vec<Mount>> {
    let mut table = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in hosts {
        table.push_str(&format!("{address}\t{name}\n"));
    }
    let resolver =
        slipway_oci::file::read_capped(Path::new("/etc/resolv.conf"), RESOLVER_BYTES).unwrap_or_default();
    let mut files = vec![("hosts", table.into_bytes()), ("resolv.conf", resolver)];
    files.extend(hostname.map(|name| ("hostname", format!("{name}\n").into_bytes())));
    let mut mounts = Vec::new();
    for (name, bytes) in files {
        let source = folder.join(name);
        fs::write(&source, bytes)?;
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
