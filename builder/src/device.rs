//! `RUN --device`: devices by their CDI names (Container Device Interface 0.8, `SPEC.md`).
//!
//! A specification is a JSON file of one kind, `vendor/class`, with devices and what each changes in a container: nodes,
//! variables, mounts. Hooks would run programs of the host outside the sandbox; a device that wants them is refused.

use crate::{StepError, ValueError, limits};
use serde::Deserialize;
use slipway_oci::file;
use slipway_runtime::{BindSource, Device, Mount};
use std::path::{Path, PathBuf};

/// What `--device=` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `vendor/class=name`.
    name: String,
    /// Whether the step fails where the device is not there.
    required: bool,
}

/// What devices change for one command.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Variables, as `NAME=value`.
    pub(crate) env: Vec<String>,
    /// Nodes.
    pub(crate) devices: Vec<Device>,
    /// Mounts.
    pub(crate) mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    kind: String,
    #[serde(default)]
    devices: Vec<NamedDevice>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedDevice {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<CdiMount>,
    hooks: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

impl Request {
    /// Reads `vendor/class=name[,required]`, or with `name=` before the name.
    pub(crate) fn parse(text: &str) -> Result<Request, StepError> {
        let bad = || -> StepError {
            let expected = "expected `vendor/class=name[,required]`";
            ValueError::form(format!("--device={text}"), "a device", expected).into()
        };
        let mut request = Request { name: String::new(), required: false };
        for part in text.split(',') {
            match part.split_once('=') {
                None if part == "required" => request.required = true,
                Some(("required", value)) => request.required = value.parse().map_err(|_| bad())?,
                Some(("name", name)) if request.name.is_empty() => request.name = name.to_owned(),
                Some((kind, _)) if request.name.is_empty() && kind.contains('/') => {
                    part.clone_into(&mut request.name)
                }
                _ => return Err(bad()),
            }
        }
        let whole = request.name.split_once('=').is_some_and(|(kind, name)| {
            kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
                && !name.is_empty()
        });
        if whole { Ok(request) } else { Err(bad()) }
    }
}

/// What the devices that are asked for change; `folders` hold the specifications, later ones winning.
pub(crate) fn edits(requests: &[Request], folders: &[PathBuf]) -> Result<Edits, StepError> {
    let mut edits = Edits::default();
    for request in requests {
        let (kind, name) = request.name.split_once('=').expect("checked when it was read");
        let found = find(folders, kind, name)?;
        let Some((common, own)) = found else {
            if request.required {
                return Err(StepError::Missing { what: "device", id: request.name.clone() });
            }
            continue;
        };
        for change in [common, own] {
            edits.add(change, &request.name)?;
        }
    }
    Ok(edits)
}

fn find(
    folders: &[PathBuf],
    kind: &str,
    name: &str,
) -> Result<Option<(ContainerEdits, ContainerEdits)>, StepError> {
    for folder in folders.iter().rev() {
        for path in specifications(folder)? {
            let bytes = file::read_capped(&path, limits::CDI_BYTES).map_err(StepError::io("read", &path))?;
            let parsed: Specification = serde_json::from_slice(&bytes)
                .map_err(|source| ValueError::Cdi { path: path.display().to_string(), source })?;
            if parsed.kind != kind {
                continue;
            }
            if let Some(device) = parsed.devices.into_iter().find(|device| device.name == name) {
                return Ok(Some((parsed.container_edits, device.container_edits)));
            }
        }
    }
    Ok(None)
}

/// The JSON files of a folder, sorted; none where there is no folder.
fn specifications(folder: &Path) -> Result<Vec<PathBuf>, StepError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StepError::io("list", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(StepError::io("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Edits {
    fn add(&mut self, change: ContainerEdits, name: &str) -> Result<(), StepError> {
        if !change.hooks.is_empty() {
            return Err(ValueError::CdiHooks(name.to_owned()).into());
        }
        self.env.extend(change.env);
        for node in change.device_nodes {
            let whole = |permissions: String| permissions.contains('r') && permissions.contains('w');
            if !node.permissions.is_none_or(whole) {
                let node = node.path.display().to_string();
                return Err(ValueError::CdiPermissions { name: name.to_owned(), node }.into());
            }
            let source = node.host_path.unwrap_or_else(|| node.path.clone());
            self.devices.push(Device { source, target: node.path });
        }
        self.mounts.extend(change.mounts.into_iter().map(|mount| Mount::Bind {
            source: BindSource::Path(mount.host_path),
            target: mount.container_path,
            readonly: mount.options.iter().any(|option| option == "ro"),
            recursive: true,
            create: true,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let request = |name: &str, required| Request { name: name.to_owned(), required };
        for (text, expected) in [
            ("v.com/gpu=0", request("v.com/gpu=0", false)),
            ("v.com/gpu=0,required", request("v.com/gpu=0", true)),
            ("name=v.com/gpu=all,required=false", request("v.com/gpu=all", false)),
        ] {
            assert_eq!(Request::parse(text).expect(text), expected);
        }
        for text in
            ["", "gpu", "v.com/gpu", "v.com/gpu=", "/gpu=1", "v.com/gpu=0,needed", "v.com/gpu=0,required=2"]
        {
            assert!(Request::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn specifications_are_read_and_later_folders_win() {
        let folder = tempfile::tempdir().expect("folder");
        let [early, late] = ["early", "late"].map(|name| folder.path().join(name));
        for (place, value) in [(&early, "early"), (&late, "late")] {
            std::fs::create_dir(place).expect("folder");
            let text = format!(
                r#"{{"cdiVersion": "0.8.0", "kind": "v.com/gpu", "containerEdits": {{"env": ["ALL=1"]}},
                "devices": [{{"name": "0", "containerEdits": {{"env": ["FROM={value}"],
                "deviceNodes": [{{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rwm"}}],
                "mounts": [{{"hostPath": "/usr", "containerPath": "/opt", "options": ["ro", "bind"]}}]}}}},
                {{"name": "half", "containerEdits": {{"deviceNodes": [{{"path": "/dev/zero", "permissions": "r"}}]}}}},
                {{"name": "hooked", "containerEdits": {{"hooks": [{{"hookName": "createContainer"}}]}}}}]}}"#
            );
            std::fs::write(place.join("gpu.json"), text).expect("written");
            std::fs::write(place.join("notes.txt"), "no specification").expect("written");
        }
        let folders = [early, folder.path().join("missing"), late];
        let request = |text: &str| [Request::parse(text).expect(text)];
        let found = edits(&request("v.com/gpu=0"), &folders).expect("edits");
        assert_eq!(found.env, ["ALL=1", "FROM=late"]);
        let device = Device { source: "/dev/null".into(), target: "/dev/gpu0".into() };
        assert_eq!(found.devices, [device]);
        assert!(matches!(&found.mounts[..], [Mount::Bind { readonly: true, .. }]));
        assert!(edits(&request("v.com/gpu=1"), &folders).expect("edits").env.is_empty());
        assert!(matches!(edits(&request("v.com/gpu=1,required"), &folders), Err(StepError::Missing { .. })));
        let message = edits(&request("v.com/gpu=half"), &folders).expect_err("read-only").to_string();
        assert!(message.contains("/dev/zero"), "{message}");
        let message = edits(&request("v.com/gpu=hooked"), &folders).expect_err("hooks").to_string();
        assert!(message.contains("hooks"), "{message}");
    }
}
