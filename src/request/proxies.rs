//! Proxies that docker's configuration gives to what runs in containers: `proxies` of its config.json. The caller's own
//! `http_proxy` and kin are for slipway's requests alone, as docker's are for its own.

use slipway_oci::file;
use std::{collections::BTreeMap, io, path::Path};

/// The names, each in upper and in lower case (docker/cli: `cli/config/configfile/file.go`, `ParseProxyConfig`).
const NAMES: [(&str, &str); 5] = [
    ("HTTP_PROXY", "httpProxy"),
    ("HTTPS_PROXY", "httpsProxy"),
    ("NO_PROXY", "noProxy"),
    ("FTP_PROXY", "ftpProxy"),
    ("ALL_PROXY", "allProxy"),
];

/// Whether a variable is one of these.
pub(crate) fn is_one(name: &str) -> bool {
    NAMES.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
}

/// Whether a variable's name says that its value is nobody else's.
fn is_credential(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name && ["TOKEN", "PASS", "SECRET", "KEY", "AUTH", "CRED"].iter().any(|part| upper.contains(part))
}

/// A word of a command line without what may be a password, of a proxy or by its name: the name alone stands for the
/// environment's.
pub(crate) fn without_value(word: &str) -> String {
    let argument = word.strip_prefix("--build-arg=").unwrap_or(word);
    match argument.split_once('=') {
        Some((name, _)) if is_one(name) || is_credential(name) => {
            word[..word.len() - argument.len() + name.len()].to_owned()
        }
        _ => word.to_owned(),
    }
}

/// The variables of the configuration in `folder`, for a container or for a build's arguments.
///
/// # Errors
/// When there is one that cannot be used, in words.
pub(crate) fn of(folder: Option<&Path>) -> Result<BTreeMap<String, String>, String> {
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(BTreeMap::new()) };
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
    match file::read_capped(&path, slipway_registry::limits::DOCKER_CONFIG_BYTES) {
        Ok(bytes) => within(&bytes).map_err(|error| wrong(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(wrong(&error)),
    }
}

/// Those for every daemon (`default`): slipway has none that others could be for.
fn within(json: &[u8]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Json {
        proxies: BTreeMap<String, BTreeMap<String, String>>,
    }
    let json: Json = serde_json::from_slice(json)?;
    let mut variables = BTreeMap::new();
    for (name, key) in NAMES {
        let value = json.proxies.get("default").and_then(|own| own.get(key));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            variables.insert(name.to_owned(), value.clone());
            variables.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_as_docker_reads_them() {
        for (json, expected) in [
            ("{}", Some(vec![])),
            (r#"{"auths":{},"proxies":{}}"#, Some(vec![])),
            (
                r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"a,b","ftpProxy":""}}}"#,
                Some(vec![
                    ("HTTP_PROXY", "http://p:1"),
                    ("NO_PROXY", "a,b"),
                    ("http_proxy", "http://p:1"),
                    ("no_proxy", "a,b"),
                ]),
            ),
            (r#"{"proxies":{"tcp://far:2375":{"httpProxy":"http://p:1"}}}"#, Some(vec![])),
            (
                r#"{"proxies":{"default":{"unknown":"x","allProxy":"s"}}}"#,
                Some(vec![("ALL_PROXY", "s"), ("all_proxy", "s")]),
            ),
            (r#"{"proxies":{"default":{"httpProxy":1}}}"#, None),
            ("{", None),
        ] {
            let expected = expected.map(|all| {
                all.into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect::<BTreeMap<_, _>>()
            });
            assert_eq!(within(json.as_bytes()).ok(), expected, "{json}");
        }
        for (word, kept) in [
            ("http_proxy=http://u:p@h", "http_proxy"),
            ("--build-arg=HTTPS_PROXY=http://u:p@h", "--build-arg=HTTPS_PROXY"),
            ("A=http_proxy=b", "A=http_proxy=b"),
            ("--tag=x", "--tag=x"),
            ("NPM_TOKEN=abc", "NPM_TOKEN"),
            ("--build-arg=DB_PASSWORD=a=b", "--build-arg=DB_PASSWORD"),
            ("VERSION=1", "VERSION=1"),
            ("id=token,env=TOKEN", "id=token,env=TOKEN"),
        ] {
            assert_eq!(without_value(word), kept);
        }
        assert!(is_one("https_proxy") && is_one("ALL_PROXY") && !is_one("PROXY"));
        assert_eq!(of(None), Ok(BTreeMap::new()));
    }
}
