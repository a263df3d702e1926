//! `RUN --mount`: a CSV list to one of five typed mounts, defaults applied.
//!
//! Values are expanded but for `from`, where a variable is an error: the stages a RUN needs must be known before
//! anything runs. What BuildKit accepts and ignores for a type (an `id` on a bind, `ro` on a secret) is accepted here too.
//!
//! ```
//! use slipway_dockerfile::mount::RunMount;
//! let mount = RunMount::parse("type=cache,target=/root/.cache", &mut |text| Ok(text.to_owned())).unwrap();
//! let RunMount::Cache(cache) = mount else { panic!() };
//! assert_eq!((cache.id.as_str(), cache.mode), ("/root/.cache", 0o755));
//! ```

mod csv;
mod error;
mod values;

pub use error::MountError;
pub(crate) use values::parse_bool;
use values::{parse_id, parse_mode, parse_size};

use crate::expand::ExpandError;
use crate::glob::clean;

/// A mount of a RUN. Targets may be relative to the working directory, or empty, which means the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// Files of the context, a stage or an image.
    Bind(BindMount),
    /// A directory kept between builds.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs(TmpfsMount),
    /// A secret as a file, as a variable, or both.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// `type=bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Where it appears.
    pub target: String,
    /// What is mounted, within `from`; `/` unless given.
    pub source: String,
    /// The stage, named context or image; the build context unless given.
    pub from: Option<String>,
    /// Whether the command may write; what it writes is discarded.
    pub read_write: bool,
}

/// How builds share a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each gets one of its own when another is using it.
    Private,
    /// One waits for the other.
    Locked,
}

/// `type=cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// What tells caches apart; the cleaned target unless given.
    pub id: String,
    /// Where it appears.
    pub target: String,
    /// Whether the command may only read.
    pub read_only: bool,
    /// How builds share it.
    pub sharing: Sharing,
    /// What an empty cache is filled from.
    pub from: Option<String>,
    /// The directory within `from`; `/` unless given.
    pub source: String,
    /// Mode of a new cache's directory.
    pub mode: u32,
    /// Owner of a new cache's directory.
    pub uid: u32,
    /// Group of a new cache's directory.
    pub gid: u32,
}

/// `type=tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Where it appears.
    pub target: String,
    /// Its largest size.
    pub size_bytes: Option<u64>,
}

/// `type=secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// The secret's name; the target's last part unless given.
    pub id: String,
    /// The file, `/run/secrets/<id>` unless given; none when the secret is only wanted in a variable.
    pub target: Option<String>,
    /// The variable that holds the secret.
    pub env: Option<String>,
    /// Whether a missing secret fails the build.
    pub required: bool,
    /// Mode of the file.
    pub mode: u32,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
}

/// `type=ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// The agent's name; `default` unless given.
    pub id: String,
    /// The socket; `/run/buildkit/ssh_agent.N` unless given, N being the mount's number among the RUN's.
    pub target: Option<String>,
    /// Whether a missing agent fails the build.
    pub required: bool,
    /// Mode of the socket.
    pub mode: u32,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
}

/// The types' names.
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Every key, with the types that take it; no types means all of them.
const KEYS: &[(&str, &[&str])] = &[
    ("type", &[]),
    ("target", &[]),
    ("dst", &[]),
    ("destination", &[]),
    ("source", &[]),
    ("src", &[]),
    ("from", &["bind", "cache", "tmpfs", "ssh"]),
    ("readonly", &[]),
    ("ro", &[]),
    ("readwrite", &[]),
    ("rw", &[]),
    ("id", &[]),
    ("sharing", &["cache"]),
    ("mode", &["cache", "secret", "ssh"]),
    ("uid", &["cache", "secret", "ssh"]),
    ("gid", &["cache", "secret", "ssh"]),
    ("size", &["tmpfs"]),
    ("required", &["secret", "ssh"]),
    ("env", &["secret"]),
];

/// Keys that may stand without a value.
const SWITCHES: [&str; 5] = ["readonly", "ro", "readwrite", "rw", "required"];

/// One `key=value` of the list; the key in lower case.
struct Field {
    key: String,
    value: Option<String>,
}

/// What all types share, collected before the type decides.
#[derive(Default)]
struct Options {
    target: String,
    source: Option<String>,
    from: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Sharing,
    required: bool,
    size_bytes: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl RunMount {
    /// Reads the value of a `--mount` flag; `expand` replaces variables in every value but that of `from`.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn parse(
        text: &str,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Self, MountError> {
        let mut fields = fields(text)?;
        for field in fields.iter_mut().filter(|field| field.key != "from") {
            if let Some(value) = &mut field.value {
                *value =
                    expand(value).map_err(|source| MountError::Expand { key: field.key.clone(), source })?;
            }
        }
        let kind = kind(&fields)?;
        let mut options = Options::default();
        for field in &fields {
            options.set(kind, field)?;
        }
        options.finish(kind)
    }

    /// Judges what can be judged before variables have values: the list's form, its keys, and `from`.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn check(text: &str) -> Result<(), MountError> {
        fields(text).map(drop)
    }

    /// `from`, read before variables have values: the stages and images that a RUN needs.
    ///
    /// # Errors
    /// The first thing that is not right.
    pub fn from_of(text: &str) -> Result<Option<String>, MountError> {
        let found = fields(text)?.into_iter().rfind(|field| field.key == "from");
        Ok(found.and_then(|field| field.value).filter(|from| !from.is_empty()))
    }
}

