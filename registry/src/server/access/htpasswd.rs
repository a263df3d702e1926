//! htpasswd files: `NAME:HASH` a line, with bcrypt (`htpasswd -B`) or argon2 (the PHC string format).

use super::rule::is_name;
use argon2::{Argon2, PasswordVerifier, password_hash::phc::PasswordHash};
use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Most users of one file.
const USERS: usize = 100_000;
/// Highest cost of bcrypt: seconds of work for every login.
const BCRYPT_COST: u32 = 16;
/// Most memory of argon2, in KiB.
const ARGON2_MEMORY_KIB: u32 = 256 << 10;
/// Most passes of argon2.
const ARGON2_PASSES: u32 = 64;
/// The cost of what [`hash`] makes.
const COST: u32 = 10;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct HtpasswdError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: HtpasswdMistake,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HtpasswdMistake {
    /// No colon.
    #[error("it is not NAME:HASH")]
    Form,
    /// A name that cannot be one.
    #[error("the name has characters that no user's name has")]
    Name,
    /// A name that is there already.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// A hash that is not understood.
    #[error(
        "the hash of `{0}` is neither bcrypt nor argon2: make it with `htpasswd -B` or `slipway registry htpasswd`"
    )]
    Hash(String),
    /// A hash that takes too much time or memory.
    #[error(
        "the hash of `{0}` costs too much: bcrypt up to {BCRYPT_COST}, argon2 up to 256 MiB and {ARGON2_PASSES} passes"
    )]
    Cost(String),
    /// Too many lines.
    #[error("there are more than {USERS} users")]
    Many,
}

#[derive(Clone)]
enum Stored {
    Bcrypt(String),
    Argon2(String),
}

impl Stored {
    fn text(&self) -> &str {
        match self {
            Stored::Bcrypt(text) | Stored::Argon2(text) => text,
        }
    }

    fn matches(&self, password: &str) -> bool {
        match self {
            Stored::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Stored::Argon2(hash) => {
                let Ok(hash) = PasswordHash::new(hash) else { return false };
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            }
        }
    }
}

/// The users of a file.
#[derive(Default)]
pub struct Htpasswd {
    users: BTreeMap<String, Stored>,
    computed: AtomicU64,
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Htpasswd({} users)", self.users.len())
    }
}

impl Htpasswd {
    /// Reads a file's text. Empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Htpasswd, HtpasswdError> {
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| HtpasswdError { line: at + 1, what };
            let (name, stored) = parse_line(line).map_err(wrong)?;
            if users.len() >= USERS {
                return Err(wrong(HtpasswdMistake::Many));
            }
            if users.insert(name.clone(), stored).is_some() {
                return Err(wrong(HtpasswdMistake::Twice(name)));
            }
        }
        Ok(Htpasswd { users, computed: AtomicU64::new(0) })
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// What stands for a user's password and changes with it.
    pub(super) fn stamp(&self, name: &str) -> Option<&str> {
        self.users.get(name).map(Stored::text)
    }

    /// Whether it is the user's password. Takes as long for a name that is not there: a hash is computed for every call, for
    /// those names one that belongs to somebody, always the same for one name. Slow on purpose.
    pub(in crate::server) fn check(&self, name: &str, password: &str) -> bool {
        let own = self.users.get(name);
        let Some(stored) = own.or_else(|| self.other(name)) else { return false };
        self.computed.fetch_add(1, Ordering::Relaxed);
        let right = stored.matches(password);
        right && own.is_some()
    }

    fn other(&self, name: &str) -> Option<&Stored> {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let number =
            digest.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let count = u64::try_from(self.users.len()).ok().filter(|count| *count > 0)?;
        self.users.values().nth((number % count) as usize)
    }

    /// How many hashes were computed.
    #[cfg(test)]
    pub(in crate::server) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }
}

fn parse_line(line: &str) -> Result<(String, Stored), HtpasswdMistake> {
    let (name, hash) = line.split_once(':').ok_or(HtpasswdMistake::Form)?;
    if !is_name(name) {
        return Err(HtpasswdMistake::Name);
    }
    let (unknown, costly) =
        (|| HtpasswdMistake::Hash(name.to_owned()), || HtpasswdMistake::Cost(name.to_owned()));
    let stored = if hash.starts_with("$argon2") {
        let parsed = PasswordHash::new(hash).map_err(|_| unknown())?;
        let parameters = argon2::Params::try_from(&parsed).map_err(|_| unknown())?;
        argon2::Algorithm::try_from(parsed.algorithm.as_str()).map_err(|_| unknown())?;
        if parsed.hash.is_none() || parsed.salt.is_none() {
            return Err(unknown());
        }
        if parameters.m_cost() > ARGON2_MEMORY_KIB || parameters.t_cost() > ARGON2_PASSES {
            return Err(costly());
        }
        Stored::Argon2(hash.to_owned())
    } else {
        let parts: bcrypt::HashParts = hash.parse().map_err(|_| unknown())?;
        if !matches!(hash.as_bytes(), [b'$', b'2', b'a' | b'b' | b'y' | b'x', b'$', ..]) {
            return Err(unknown());
        }
        if parts.get_cost() > BCRYPT_COST {
            return Err(costly());
        }
        Stored::Bcrypt(hash.to_owned())
    };
    Ok((name.to_owned(), stored))
}

