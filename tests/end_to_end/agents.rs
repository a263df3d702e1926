//! RUN --mount=type=ssh: an agent of the caller's, at a socket of the step's own. This test program is what asks it.

use crate::support::user::User;
use crate::support::{Slipway, run, wait_until};
use slipway_skip::need;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What tells this program that it is the one in the container.
const PROBE: &str = "SLIPWAY_AGENT_PROBE";

/// Not a test but what the container runs: the answers' kinds to a list, and to what only changes an agent.
#[test]
fn probe() {
    if std::env::var_os(PROBE).is_none() {
        return;
    }
    let socket = std::env::var("SSH_AUTH_SOCK").unwrap();
    let mut agent = match UnixStream::connect(socket) {
        Ok(agent) => agent,
        Err(error) => return println!("\nprobe: {:?}", error.kind()),
    };
    let mut ask = |kind: u8| {
        agent.write_all(&[0, 0, 0, 1, kind]).unwrap();
        let mut length = [0; 4];
        agent.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        agent.read_exact(&mut answer).unwrap();
        answer
    };
    // 11 lists, 19 has all keys forgotten, 9 has those of the first version forgotten
    let (list, forgotten, again) = (ask(11), ask(19), ask(11));
    assert_eq!(list, again);
    println!("\nprobe: {} keys, {}", u32::from_be_bytes(list[1..5].try_into().unwrap()), forgotten[0]);
}

/// A real agent with one key.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    /// In a folder that its user may write.
    fn start(folder: &Path, user: Option<(u32, u32)>) -> Agent {
        let by = |program: &str| {
            let mut command = Command::new(program);
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir("/");
            command
        };
        let (socket, key) = (folder.join("real-agent"), folder.join("key"));
        let process = by("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Agent { process, socket };
        wait_until("the agent listens", || agent.socket.exists());
        // it works for nobody without a name
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).ok();
        std::os::unix::fs::chown(&key, user.map(|(uid, _)| uid), user.map(|(_, gid)| gid)).unwrap();
        run(by("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &agent.socket)).ok();
        agent
    }

    fn keys(&self) -> usize {
        run(Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &self.socket)).ok().lines().count()
    }

    fn flag(&self) -> String {
        format!("default={}", self.socket.display())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A base image with this program in it.
fn prepare(slipway: &Slipway, context: &Path) {
    slipway.import_base();
    let probe = context.join("probe");
    fs::copy(std::env::current_exe().unwrap(), &probe).unwrap();
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(context.join("Dockerfile"), "FROM base\nCOPY probe /probe\n").unwrap();
    slipway.ok(["build", "-t", "probing", context.to_str().unwrap()]);
    fs::remove_file(probe).unwrap();
}

/// What a step sees: the socket's mode and owners, and what the agent answers.
fn seen(slipway: &Slipway, context: &Path, agent: &Agent, user: &str, options: &str) -> String {
    let recipe = format!(
        "FROM probing\nUSER {user}\nRUN --mount=type=ssh{options} stat -c 'socket: %F %a %u:%g' $SSH_AUTH_SOCK; \
         {PROBE}=1 /probe agents::probe --exact --nocapture; (chmod 777 $SSH_AUTH_SOCK) 2>/dev/null && echo probe: changed\n"
    );
    fs::write(context.join("Dockerfile"), recipe).unwrap();
    let flags = ["build", "--no-cache", "--progress", "plain", "-t", "x", "--ssh", &agent.flag()];
    let ended = slipway.run(flags.into_iter().chain([context.to_str().unwrap()]));
    let lines = ended.stderr.lines().filter_map(|line| {
        ["socket: ", "probe: "]
            .iter()
            .find_map(|word| Some(line.split_once(*word)?.1))
            .filter(|line| !line.contains('$'))
    });
    lines.collect::<Vec<_>>().join(", ")
}

#[test]
fn privileged_the_socket_is_whose_the_recipe_says() {
    slipway_skip::need_root!();
    need!("ssh-agent", "ssh-add", "ssh-keygen");
    let slipway = Slipway::empty();
    let folder = slipway.context("context", &[]);
    // with a store that is deeper than an address is long
    let slipway = slipway.another(&format!("{}store", "deep/".repeat(24)));
    prepare(&slipway, &folder);
    let agent = Agent::start(slipway.path("context").parent().unwrap(), None);
    for (user, options, expected) in [
        ("0", "", "socket 600 0:0, 1 keys, 5, changed"),
        ("0", ",mode=0400,uid=1000,gid=50", "socket 400 1000:50, 1 keys, 5, changed"),
        ("1000", ",mode=0666", "socket 666 0:0, 1 keys, 5"),
        ("1000", ",uid=1000", "socket 600 1000:0, 1 keys, 5, changed"),
        ("1000:50", ",gid=50,mode=660", "socket 660 0:50, 1 keys, 5"),
        ("1000", "", "socket 600 0:0, PermissionDenied"),
        ("0", ",target=/etc/deep/er/agent", "socket 600 0:0, 1 keys, 5, changed"),
    ] {
        assert_eq!(seen(&slipway, &folder, &agent, user, options), expected, "{user} {options}");
        // whatever the step asked for, and did to its own socket
        assert_eq!(agent.keys(), 1);
        assert_eq!(fs::metadata(&agent.socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(slipway.leftovers(), [] as [String; 0]);
    }
}

#[test]
fn privileged_plain_users_lend_their_agents() {
    slipway_skip::need_root!();
    need!("ssh-agent", "ssh-add", "ssh-keygen");
    for (user, has_ids) in [(User::new(), true), (Some(User::nameless()), false)] {
        let Some(user) = user else {
            slipway_skip::skip("the test user is missing: run `cargo xtask test`");
            continue;
        };
        let (uid, gid) =
            user.owner().split_once(':').map(|(u, g)| (u.parse().unwrap(), g.parse().unwrap())).unwrap();
        let home = user.path("home");
        let context = user.context(&[("unused", "")]);
        let slipway = Slipway::of(user);
        prepare(&slipway, &context);
        let agent = Agent::start(&home, Some((uid, gid)));
        let other = if has_ids {
            "socket 600 0:0, PermissionDenied"
        } else {
            "socket 600 1000:1000, 1 keys, 5, changed"
        };
        for (user, options, expected) in [
            ("0", "", "socket 600 0:0, 1 keys, 5, changed"),
            ("1000:1000", "", other),
            ("1000:1000", ",uid=1000,gid=1000,mode=640", "socket 640 1000:1000, 1 keys, 5, changed"),
        ] {
            assert_eq!(
                seen(&slipway, &context, &agent, user, options),
                expected,
                "{has_ids} {user} {options}"
            );
        }
        assert_eq!(agent.keys(), 1);
    }
}
