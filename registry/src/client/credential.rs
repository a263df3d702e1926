//! Credentials: docker's configuration file and helper programs.
//!
//! `auths.<host>.auth` holds base64 of `user:password`, `identitytoken` an OAuth2 refresh token; `credHelpers.<host>`
//! and `credsStore` name programs `docker-credential-<name>` that are asked over stdin and answer in JSON (docker's
//! `cli/config` and `docker-credential-helpers`).

use crate::limits;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use slipway_oci::file;
use std::{
    collections::BTreeMap,
    fmt, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

/// What opens a registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or access token in a password's place).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Basic { .. } => "Basic(…)",
            Credential::IdentityToken(_) => "IdentityToken(…)",
        })
    }
}

/// Answers the credential of a registry host (`docker.io`, `host:port`) for one of its repositories, or for none in particular
/// (`""`), if there is one. May block.
pub type Credentials = Arc<dyn Fn(&str, &str) -> Result<Option<Credential>, CredentialError> + Send + Sync>;

/// Why a credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The configuration file cannot be read.
    #[error("cannot read the docker configuration `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration file cannot be written.
    #[error("cannot write the docker configuration `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration file is not valid.
    #[error("the docker configuration `{path}` is not valid")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// An `auth` value that is not base64 of `user:password`.
    #[error("the `auth` value for `{host}` in the docker configuration is not base64 of `user:password`")]
    Auth {
        /// For which registry.
        host: String,
    },
    /// A helper's name that is no program name.
    #[error("`{0}` is not a name of a credential helper")]
    HelperName(String),
    /// A helper that does not run.
    #[error("cannot run the credential helper `{program}`")]
    Helper {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A helper that fails.
    #[error("the credential helper `{program}` failed: {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
}

/// Docker's `config.json`, or podman's `auth.json`, which has the same form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(…)")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperReply {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl DockerConfig {
    /// Reads a file; one that is not there is an empty one.
    pub fn load(path: &Path) -> Result<DockerConfig, CredentialError> {
        let bytes = match file::read_capped(path, limits::DOCKER_CONFIG_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DockerConfig::default()),
            Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
        };
        serde_json::from_slice(&bytes)
            .map_err(|source| CredentialError::Json { path: path.to_owned(), source })
    }

    /// As what [`super::ClientConfig`] takes.
    pub fn into_credentials(self) -> Credentials {
        Arc::new(move |host, repository| self.credential(host, repository))
    }

    /// The credential of a registry for a repository: the registry's own helper's, the file's, then the common helper's. Of the
    /// file's, the longest `host/namespace` key that the repository lies in counts before the registry's own
    /// (containers-auth.json(5)).
    pub fn credential(&self, host: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        let keys = keys(host);
        if let Some(helper) = keys.iter().find_map(|key| self.helpers.get(key)) {
            return ask_helper(helper, &keys[0]);
        }
        let mut place = repository;
        while !place.is_empty() {
            let entry = self.auths.get(&format!("{host}/{place}"));
            if let Some(credential) = entry.map(|entry| entry.credential(host)).transpose()?.flatten() {
                return Ok(Some(credential));
            }
            place = place.rsplit_once('/').map_or("", |(above, _)| above);
        }
        let stored = self.auths.iter().find(|(key, _)| is_of(key, host));
        if let Some(credential) = stored.map(|(_, entry)| entry.credential(host)).transpose()?.flatten() {
            return Ok(Some(credential));
        }
        match &self.store {
            Some(helper) => ask_helper(helper, &keys[0]),
            None => Ok(None),
        }
    }
}

/// Whether a name of a file's entry means this registry.
pub(super) fn is_of(name: &str, host: &str) -> bool {
    let keys = keys(host);
    keys.iter().any(|key| key == name) || *bare(name) == *bare(&keys[0])
}

/// The names under which docker keeps a registry, its favourite first.
pub(super) fn keys(host: &str) -> Vec<String> {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"]
                .map(str::to_owned)
                .to_vec()
        }
        _ => vec![host.to_owned(), format!("https://{host}"), format!("http://{host}")],
    }
}

/// A key without scheme and path.
fn bare(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    // podman also writes `host/namespace` keys, which are for a part of a host only
    if rest.len() == key.len() { rest } else { rest.split('/').next().unwrap_or(rest) }
}

impl Entry {
    fn credential(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        if let Some(token) = text(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let (Some(username), Some(password)) = (text(&self.username), text(&self.password)) {
            return Ok(Some(Credential::Basic { username, password }));
        }
        let Some(auth) = text(&self.auth) else { return Ok(None) };
        let wrong = || CredentialError::Auth { host: host.to_owned() };
        let decoded = STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (username, password) = decoded.split_once(':').ok_or_else(wrong)?;
        // docker pads with NUL bytes
        let password = password.trim_end_matches('\0');
        Ok(Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() }))
    }
}

