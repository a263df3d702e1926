//! What a person sees at a terminal while a build, a pull or a push goes on, and what is left when it is over.

use crate::support::http::{Answers, reply};
use crate::support::screen::Screen;
use crate::support::server::Server;
use crate::support::{Slipway, TIME_LIMIT};
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A command at a terminal of its own, and all that was to be seen.
struct Seen {
    screen: Screen,
    /// The lines after each piece of output.
    frames: Vec<Vec<String>>,
    raw: Vec<u8>,
    pieces: Receiver<Vec<u8>>,
    keyboard: std::fs::File,
    child: Child,
}

impl Seen {
    fn start(mut command: Command, rows: u16, columns: u16) -> Seen {
        let (ours, theirs) = crate::support::terminal();
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&theirs, size).unwrap();
        command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        command.env("TERM", command_term(&command));
        let child = command.spawn().unwrap();
        drop(command);
        let (send, pieces) = channel();
        let mut from = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                if send.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = Screen::new(rows, columns);
        Seen { screen, frames: Vec::new(), raw: Vec::new(), pieces, keyboard: ours, child }
    }

    /// Looks on until a condition holds of the lines; whether it came to that before the end.
    fn until(&mut self, condition: impl Fn(&[String]) -> bool) -> bool {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < TIME_LIMIT, "{:#?}", self.screen.text());
            match self.pieces.recv_timeout(Duration::from_millis(20)) {
                Ok(piece) => {
                    self.screen.write(&piece);
                    self.raw.extend_from_slice(&piece);
                    self.frames.push(self.screen.text());
                    if condition(self.frames.last().unwrap()) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Looks on until nothing comes for a moment.
    fn until_quiet(&mut self) {
        while let Ok(piece) = self.pieces.recv_timeout(Duration::from_millis(30)) {
            self.screen.write(&piece);
            self.raw.extend_from_slice(&piece);
        }
    }

    /// Looks on to the end; the exit status, or what a shell makes of a signal.
    fn look_on(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.until(|_| false);
        let status = self.child.wait().unwrap();
        assert!(self.screen.at_line_start(), "the prompt begins a line: {:#?}", self.screen.text());
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    fn last(&self) -> Vec<String> {
        self.screen.text()
    }

    /// Nothing of what is written anew is left, and the header stands once.
    #[track_caller]
    fn is_clean(&self, header: &str, ending: &str) {
        let last = self.last();
        let headers: Vec<&String> = last.iter().filter(|line| line.starts_with("[+]")).collect();
        assert_eq!(headers.len(), 1, "{last:#?}");
        assert!(headers[0].starts_with(header) && headers[0].ends_with(ending), "{last:#?}");
        assert!(!last.iter().any(|line| line.contains("=> => #") || line.contains("[=")), "{last:#?}");
        let broken: Vec<&String> = self.screen.broken.iter().filter(|line| drawn(line)).collect();
        assert!(broken.is_empty(), "lines that the window broke: {broken:#?}");
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line is one of those that are written anew, or that stay of them.
fn drawn(line: &str) -> bool {
    line.starts_with(" =>") || line.starts_with("[+]")
}

/// The kind of terminal that the command was given, else a usual one.
fn command_term(command: &Command) -> std::ffi::OsString {
    let given = command.get_envs().find(|(name, _)| *name == "TERM").and_then(|(_, value)| value);
    given.map_or("xterm".into(), std::ffi::OsStr::to_owned)
}

/// A build of `recipe`, without the cache.
fn build(slipway: &Slipway, name: &str, recipe: &str) -> Command {
    let context = slipway.context(name, &[("Dockerfile", recipe)]);
    let mut command = slipway.command(["build", "--no-cache"]);
    command.arg(context).env_remove("NO_COLOR");
    command
}

const SLOW: &str = "FROM base\nRUN sleep 1\nRUN for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo \"line $i of this output\"; \
                    sleep 0.15; done\nRUN echo over\n";

#[test]
fn a_build_ticks_and_shows_the_last_six_lines() {
    let slipway = Slipway::new();
    for (rows, columns) in [(24, 80), (50, 200), (12, 40)] {
        let mut seen = Seen::start(build(&slipway, "slow", SLOW), rows, columns);
        assert_eq!(seen.look_on(), 0, "{:#?}", seen.last());
        seen.is_clean("[+] Building ", "s (4/4) FINISHED");
        let tail = |frame: &&Vec<String>| frame.iter().filter(|line| line.starts_with(" => => # ")).count();
        assert_eq!(seen.frames.iter().map(|frame| tail(&frame)).max(), Some(6), "{rows}x{columns}");
        // the silent step is seen to live: its clock goes on while nothing else happens
        let silent = |line: &&String| line.starts_with(" => [0 2/4] RUN sleep 1");
        let clocks: std::collections::BTreeSet<&String> =
            seen.frames.iter().flat_map(|frame| frame.iter().filter(silent)).collect();
        assert!(clocks.len() >= 3, "{clocks:#?}");
        let counted = seen.frames.iter().any(|frame| {
            frame.iter().any(|line| line.starts_with("[+] Building ") && line.ends_with("s (2/4)"))
        });
        assert!(counted, "the header counts");
        // the newest lines, in order
        let frame = seen.frames.iter().rfind(|frame| tail(frame) == 6).unwrap();
        let numbers: Vec<u32> = frame
            .iter()
            .filter_map(|line| line.strip_prefix(" => => # line ")?.split(' ').next()?.parse().ok())
            .collect();
        assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]) && numbers.len() == 6, "{frame:#?}");
        assert!(seen.screen.colours == 0 || columns > 0);
    }
}

#[test]
fn stages_side_by_side_share_the_window() {
    let slipway = Slipway::new();
    let loud = |stage: &str| {
        format!(
            "FROM base AS {stage}\nRUN for i in $(seq 30); do echo \"{stage} $i {}\"; sleep 0.03; done\n",
            "x".repeat(150)
        )
    };
    let stages: Vec<String> =
        ["a", "b", "c", "d", "e", "f", "g", "h"].iter().map(|stage| loud(stage)).collect();
    let copies: String = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .map(|stage| format!("COPY --from={stage} /etc/passwd /{stage}\n"))
        .collect();
    let recipe = format!("{}FROM base\n{copies}", stages.concat());
    for (rows, columns) in [(24, 80), (10, 40), (6, 32)] {
        let mut seen = Seen::start(build(&slipway, "many", &recipe), rows, columns);
        assert_eq!(seen.look_on(), 0, "{:#?}", seen.last());
        seen.is_clean("[+] Bu", " FINISHED");
        for frame in &seen.frames {
            // what is drawn anew fits the window; what is above has scrolled away or stays
            let from = frame.iter().rposition(|line| line.starts_with("[+]"));
            let area = from.map_or(0, |from| frame.len() - from);
            let over = frame.iter().any(|line| line.starts_with("built "));
            assert!(over || area < usize::from(rows), "{rows}x{columns}: {frame:#?}");
        }
        if rows == 6 {
            let hidden = |line: &String| line.starts_with(" => and ") && line.ends_with(" more");
            assert!(seen.frames.iter().any(|frame| frame.iter().any(hidden)));
        }
    }
}

#[test]
fn whatever_a_step_writes_keeps_to_its_line() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN i=0; while [ $i -lt 20 ]; do printf \"\\rprogress %d%% [####]\" $i; i=$((i+1)); sleep 0.05; done; echo; sleep 0.3\n\
                  RUN printf 'no end yet'; sleep 0.5; printf ', now\\n'; sleep 0.3\n\
                  RUN printf 'wide 日本語日本語日本語日本語日本語日本語日本語 👩‍👩‍👧‍👦🎉 tab\\there\\n'; sleep 0.3\n\
                  RUN printf '\\033[31mred\\033[0m \\033[2J\\033[1;1Hhome \\033]0;title\\007 bell\\007 \\b\\b back\\n'; sleep 0.3\n\
                  RUN printf 'e\\314\\201 combined \\342\\200\\256rtl\\000nul\\377\\376bad\\n'; sleep 0.3\n\
                  RUN printf '\\n\\n\\nblank\\r\\n'; sleep 0.3\n\
                  RUN : '👩‍👩‍👧‍👦👩‍👩‍👧‍👦'; sleep 0.3\n\
                  RUN head -c 3000 /dev/zero | tr '\\000' x; sleep 0.3\n\
                  RUN printf 'at 1%%\\rat 50%%\\rat 99%%\\n'; exit 3\n";
    for (rows, columns) in [(24, 80), (12, 41)] {
        // sequences other than slipway's own would end the test in the model of the terminal
        let mut seen = Seen::start(build(&slipway, "odd", recipe), rows, columns);
        assert_eq!(seen.look_on(), 1, "{:#?}", seen.last());
        let any = |text: &str| seen.frames.iter().any(|frame| frame.iter().any(|line| line.contains(text)));
        for text in [
            "# progress 19% [####]",
            "# no end yet",
            "# no end yet, now",
            "# wide 日本語",
            "red home",
            "# blank",
        ] {
            assert!(any(text), "{text} is never shown");
        }
        let moving = |line: &String| line.contains("# progress ") && !line.contains(" 19% ");
        assert!(seen.frames.iter().any(|frame| frame.iter().any(moving)), "a bar moves");
        assert!(!any("u000d"), "returns are followed, not shown");
        seen.is_clean("[+] Building ", " FAILED");
        let last = seen.last().join("\n");
        // what failed is shown as it ended up, and how
        assert!(last.contains("\nat 99%\n") && !last.contains("at 50%\n"), "{last}");
        assert!(last.replace('\n', "").contains("ended with exit status 3"), "{last}");
    }
}

