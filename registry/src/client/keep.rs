//! Keeping credentials where docker and podman read them: `config.json`, `auth.json`, and the helper programs that they name.
//!
//! Everything else in the file stays as it is. It is written beside its place and renamed, for its owner alone.

use super::credential::{self, Credential, CredentialError};
use crate::limits;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use slipway_oci::file;
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Where a credential went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Into the file, readable for whoever reads it.
    File(PathBuf),
    /// To a helper program.
    Helper(String),
}

/// Keeps the credential of a registry (`docker.io`, `host:port`).
pub fn keep_credential(path: &Path, host: &str, credential: &Credential) -> Result<Kept, CredentialError> {
    let mut config = read(path)?;
    let key = credential::keys(host)[0].clone();
    if let Some(helper) = helper(&config, host) {
        let (username, secret) = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::IdentityToken(token) => ("<token>", token),
        };
        let input = json!({ "ServerURL": key, "Username": username, "Secret": secret }).to_string();
        credential::run_helper(&helper, "store", &input)?;
        // docker's mark for a registry whose credential is elsewhere
        section(&mut config, "auths").insert(key, json!({}));
        write(path, &config)?;
        return Ok(Kept::Helper(format!("docker-credential-{helper}")));
    }
    let entry = match credential {
        Credential::Basic { username, password } => {
            json!({ "auth": STANDARD.encode(format!("{username}:{password}")) })
        }
        Credential::IdentityToken(token) => {
            json!({ "auth": STANDARD.encode("<token>:"), "identitytoken": token })
        }
    };
    let auths = section(&mut config, "auths");
    // one entry a registry, whatever it was spelled like before
    auths.retain(|own, _| !credential::is_of(own, host));
    auths.insert(key, entry);
    write(path, &config)?;
    Ok(Kept::File(path.to_owned()))
}

/// Takes a registry's credential away; answers whether there was one.
pub fn forget_credential(path: &Path, host: &str) -> Result<bool, CredentialError> {
    let mut config = read(path)?;
    let mut there = false;
    if let Some(helper) = helper(&config, host) {
        for key in credential::keys(host) {
            there |= credential::run_helper(&helper, "get", &key).is_ok()
                && credential::run_helper(&helper, "erase", &key).is_ok();
        }
    }
    let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(there) };
    let before = auths.len();
    auths.retain(|own, _| !credential::is_of(own, host));
    if auths.len() != before {
        there = true;
        write(path, &config)?;
    }
    Ok(there)
}

/// The name of the helper that has a registry.
fn helper(config: &Map<String, Value>, host: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(Value::as_object);
    let own = own.and_then(|helpers| credential::keys(host).iter().find_map(|key| helpers.get(key)));
    let common = || config.get("credsStore");
    own.or_else(common).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn section<'a>(config: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let section = config.entry(name).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    section.as_object_mut().expect("it was made one")
}

fn read(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    let bytes = match file::read_capped(path, limits::DOCKER_CONFIG_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|source| CredentialError::Json { path: path.to_owned(), source })
}

fn write(path: &Path, config: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.to_owned(), source };
    // docker indents with tabs
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, form);
    serde::Serialize::serialize(config, &mut serializer).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    // a link keeps leading to the file that it leads to
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file::make_folders(folder, 0o700).map_err(failed)?;
    let temporary = folder.join(file::temporary_name(".config"));
    let written = (|| {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()?;
        fs::rename(&temporary, &place)
    })();
    if written.is_err() {
        // the failure that matters is the first one
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::DockerConfig;
    use std::os::unix::fs::PermissionsExt;

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.into(), password: password.into() }
    }

    #[test]
    fn what_is_kept_is_found_and_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("new/config.json");
        for (host, credential) in [
            ("h:5000", basic("ann", "p:ä\"\\")),
            ("docker.io", basic("ann", "hub")),
            ("t.example", Credential::IdentityToken("tok".into())),
            ("h:5000", basic("ann", "again")),
        ] {
            let kept = keep_credential(&path, host, &credential).expect("kept");
            assert_eq!(kept, Kept::File(path.clone()));
            let found =
                DockerConfig::load(&path).expect("a file").credential(host, "").expect("a credential");
            assert_eq!(found, Some(credential), "{host}");
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.contains("\"https://index.docker.io/v1/\""), "{text}");
        for (host, there) in
            [("h:5000", true), ("h:5000", false), ("index.docker.io", true), ("other", false)]
        {
            assert_eq!(forget_credential(&path, host).expect("forgotten"), there, "{host}");
        }
        let left: Vec<_> = fs::read_dir(path.parent().expect("folder")).expect("list").flatten().collect();
        assert_eq!(left.len(), 1, "no half-written file");
    }

    #[test]
    fn everything_else_in_the_file_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let (path, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
        let before = r#"{"proxies":{"default":{"httpProxy":"x"}},"auths":{"https://h.example/v2/":{"auth":"b2xk"},"o":{"auth":"eDp5"}},"z":[1.0]}"#;
        fs::write(&path, before).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        keep_credential(&link, "h.example", &basic("a", "b")).expect("kept");
        let after: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        let expected = json!({
            "proxies": {"default": {"httpProxy": "x"}},
            "auths": {"o": {"auth": "eDp5"}, "h.example": {"auth": "YTpi"}},
            "z": [1.0],
        });
        assert_eq!(after, expected);
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        // what is no configuration is left alone
        fs::write(&path, "{ not JSON").expect("write");
        assert!(
            keep_credential(&path, "h", &basic("a", "b")).is_err() && forget_credential(&path, "h").is_err()
        );
        assert_eq!(fs::read_to_string(&path).expect("read"), "{ not JSON");
    }
}
