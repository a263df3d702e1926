//! Passwords that the caller gives: from standard input, or typed without being shown.

use crate::{error::Failure, show};
use std::io::{IsTerminal, Read};

/// Longest password, in bytes.
const BYTES: u64 = 64 << 10;

/// All of standard input, without the line's end.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("cannot read the password from standard input: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Asks at the terminal for something that is shown, a name.
pub(crate) fn ask_shown(question: &str) -> Result<String, Failure> {
    show::write_aside(&show::text::plain(question));
    line()
}

/// Asks at the terminal, which does not show what is typed.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("standard input is no terminal to type a password at")
            .with_hint("`--password-stdin` takes the password from standard input"));
    }
    // before the question: who types at once types unseen
    let hidden = Hidden::begin()?;
    show::write_aside(&show::text::plain(question));
    let answer = line();
    drop(hidden);
    show::write_aside("\n");
    answer
}

fn line() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that shows nothing of what is typed, until this goes.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn begin() -> Result<Hidden, Failure> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let failed =
            |error| Failure::new(format!("cannot keep the terminal from showing the password: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // whoever gives up gets a terminal back that shows what is typed
        let shown = before.clone();
        crate::signals::on(&crate::signals::ENDING, move |signal| {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &shown);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        })?;
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // a terminal that is gone shows nothing either
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