#[test]
fn a_long_command_does_not_hide_how_it_ended() {
    let slipway = Slipway::new();
    let recipe = format!("FROM base\nRUN : '{}'; exit 42\n", "long ".repeat(200));
    let message = slipway.build("long", &recipe, &[]).fails(1);
    assert!(message.contains("ended with exit status 42"), "{message}");
}

#[test]
fn an_interrupt_leaves_a_clean_screen() {
    slipway_skip::need!("setsid");
    let slipway = Slipway::new();
    let slow = "FROM base\nRUN for i in $(seq 100); do echo \"line $i\"; sleep 0.1; done\n";
    let mut seen = Seen::start(at_its_terminal(&build(&slipway, "slow", slow)), 24, 80);
    assert!(seen.until(|frame| frame.iter().any(|line| line.contains("# line 3"))));
    seen.keyboard.write_all(b"\x03").unwrap();
    assert_eq!(seen.look_on(), 130);
    seen.is_clean("[+] Building ", " FAILED");
    assert!(seen.last().iter().any(|line| line.contains("CANCELED")), "{:#?}", seen.last());
    // transfers that never end
    let held = held();

    let name = format!("{}/app", held.address);
    for words in [vec!["pull", &name], vec!["push", "base", &name]] {
        let mut seen = Seen::start(at_its_terminal(&slipway.command(words.clone())), 24, 80);
        assert!(
            seen.until(|frame| frame
                .iter()
                .any(|line| line.starts_with("[+] Pu") && !line.ends_with(" 0.0s")))
        );
        seen.keyboard.write_all(b"\x03").unwrap();
        assert_eq!(seen.look_on(), 130, "{words:?}");
        seen.is_clean("[+] Pu", " CANCELED");
        assert_eq!(seen.last().len(), 1, "{:#?}", seen.last());
    }
}