/// A line of a file for a user; `None` for a name that none can have, or a password that bcrypt would cut off.
pub fn line(name: &str, password: &str) -> Option<String> {
    // bcrypt looks at 72 bytes, the end of the text among them
    let fits = !password.is_empty() && password.len() <= 71 && !password.contains('\0');
    let parts = bcrypt::hash_with_result(password, COST).ok().filter(|_| fits && is_name(name))?;
    Some(format!("{name}:{}", parts.format_for_version(bcrypt::Version::TwoY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `password` with bcrypt of cost 4, and with argon2id of 8 KiB.
    pub(crate) const BCRYPT: &str = "$2y$04$";

    #[test]
    fn both_kinds_are_checked() {
        let bcrypt = bcrypt::hash("right", 4).expect("a hash");
        assert!(bcrypt.starts_with("$2b$04$") && BCRYPT.starts_with("$2y"));
        let y = bcrypt.replacen("$2b$", "$2y$", 1);
        // argon2(1): echo -n right | argon2 saltsalt -id -k 64 -t 1 -p 1 -e
        let argon2 = {
            use argon2::PasswordHasher;
            let own = Argon2::from(argon2::Params::new(64, 1, 1, None).expect("parameters"));
            let hash: PasswordHash = own.hash_password_with_salt(b"right", b"saltsalt").expect("a hash");
            hash.to_string()
        };
        let file = Htpasswd::parse(&format!("# users\nann:{y}\n\nbob:{argon2}\n")).expect("a file");
        assert_eq!(file.names().collect::<Vec<_>>(), ["ann", "bob"]);
        for (name, password, right) in [
            ("ann", "right", true),
            ("ann", "wrong", false),
            ("ann", "", false),
            ("bob", "right", true),
            ("bob", "wrong", false),
            ("eve", "right", false),
            ("", "right", false),
            ("ann", "right\0", false),
        ] {
            let before = file.computed();
            assert_eq!(file.check(name, password), right, "{name} {password}");
            assert_eq!(file.computed() - before, 1, "the same work for everybody: {name}");
        }
        assert!(!Htpasswd::default().check("ann", "right"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, word) in [
            ("ann", 1, "NAME:HASH"),
            ("# x\n:x", 2, "name"),
            ("a b:x", 1, "name"),
            ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", 1, "neither bcrypt"),
            ("ann:$apr1$x$y", 1, "neither bcrypt"),
            ("ann:plain", 1, "neither bcrypt"),
            ("ann:", 1, "neither bcrypt"),
            ("ann:$2y$04$short", 1, "neither bcrypt"),
            ("ann:$2y$31$abcdefghijklmnopqrstuuZ7jX2LJn3gkQJ8FXy6pFrJdZbPLq9i2", 1, "too much"),
            ("ann:$argon2id$v=19$m=65536,t=3,p=4", 1, "neither bcrypt"),
            ("ann:$argon2id$v=19$m=4194304,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", 1, "too much"),
            ("ann:$argon2id$v=19$m=64,t=300,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", 1, "too much"),
            ("ann:$argon2x$v=19$m=64,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", 1, "neither bcrypt"),
        ] {
            let error = Htpasswd::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
        let twice = format!("{0}\n{0}", super::line("ann", "x").expect("a line"));
        assert_eq!(Htpasswd::parse(&twice).expect_err("twice").what, HtpasswdMistake::Twice("ann".into()));
    }

    #[test]
    fn lines_that_are_made_are_read() {
        let made = line("ann", "pass:word").expect("a line");
        assert!(Htpasswd::parse(&made).expect("a file").check("ann", "pass:word"), "{made}");
        for (name, password) in [("a:b", "x"), ("ann", ""), ("ann", "a\0b"), ("ann", "x".repeat(72).as_str())]
        {
            assert!(line(name, password).is_none(), "{name} {password:?}");
        }
    }
}