fn ask_helper(name: &str, key: &str) -> Result<Option<Credential>, CredentialError> {
    let Some(answer) = run_helper(name, "get", key)? else { return Ok(None) };
    let reply: HelperReply = serde_json::from_slice(&answer).map_err(|error| {
        let program = format!("docker-credential-{name}");
        CredentialError::HelperFailed { program, message: error.to_string() }
    })?;
    Ok(match (reply.username.as_str(), reply.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Credential::IdentityToken(secret)),
        (username, password) => Some(Credential::Basic { username: username.to_owned(), password }),
    })
}

/// Runs a helper program (docker-credential-helpers, "Development") and gives its answer; `None` where it has no credential.
pub(super) fn run_helper(
    name: &str,
    verb: &str,
    input_text: &str,
) -> Result<Option<Vec<u8>>, CredentialError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(CredentialError::HelperName(name.chars().take(80).collect()));
    }
    let program = format!("docker-credential-{name}");
    let failed = |source| CredentialError::Helper { program: program.clone(), source };
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take().expect("stdin was asked to be a pipe");
    // a helper that does not read its input may still answer
    let _ = input.write_all(input_text.as_bytes());
    drop(input);
    let output = child.stdout.take().expect("stdout was asked to be a pipe");
    let mut answer = Vec::new();
    output.take(limits::HELPER_BYTES).read_to_end(&mut answer).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    if !status.success() {
        // docker-credential-helpers, `credentials/error.go`: the one message that means "none"
        if text.contains("credentials not found") {
            return Ok(None);
        }
        let message = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(CredentialError::HelperFailed { program, message });
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).expect("configuration")
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic { username: username.into(), password: password.into() })
    }

    #[test]
    fn keys_of_all_forms_are_found() {
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"https://r.example/v2/":{"auth":"dTpwOng="},
            "h:5000":{"username":"a","password":"b"},"t":{"identitytoken":"tok","auth":"dTpw"},"e":{},
            "q.example/team":{"auth":"dTpw"},"q.example/team/app/sub":{"auth":"eDp5"},"h:5000/other":{"auth":"eDp5"}},"x":1}"#,
        );
        for (host, expected) in [
            ("docker.io", basic("u", "p")),
            ("r.example", basic("u", "p:x")),
            ("h:5000", basic("a", "b")),
            ("t", Some(Credential::IdentityToken("tok".into()))),
            ("e", None),
            ("q.example", basic("u", "p")),
            ("other.example", None),
        ] {
            assert_eq!(config.credential(host, "team/app").expect(host), expected, "{host}");
        }
    }

    #[test]
    fn the_longest_namespace_counts() {
        let config = config(
            r#"{"auths":{"h":{"auth":"aDpo"},"h/a":{"auth":"YTph"},"h/a/b":{"auth":"Yjpi"},"docker.io/team":{"auth":"dDp0"},
            "https://index.docker.io/v1/":{"auth":"ZDpk"}}}"#,
        );
        for (host, repository, expected) in [
            ("h", "", "h"),
            ("h", "x", "h"),
            ("h", "a", "a"),
            ("h", "a/c", "a"),
            ("h", "ab", "h"),
            ("h", "a/b", "b"),
            ("h", "a/b/c/d", "b"),
            ("docker.io", "team/app", "t"),
            ("docker.io", "library/app", "d"),
            ("i", "a/b", ""),
        ] {
            let expected = basic(expected, expected).filter(|_| !expected.is_empty());
            assert_eq!(config.credential(host, repository).expect(host), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        let config = config(r#"{"auths":{"a":{"auth":"!"},"b":{"auth":"dQ=="}},"credHelpers":{"c":"../x"}}"#);
        assert!(matches!(config.credential("a", ""), Err(CredentialError::Auth { .. })));
        assert!(matches!(config.credential("b", ""), Err(CredentialError::Auth { .. })));
        assert!(matches!(config.credential("c", ""), Err(CredentialError::HelperName(_))));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let config =
            config(r#"{"credHelpers":{"h":"slipway-test-none"},"credsStore":"slipway-test-none-either"}"#);
        for host in ["h", "any"] {
            let error = config.credential(host, "").expect_err("failure").to_string();
            assert!(error.contains("docker-credential-slipway-test-none"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown =
            format!("{:?} {:?}", basic("user", "hunter2"), config(r#"{"auths":{"a":{"auth":"dTpw"}}}"#));
        assert!(!shown.contains("hunter2") && !shown.contains("dTpw"), "{shown}");
    }
}