#[test]
fn a_push_after_a_build_is_interrupted_by_one_key() {
    slipway_skip::need!("setsid");
    let slipway = Slipway::new();
    let held = held();
    let mut command = build(&slipway, "pushed", "FROM base\nRUN echo 1 > /1\n");
    command.args(["--push", "-t", &format!("{}/app", held.address)]);
    let mut seen = Seen::start(at_its_terminal(&command), 24, 80);
    let pushing = |line: &String| line.starts_with("[+] Pushing") && !line.ends_with(" 0.0s");
    assert!(seen.until(|frame| frame.iter().any(pushing)));
    seen.keyboard.write_all(b"\x03").unwrap();
    assert_eq!(seen.look_on(), 130, "{:#?}", seen.last());
    let last = seen.last();
    assert!(
        last.last().unwrap().starts_with("[+] Pushing") && last.last().unwrap().ends_with(" CANCELED"),
        "{last:#?}"
    );
}

/// The command in a shell that leads the terminal, so that keys reach it. The shell stays a moment: with its leader a
/// terminal loses what nobody has read yet.
fn at_its_terminal(command: &Command) -> Command {
    let mut leader = Command::new("setsid");
    leader.args(["--ctty", "sh", "-c", "trap : INT; \"$@\"; status=$?; sleep 0.5; exit $status", "sh"]);
    leader.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => drop(leader.env(name, value)),
            None => drop(leader.env_remove(name)),
        }
    }
    leader
}