/// The list's fields, their keys known and `from` free of variables.
fn fields(text: &str) -> Result<Vec<Field>, MountError> {
    let mut fields: Vec<Field> = Vec::new();
    for written in csv::record(text)? {
        let (key, value) = match written.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
            None => (written.to_lowercase(), None),
        };
        if !KEYS.iter().any(|known| known.0 == key) {
            return Err(MountError::UnknownKey { key });
        }
        if value.is_none() && !SWITCHES.contains(&key.as_str()) {
            return Err(MountError::MissingValue { key });
        }
        if key == "type" && fields.iter().any(|field| field.key == "type") {
            return Err(MountError::DuplicateType);
        }
        if let ("from", Some(value)) = (key.as_str(), &value)
            && value.find('$').is_some_and(|at| at + 1 < value.len())
        {
            return Err(MountError::VariableInFrom { value: value.clone() });
        }
        fields.push(Field { key, value });
    }
    Ok(fields)
}

fn kind(fields: &[Field]) -> Result<&'static str, MountError> {
    let Some(value) =
        fields.iter().find(|field| field.key == "type").and_then(|field| field.value.as_deref())
    else {
        return Ok("bind");
    };
    TYPES
        .into_iter()
        .find(|kind| kind.eq_ignore_ascii_case(value))
        .ok_or_else(|| MountError::UnknownType { value: value.to_owned() })
}

impl Options {
    fn set(&mut self, kind: &'static str, field: &Field) -> Result<(), MountError> {
        let key = field.key.as_str();
        let allowed = KEYS.iter().find(|known| known.0 == key).map_or(&[][..], |known| known.1);
        if !allowed.is_empty() && !allowed.contains(&kind) {
            return Err(MountError::KeyNotForType { key: key.to_owned(), kind });
        }
        let value = field.value.as_deref();
        let bad = |expected| MountError::BadValue {
            key: key.to_owned(),
            value: value.unwrap_or_default().to_owned(),
            expected,
        };
        let switch = || value.map_or(Some(true), parse_bool).ok_or_else(|| bad("`true` or `false`"));
        let text = value.unwrap_or_default();
        match key {
            "target" | "dst" | "destination" => text.clone_into(&mut self.target),
            "source" | "src" => self.source = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "from" => self.from = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "readonly" | "ro" => self.read_only = Some(switch()?),
            "readwrite" | "rw" => self.read_only = Some(!switch()?),
            "required" => self.required = switch()?,
            "id" => self.id = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "env" => self.env = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "size" => {
                self.size_bytes = Some(parse_size(text).ok_or_else(|| bad("a size such as `64m` or `1GiB`"))?)
            }
            "mode" => self.mode = Some(parse_mode(text).ok_or_else(|| bad("octal digits such as `0755`"))?),
            "uid" => self.uid = Some(parse_id(text).ok_or_else(|| bad("a number"))?),
            "gid" => self.gid = Some(parse_id(text).ok_or_else(|| bad("a number"))?),
            "sharing" => {
                self.sharing = match text.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(bad("`shared`, `private` or `locked`")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, kind: &'static str) -> Result<RunMount, MountError> {
        if !self.target.is_empty() && clean(&self.target) == "/" {
            return Err(MountError::TargetIsRoot);
        }
        let (uid, gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        let source = self.source.clone().unwrap_or_else(|| "/".to_owned());
        let target = Some(self.target.clone()).filter(|target| !target.is_empty());
        Ok(match kind {
            "cache" => RunMount::Cache(CacheMount {
                id: self.id.unwrap_or_else(|| clean(&self.target)),
                target: self.target,
                read_only: self.read_only.unwrap_or(false),
                sharing: self.sharing,
                from: self.from,
                source,
                mode: self.mode.unwrap_or(0o755),
                uid,
                gid,
            }),
            "tmpfs" => RunMount::Tmpfs(TmpfsMount { target: self.target, size_bytes: self.size_bytes }),
            "secret" => RunMount::Secret(self.secret(target, uid, gid)?),
            "ssh" => RunMount::Ssh(SshMount {
                id: self.id.unwrap_or_else(|| "default".to_owned()),
                target,
                required: self.required,
                mode: self.mode.unwrap_or(0o600),
                uid,
                gid,
            }),
            _ => RunMount::Bind(BindMount {
                target: self.target,
                source,
                from: self.from,
                read_write: self.read_only == Some(false),
            }),
        })
    }

    fn secret(self, target: Option<String>, uid: u32, gid: u32) -> Result<SecretMount, MountError> {
        if self.source.is_some() && self.id.is_some() {
            return Err(MountError::SourceAndId);
        }
        let named = self.source.or(self.id);
        let id = match (&named, &target) {
            (Some(id), _) => id.clone(),
            (None, Some(target)) => base_name(target).to_owned(),
            (None, None) => return Err(MountError::SecretWithoutName),
        };
        // A variable alone needs no file.
        let file = target.or_else(|| self.env.is_none().then(|| format!("/run/secrets/{}", base_name(&id))));
        Ok(SecretMount {
            id,
            target: file,
            env: self.env,
            required: self.required,
            mode: self.mode.unwrap_or(0o400),
            uid,
            gid,
        })
    }
}

/// The last part of a path, trailing slashes aside.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

#[cfg(test)]
mod tests;
