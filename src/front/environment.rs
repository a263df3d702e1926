//! What docker's environment says, and what a command cannot do without.

use super::{Flag, Line};
use crate::error::Failure;

/// Commands that ask docker's daemon elsewhere.
const AT_A_DAEMON: [&str; 11] =
    ["build", "images", "import", "inspect", "load", "pull", "push", "rmi", "run", "save", "tag"];

/// Adds what the environment says to the line, and answers lines that lack what they need.
pub(super) fn apply(line: &mut Line, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let Some(command) = line.command.first().cloned() else { return Ok(()) };
    let wrong = line.flags.iter().any(|flag| matches!(flag, Flag::Wrong(_)));
    let help = line.flags.contains(&Flag::Switch("help".to_owned(), true));
    if wrong || help {
        return Ok(());
    }
    if command == "build" && line.words.is_empty() {
        let words = "`slipway build` needs a context: the folder that COPY takes files from";
        return Err(Failure::usage(words).with_hint("the folder that you are in is `.`: slipway build ."));
    }
    if line.command == ["context", "ls"] && line.words.is_empty() {
        let words = "`slipway context ls` needs a folder: it shows what a build of it could see";
        return Err(Failure::usage(words).with_hint(
            "slipway has no daemon, so there are none to list; the folder that you are in is `.`",
        ));
    }
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let lacks = |line: &Line, wanted: &str| {
        !line.flags.iter().any(|flag| matches!(flag, Flag::Value(name, _) if name == wanted))
    };
    if matches!(command.as_str(), "build" | "run" | "pull")
        && lacks(line, "platform")
        && let Some(platform) = set("DOCKER_DEFAULT_PLATFORM")
    {
        line.flags.push(Flag::Value("platform".to_owned(), platform.into()));
    }
    if command == "build" {
        if lacks(line, "progress")
            && set("SLIPWAY_PROGRESS").is_none()
            && let Some(progress) = set("BUILDKIT_PROGRESS")
        {
            match progress.as_str() {
                "auto" | "plain" | "tty" | "quiet" | "rawjson" => {
                    line.flags.push(Flag::Value("progress".to_owned(), progress.into()));
                }
                _ => line.notes.push(format!("BUILDKIT_PROGRESS is passed over: `{progress}` is no style")),
            }
        }
        if set("DOCKER_BUILDKIT").is_some_and(|value| value == "0") {
            line.notes
                .push("DOCKER_BUILDKIT=0 is passed over: there is one builder, with BuildKit's rules".into());
        }
    }
    if AT_A_DAEMON.contains(&command.as_str()) {
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"] {
            // docker's name for the daemon of this machine
            if let Some(value) = set(name).filter(|value| value != "default") {
                line.notes.push(format!(
                    "{name}={value} is passed over: slipway has no daemon and works on this machine"
                ));
            }
        }
    }
    if matches!(command.as_str(), "build" | "pull" | "push" | "run")
        && set("DOCKER_CONTENT_TRUST").is_some_and(|value| value == "1" || value == "true")
    {
        let words = "DOCKER_CONTENT_TRUST is passed over: signatures are neither made nor checked; name images by digest";
        line.notes.push(words.into());
    }
    Ok(())
}
