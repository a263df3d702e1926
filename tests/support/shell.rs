//! A shell at a terminal of its own, and somebody who types.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What the shell shows when it waits for a line.
const PROMPT: &str = "@@ ";
/// Nothing that is waited for takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The shell, and what it has shown.
pub struct Shell {
    keyboard: File,
    pieces: Receiver<Vec<u8>>,
    /// All that came since the last line was typed.
    pub shown: String,
    child: Child,
}

impl Shell {
    /// Starts `program` (a shell with the flags that make it read no files) with the variables of `command`, in `folder`.
    pub fn start(program: &[&str], command: &Command, folder: &Path) -> Shell {
        let (ours, theirs) = super::terminal();
        let mut shell = Command::new("setsid");
        // the terminal is its controlling one: keys become signals
        shell.arg("--ctty").args(program).current_dir(folder);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => drop(shell.env(name, value)),
                None => drop(shell.env_remove(name)),
            }
        }
        let own = super::binary();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", own.parent().unwrap().display()));
        shell.env("PS1", PROMPT).env("PS2", "> ").env("TERM", "xterm").env_remove("ENV");
        shell.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        let child = shell.spawn().unwrap();
        drop(shell);
        let (send, pieces) = channel();
        let mut screen = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                if send.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut shell = Shell { keyboard: ours, pieces, shown: String::new(), child };
        shell.wait_for(PROMPT);
        shell
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the window another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Reads until `text` was shown since the last line was typed.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |shown| shown.contains(text));
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(&self.shown) {
            let left = end.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.shown.push_str(&String::from_utf8_lossy(&piece)),
                Err(error) => panic!("{error} while waiting for `{what}`; shown:\n{}", self.shown),
            }
        }
    }

    /// Types a line; what it does begins.
    pub fn begin(&mut self, line: &str) {
        self.shown.clear();
        self.press(line);
        self.press("\r");
    }

    /// Waits for the prompt; answers what was shown between the line and it, and the exit status.
    #[track_caller]
    pub fn end(&mut self) -> (String, i32) {
        self.wait_until("the prompt", |shown| shown.ends_with(PROMPT));
        let shown = std::mem::take(&mut self.shown);
        // what was typed is shown too
        let (_, shown) = shown.split_once('\n').unwrap_or(("", ""));
        let shown = shown.trim_end_matches(PROMPT).replace("\r\n", "\n");
        self.press("echo \"<$?>\"\r");
        self.wait_until("the status", |shown| shown.ends_with(PROMPT) && shown.contains(">\r\n"));
        let status =
            self.shown.lines().find_map(|line| line.strip_prefix('<')?.strip_suffix('>')?.parse().ok());
        (shown, status.unwrap_or_else(|| panic!("no status in {}", self.shown)))
    }

    /// Types a line and waits for its end.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> (String, i32) {
        self.begin(line);
        self.end()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
