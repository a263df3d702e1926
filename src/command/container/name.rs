//! What containers are called.

use crate::error::Failure;
use rustix::{io::Errno, rand::GetRandomFlags};

/// How often a name is drawn before it gets a number.
pub(super) const ATTEMPTS: u32 = 6;

const KINDS: [&str; 32] = [
    "able", "brave", "bright", "calm", "clear", "clever", "eager", "early", "fair", "fond", "free", "fresh",
    "gentle", "glad", "happy", "keen", "kind", "lively", "loyal", "merry", "mild", "neat", "nimble",
    "patient", "proud", "quick", "quiet", "ready", "steady", "sunny", "swift", "warm",
];
const SHIPS: [&str; 32] = [
    "barge", "barque", "brig", "canoe", "caravel", "catboat", "clipper", "cog", "coracle", "cutter", "dhow",
    "dinghy", "ferry", "frigate", "galleon", "galley", "gig", "hulk", "junk", "kayak", "ketch", "launch",
    "lugger", "pinnace", "punt", "schooner", "skiff", "sloop", "tender", "trawler", "tug", "yawl",
];

/// Checks a name of the caller's (docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`).
pub(super) fn check(text: &str) -> Result<String, Failure> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !begins || text.len() < 2 || text.len() > 255 || !text.bytes().all(is_fine) {
        let words = format!("`{text}` is no name of a container");
        return Err(Failure::usage(words)
            .with_hint("two letters and digits or more, behind the first also `_`, `.` and `-`"));
    }
    Ok(text.to_owned())
}

/// A new container's id: 64 hexadecimal digits.
pub(super) fn id() -> Result<String, Failure> {
    Ok(random_bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Two words; with a number once the words alone were taken too often.
pub(super) fn random(attempt: u32) -> Result<String, Failure> {
    let [kind, ship, more, most] = random_bytes::<4>()?;
    let word = |words: &[&'static str; 32], byte: u8| words[usize::from(byte) % words.len()];
    let name = format!("{}_{}", word(&KINDS, kind), word(&SHIPS, ship));
    Ok(if attempt == 0 { name } else { format!("{name}{}", u16::from_le_bytes([more, most])) })
}

fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT], Failure> {
    let mut bytes = [0u8; COUNT];
    match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(count) if count == COUNT => Ok(bytes),
        Ok(_) => Err(std::io::Error::from(Errno::IO).into()),
        Err(errno) => Err(std::io::Error::from(errno).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for (text, name) in [("web", "web"), ("/web", "web"), ("a1_.-", "a1_.-"), ("9b", "9b")] {
            assert_eq!(check(text).ok().as_deref(), Some(name), "{text}");
        }
        for text in
            ["", "/", "a", "_a", "-a", ".a", "a b", "a/b", "ä1", "a\n", "a\u{1b}[0m", &"a".repeat(256)]
        {
            assert!(check(text).is_err(), "{text}");
        }
        for attempt in 0..3 {
            assert!(check(&random(attempt).expect("name")).is_ok());
        }
        assert_eq!(id().expect("id").len(), 64);
    }
}
