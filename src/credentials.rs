//! Credentials for registries, from where docker and podman keep them.

use crate::{app::Global, error::Failure, registries::config_home};
use slipway_oci::reference::DEFAULT_REGISTRY;
use slipway_registry::client::{Credentials, DockerConfig};
use std::{path::PathBuf, sync::Arc};

/// The text of a configuration, as docker's client (28.3) and GitLab's runners take it.
const TEXT: &str = "DOCKER_AUTH_CONFIG";
/// Names podman's file (containers-auth.json(5)).
const VARIABLE: &str = "REGISTRY_AUTH_FILE";

/// The files, the first that has a registry counting: the one that the variable names, docker's, then podman's, where they
/// are by default (containers-auth.json(5)).
pub(crate) fn files(global: &Global) -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let docker = global.config_folder().map(|folder| folder.join("config.json"));
    let podman = folder("XDG_RUNTIME_DIR").into_iter().chain(config_home());
    named.into_iter().chain(docker).chain(podman.map(|folder| folder.join("containers/auth.json"))).collect()
}

/// Where a login is kept: the file that the variable names, else docker's.
///
/// # Errors
/// When there is no home for one.
pub(crate) fn place(global: &Global) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let docker = || global.config_folder().map(|folder| folder.join("config.json"));
    named.or_else(docker).ok_or_else(|| {
        Failure::new("there is no home folder to keep credentials in")
            .with_hint("name a folder with --config")
    })
}

/// The registry that `login` and `logout` mean, as docker reads it: without scheme and path, Docker Hub where none is named.
///
/// # Errors
/// When it is no host.
pub(crate) fn host(registry: Option<&str>) -> Result<String, Failure> {
    let Some(text) = registry else { return Ok(DEFAULT_REGISTRY.to_owned()) };
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    match bare.as_str() {
        "index.docker.io" | "registry-1.docker.io" => Ok(DEFAULT_REGISTRY.to_owned()),
        host if !host.is_empty() && host.chars().all(plain) => Ok(bare),
        _ => Err(Failure::usage(format!("`{text}` is not a registry: HOST[:PORT]"))),
    }
}

/// What opens registries.
///
/// # Errors
/// When a file that is there cannot be used, in words.
pub(crate) fn read(global: &Global) -> Result<Credentials, String> {
    let read = files(global).iter().map(|path| DockerConfig::load(path)).collect::<Result<Vec<_>, _>>();
    let mut configs = read.map_err(|error| crate::error::chain(&error))?;
    if let Some(text) = std::env::var(TEXT).ok().filter(|text| !text.is_empty()) {
        // what it says is a secret: no word of it is repeated
        let own = serde_json::from_str(&text)
            .map_err(|_| format!("{TEXT} is not the text of a docker configuration"))?;
        configs.insert(0, own);
    }

    Ok(Arc::new(move |host, repository| {
        for config in &configs {
            if let Some(credential) = config.credential(host, repository)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }))
}
