//! The servers that are compared: ours, Debian's `docker-registry`, and nginx with the same bytes as the floor.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::find;
use crate::{Failure, failed, house};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on loopback, stopped when this goes.
pub(super) struct Server {
    child: Child,
    pub(super) name: &'static str,
    /// `127.0.0.1:PORT`.
    pub(super) address: String,
    /// From its start until somebody could connect.
    pub(super) started: Duration,
}

impl Server {
    /// `slipway serve` with further flags.
    pub(super) fn slipway(slipway: &Path, storage: &Path, flags: &[String]) -> Result<Server, Failure> {
        let address = free()?;
        let mut command = Command::new(slipway);
        command.args(["serve", "--listen", &address, "--storage"]).arg(storage).args(flags);
        Server::start("slipway", command, address)
    }

    /// Debian's `docker-registry`; `None` where it is not.
    pub(super) fn docker(storage: &Path) -> Result<Option<Server>, Failure> {
        let storage = format!("  filesystem:\n    rootdirectory: {}\n", storage.display());
        Server::docker_over(&storage)
    }

    /// The same with another storage, as its settings say it.
    pub(super) fn docker_over(storage: &str) -> Result<Option<Server>, Failure> {
        let Some(program) = find("docker-registry") else { return Ok(None) };
        let address = free()?;
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n{storage}  delete:\n    enabled: true\nhttp:\n  addr: {address}\n"
        );
        let mut command = Command::new(program);
        command.arg("serve").arg(config("docker-registry.yml", &text)?);
        // its client of S3 takes a folder of authorities for none at all, and does not start
        command.env_remove("AWS_CA_BUNDLE");
        Server::start("docker-registry", command, address).map(Some)
    }

    /// Debian's `docker-registry` as a mirror of another one.
    pub(super) fn docker_mirror(storage: &Path, upstream: &str) -> Result<Option<Server>, Failure> {
        let Some(program) = find("docker-registry") else { return Ok(None) };
        let address = free()?;
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\nproxy:\n  remoteurl: http://{upstream}\n",
            storage.display()
        );
        let mut command = Command::new(program);
        command.arg("serve").arg(config("docker-registry-mirror.yml", &text)?);
        Server::start("docker-registry", command, address).map(Some)
    }

    /// nginx with the files of `root`; `None` where it is not.
    pub(super) fn nginx(root: &Path) -> Result<Option<Server>, Failure> {
        let Some(program) = find("nginx") else { return Ok(None) };
        let address = free()?;
        let place = house::folder("bench/registry-nginx")?;
        let text = format!(
            "daemon off; user root; worker_processes auto; pid {place}/pid; error_log {place}/error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
               open_file_cache max=1000 inactive=60s;\n\
               client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;\n\
               uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
               server {{ listen {address}; root {root}; }} }}\n",
            place = place.display(),
            root = root.display()
        );
        let mut command = Command::new(program);
        command.arg("-c").arg(config("nginx.conf", &text)?);
        Server::start("nginx", command, address).map(Some)
    }

    /// Starts what will listen on `address`.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        address: String,
    ) -> Result<Server, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let child = command.spawn().map_err(failed(format!("cannot start {name}")))?;
        let mut server = Server { child, name, address, started: Duration::ZERO };
        while TcpStream::connect(&server.address).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(Failure(format!("{name} does not answer on {}", server.address)));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        server.started = begun.elapsed();
        Ok(server)
    }

    /// The time on processors that it and its workers took so far (proc(5), `stat`: `utime` and `stime`).
    pub(super) fn processor_time(&self) -> Duration {
        let ticks: u64 = self.processes().into_iter().filter_map(ticks).sum();
        // sysconf(_SC_CLK_TCK) is 100 on every Linux
        Duration::from_millis(ticks * 10)
    }

    /// The most memory that it had at one time, in bytes (proc(5), `status`: `VmHWM`).
    pub(super) fn most_memory(&self) -> u64 {
        let status = |process: u32| fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let peak = |process: u32| {
            let text = status(process);
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.processes().into_iter().filter_map(peak).sum::<u64>() * 1024
    }

    fn processes(&self) -> Vec<u32> {
        let main = self.child.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        std::iter::once(main).chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in self.processes().into_iter().rev() {
            let _ = Command::new("kill").arg(process.to_string()).status();
        }
        let _ = self.child.wait();
    }
}

fn ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // the name may hold anything but the last parenthesis
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A loopback address that nobody listens on.
pub(super) fn free() -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot find a free port"))?;
    Ok(listener.local_addr().map_err(failed("cannot find a free port"))?.to_string())
}

fn config(name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = house::folder("bench/registry-nginx")?.join(name);
    fs::write(&path, text).map_err(failed("cannot write a configuration"))?;
    Ok(path)
}
