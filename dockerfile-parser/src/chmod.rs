//! `--chmod`: octal and symbolic modes.

use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::character::complete::{char, one_of};
use nom::combinator::{eof, map};
use nom::multi::{many1, separated_list1};
use nom::sequence::terminated;
use nom::{IResult, Parser};

/// A change of mode.
///
/// ```
/// use slipway_dockerfile::chmod::Chmod;
/// assert_eq!(Chmod::parse("0644").unwrap().apply(0o100_755, false), 0o644);
/// assert_eq!(Chmod::parse("go-w,a+X").unwrap().apply(0o766, true), 0o755);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// The mode itself.
    Octal(u32),
    /// Changes, applied in order with an empty umask.
    Symbolic(Vec<Change>),
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode `{text}`")]
pub struct ChmodError {
    /// The text.
    pub text: String,
}

/// One change: whose bits, what to do with them, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    who: Who,
    operator: Operator,
    bits: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who {
    user: bool,
    group: bool,
    other: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bits {
    /// Letters of `rwxXst`.
    Letters(String),
    /// What one class has now: `u`, `g` or `o`.
    CopyOf(char),
}

/// Set-user-id, set-group-id and sticky.
const SPECIAL: u32 = 0o7000;
const EXECUTE: u32 = 0o111;

impl Chmod {
    /// Reads octal digits up to 7777, or symbols as `chmod(1)` does: `u=rwX,go+r,o=g`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let error = || ChmodError { text: text.to_owned() };
        if !text.is_empty() && text.chars().all(|ch| ch.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(error);
        }
        let (_, clauses) = terminated(separated_list1(char(','), clause), eof)
            .parse(text)
            .map_err(|_: nom::Err<nom::error::Error<&str>>| error())?;
        Ok(Self::Symbolic(clauses.into_iter().flatten().collect()))
    }

    /// The mode in octal; BuildKit gives it to created parents too.
    pub fn octal(&self) -> Option<u32> {
        match self {
            Self::Octal(mode) => Some(*mode),
            Self::Symbolic(_) => None,
        }
    }

    /// The permission bits that a file with `old_mode` gets; file type bits in `old_mode` are ignored.
    pub fn apply(&self, old_mode: u32, is_dir: bool) -> u32 {
        let old = old_mode & 0o7777;
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => {
                changes.iter().fold(old, |mode, change| change.apply(mode, old, is_dir))
            }
        }
    }
}

impl Who {
    /// The permission bits of these classes.
    fn mask(self) -> u32 {
        let bits = |wanted: bool, bits: u32| if wanted { bits } else { 0 };
        bits(self.user, 0o700) | bits(self.group, 0o070) | bits(self.other, 0o007)
    }

    /// The special bits that belong to these classes.
    fn special(self) -> u32 {
        let bits = |wanted: bool, bits: u32| if wanted { bits } else { 0 };
        bits(self.user, 0o4000) | bits(self.group, 0o2000) | bits(self.other, 0o1000)
    }
}

impl Change {
    fn apply(&self, mode: u32, original: u32, is_dir: bool) -> u32 {
        let bits = self.value(mode, original, is_dir);
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => {
                // A directory keeps its special bits unless they are named, as with GNU chmod.
                let special = if is_dir { 0 } else { self.who.special() };
                (mode & !(self.who.mask() | special)) | bits
            }
        }
    }

    /// The bits that are meant, in the classes that are meant.
    fn value(&self, mode: u32, original: u32, is_dir: bool) -> u32 {
        match &self.bits {
            Bits::CopyOf(class) => {
                let shift = match class {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                let bits = (mode >> shift) & 0o7;
                (bits * 0o111) & self.who.mask()
            }
            Bits::Letters(letters) => letters.chars().fold(0, |bits, letter| {
                bits | match letter {
                    'r' => 0o444 & self.who.mask(),
                    'w' => 0o222 & self.who.mask(),
                    'x' => EXECUTE & self.who.mask(),
                    // Judged by the mode before any change, as POSIX says.
                    'X' if is_dir || original & EXECUTE != 0 => EXECUTE & self.who.mask(),
                    's' => self.who.special() & 0o6000,
                    't' => SPECIAL & 0o1000,
                    _ => 0,
                }
            }),
        }
    }
}

/// `ugoa` and one or more operators with their bits.
fn clause(input: &str) -> IResult<&str, Vec<Change>> {
    let (rest, who) = map(take_while(|ch| "ugoa".contains(ch)), who).parse(input)?;
    map(many1((operator, bits)), |changes| {
        changes.into_iter().map(|(operator, bits)| Change { who, operator, bits }).collect()
    })
    .parse(rest)
}

fn who(letters: &str) -> Who {
    let all = letters.is_empty() || letters.contains('a');
    Who {
        user: all || letters.contains('u'),
        group: all || letters.contains('g'),
        other: all || letters.contains('o'),
    }
}

fn operator(input: &str) -> IResult<&str, Operator> {
    map(one_of("+-="), |ch| match ch {
        '+' => Operator::Add,
        '-' => Operator::Remove,
        _ => Operator::Set,
    })
    .parse(input)
}

fn bits(input: &str) -> IResult<&str, Bits> {
    alt((
        map(one_of("ugo"), Bits::CopyOf),
        map(take_while(|ch| "rwxXst".contains(ch)), |letters: &str| Bits::Letters(letters.to_owned())),
    ))
    .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, old, is_dir, expected) in [
            ("644", 0o777, false, 0o644),
            ("4755", 0o600, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=g-w", 0o664, false, 0o664 & !0o002),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("u=rwx", 0o4755, false, 0o755),
            ("g=rwx", 0o2755, true, 0o2775),
            ("o+s", 0o644, false, 0o644),
            ("u=x,g=X", 0o600, false, 0o100),
        ] {
            assert_eq!(
                Chmod::parse(text).unwrap().apply(0o100_000 | old, is_dir),
                expected,
                "{text} on {old:o}"
            );
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["", "999", "10000", "u", "u+q", "u+x,", "x+u", "+0644", "u +x", "0o644"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
