//! A registry of one's own on a free loopback port, for the demo and the benchmark.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, failed};

/// `slipway serve`, stopped when this goes.
pub(crate) struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Registry {
    /// Starts one with its storage in `storage`, and waits until it answers.
    pub(crate) fn start(slipway: &Path, storage: &Path) -> Result<Registry, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot find a free port"))?;
        let address = listener.local_addr().map_err(failed("cannot find a free port"))?.to_string();
        drop(listener);
        let mut command = Command::new(slipway);
        command.args(["serve", "--listen", &address, "--storage"]).arg(storage);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(failed("cannot start the registry"))?;
        let registry = Registry { child, address };
        let start = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Failure(format!("`slipway serve` does not answer on {}", registry.address)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