/// A registry that answers nothing but that it is one.
fn held() -> Answers {
    Answers::start(|_, path, _| match path {
        "/v2/" => reply(200, "", "{}"),
        _ => {
            std::thread::sleep(TIME_LIMIT);
            String::new()
        }
    })
}

#[test]
fn a_window_may_change_its_size() {
    let slipway = Slipway::new();
    let wide = "FROM base\nRUN for i in $(seq 20); do echo \"line $i of something that is longer than the window is wide \
                after it has become narrow\"; sleep 0.1; done\n";
    let mut seen = Seen::start(build(&slipway, "wide", wide), 24, 120);
    for (rows, columns, line) in [(24, 50, "# line 4 "), (20, 30, "# line 8 "), (30, 140, "# line 12 ")] {
        assert!(seen.until(|frame| frame.iter().any(|shown| shown.contains(line))));
        // a frame that is on its way was made for the other size, at a real terminal too: this one comes between two
        seen.until_quiet();
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&seen.keyboard, size).unwrap();
        seen.screen.resize(rows, columns);
    }
    assert_eq!(seen.look_on(), 0, "{:#?}", seen.last());
    seen.is_clean("[+] Building ", " FINISHED");
}

#[test]
fn colours_and_movement_only_where_they_are_understood() {
    let slipway = Slipway::new();
    let failing = "FROM base\nRUN echo a line; exit 1\n";
    let mut seen = Seen::start(build(&slipway, "colours", failing), 24, 80);
    assert_eq!(seen.look_on(), 1);
    assert!(seen.screen.colours > 0);
    let mut command = build(&slipway, "colours", failing);
    command.env("NO_COLOR", "1");
    let mut seen = Seen::start(command, 24, 80);
    assert_eq!(seen.look_on(), 1);
    assert_eq!(seen.screen.colours, 0);
    seen.is_clean("[+] Building ", " FAILED");
    let mut command = build(&slipway, "colours", failing);
    command.env("TERM", "dumb");
    let mut seen = Seen::start(command, 24, 80);
    assert_eq!(seen.look_on(), 1);
    assert!(!seen.raw.contains(&0x1b), "{:?}", String::from_utf8_lossy(&seen.raw));
    assert!(seen.last().iter().any(|line| line.starts_with("#2 [0 2/2] RUN")), "{:#?}", seen.last());
    // a bar in lines that are printed one after the other
    let mut command = build(&slipway, "bar", "FROM base\nRUN printf 'at 1%%\\rat 99%%\\n'\n");
    let mut seen =
        Seen::start(std::mem::replace(command.args(["--progress", "plain"]), Command::new("true")), 24, 80);
    assert_eq!(seen.look_on(), 0);
    assert!(
        seen.last().iter().any(|line| line.ends_with(" at 99%") && !line.contains("1%")),
        "{:#?}",
        seen.last()
    );
}

#[test]
fn transfers_have_bars_with_bytes_and_an_end() {
    let slipway = Slipway::new();
    let context = slipway.context("big", &[("Dockerfile", "FROM base\nCOPY one /\nCOPY two /\n")]);
    for (name, seed) in [("one", 1_u64), ("two", 2)] {
        // bytes that nothing compresses
        let mut state = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(3 << 20)
        .collect();
        std::fs::write(context.join(name), bytes).unwrap();
    }
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let slow = crate::support::server::slow(&server.address, 2 << 20);
    let name = format!("{slow}/team/big:1");
    slipway.ok(["build", "-q", "-t", &name, context.to_str().unwrap()]);
    let fresh = slipway.another("fresh");
    for (store, words, doing) in [(&slipway, "push", "pushing"), (&fresh, "pull", "pulling")] {
        let mut seen = Seen::start(store.command([words, &name]), 24, 100);
        assert_eq!(seen.look_on(), 0, "{:#?}", seen.last());
        seen.is_clean("[+] Pu", " FINISHED");
        let bar = |line: &String| {
            line.starts_with(&format!(" => {doing} ")) && line.contains(" [=") && line.contains("MB / 3.14MB")
        };
        assert!(
            seen.frames.iter().any(|frame| frame.iter().filter(|line| bar(line)).count() == 2),
            "two at once"
        );
        let last = seen.last();
        assert!(
            last.iter().filter(|line| line.contains(doing) && line.contains(" 3.14MB ")).count() == 2,
            "{last:#?}"
        );
        assert!(last.last().unwrap().starts_with(&format!("{slow}/team/big@sha256:")), "{last:#?}");
    }
}
