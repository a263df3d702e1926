//! Credentials for registries, from where docker and podman keep them.

use crate::{app::Global, registries::config_home};
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

    Ok(Arc::new(move |host| {
        for config in &configs {
            if let Some(credential) = config.credential(host)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }))
}
