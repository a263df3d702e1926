//! What `slipway inspect` shows of a container, in docker's words.

use super::{kept::Kept, namespaces};
use crate::{app::App, error::Failure};
use serde_json::{Value, json};
use slipway_oci::store::StoreError;
use slipway_runtime::container::{
    config::Config,
    log,
    state::{Moment, State, Status},
};

/// A container; `None` where none has the name.
pub(crate) fn describe(app: &App, text: &str) -> Result<Option<Value>, Failure> {
    match app.store.container(text) {
        Ok(_) => {}
        Err(StoreError::NoContainer(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let kept = Kept::find(app, text)?;
    let config = kept.config(app)?;
    let (row, state) = (&kept.row, &kept.state);
    let record = app.store.read_image(&row.manifest)?;
    let words: Vec<String> = config.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let env: Vec<String> = config.env.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mounts: Vec<Value> = config
        .binds
        .iter()
        .map(|bind| {
            json!({
                "Type": "bind",
                "Source": bind.source,
                "Destination": bind.target,
                "Mode": if bind.readonly { "ro" } else { "" },
                "RW": !bind.readonly,
            })
        })
        .collect();
    let folder = kept.folder(app);
    Ok(Some(json!({
        "Id": row.id,
        "Name": format!("/{}", row.name),
        "Created": Moment(row.created.saturating_mul(1_000_000_000)).to_string(),
        "Path": words.first(),
        "Args": words.get(1..).unwrap_or_default(),
        "State": shown_state(state),
        "Image": record.manifest.config.digest,
        "ImageManifest": row.manifest,
        "RestartCount": state.restarts,
        "LogPath": folder.join(log::FILE),
        "Driver": "overlay",
        "Mounts": mounts,
        "HostConfig": host_config(&config),
        "Config": {
            "Hostname": config.hostname,
            "User": config.user.clone().unwrap_or_default(),
            "Tty": config.terminal,
            "OpenStdin": config.interactive,
            "Env": env,
            "Cmd": words,
            "Image": config.image,
            "WorkingDir": config.cwd,
            "Labels": config.labels,
            "StopSignal": config.stop.signal,
        },
    })))
}

/// Where it is in its life.
fn shown_state(state: &State) -> Value {
    // docker's word for never
    let time = |moment: Option<Moment>| {
        moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |moment| moment.to_string())
    };
    json!({
            "Status": state.status.word(),
            "Running": state.status == Status::Running,
            "Restarting": state.status == Status::Restarting,
            "Paused": false,
            "Dead": false,
            "Pid": state.process.map_or(0, |process| process.pid),
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": time(state.started),
            "FinishedAt": time(state.finished),
    })
}

/// What it was given of the machine.
fn host_config(config: &Config) -> Value {
    json!({
        "AutoRemove": config.auto_remove,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "NetworkMode": namespaces::word(&config.network),
        "IpcMode": namespaces::word(&config.ipc),
        "UTSMode": namespaces::word(&config.uts),
        "CgroupnsMode": namespaces::word(&config.cgroup),
        "RestartPolicy": { "Name": config.restart.name(), "MaximumRetryCount": config.restart.most() },
        "Memory": config.limits.memory_bytes.unwrap_or(0),
        "PidsLimit": config.limits.pids_max.unwrap_or(0),
        "NanoCpus": config.limits.cpu.map_or(0, |cpu| cpu.quota_us * 1_000_000_000 / cpu.period_us.max(1)),
        "Init": config.init,
        "LogConfig": { "Type": if config.log.is_kept { "json-file" } else { "none" } },
    })
}
