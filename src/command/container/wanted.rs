//! From flags and an image's configuration to what a container is made from ([`Config`]).

use super::{
    flags::Flags,
    namespaces, options,
    security::{capabilities, filter, limits},
    stopping,
};
use crate::{app::Global, error::Failure, request::size, service::input};
use slipway_oci::{limits as bounds, spec::ContainerConfig};
use slipway_runtime::container::{
    config::{Config, Restart},
    log::LogLimits,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Finds what is wrong with flags, whatever the image: before a store is opened for them.
pub(super) fn check(flags: &Flags) -> Result<(), Failure> {
    options::binds(&flags.volume)?;
    options::memory_folders(&flags.tmpfs)?;
    crate::request::hosts(&flags.hosts)?;
    namespaces::hostname(flags)?;
    limits(flags)?;
    log(flags)?;
    match flags.rm && flags.restart != Restart::No {
        true => Err(Failure::usage("--rm and --restart: a container that is removed cannot start again")),
        false => Ok(()),
    }
}

/// The variables that [`Config::env`] has, but for `HOME`, which the image's own files may tell.
pub(super) fn config(global: &Global, image: &ContainerConfig, flags: &Flags) -> Result<Config, Failure> {
    let hostname = namespaces::hostname(flags)?;
    let (no_new_privileges, filter) = filter(flags)?;
    Ok(Config {
        image: flags.image.clone(),
        command: command(image, flags)?,
        env: environment(global, image, flags, &hostname)?,
        cwd: PathBuf::from(working_dir(image, flags)),
        user: flags.user.clone().or_else(|| image.user.clone()),
        hosts: crate::request::hosts(&flags.hosts)?,
        hostname,
        binds: options::binds(&flags.volume)?,
        memory_folders: options::memory_folders(&flags.tmpfs)?,
        network: flags.network.clone(),
        ipc: flags.ipc.clone(),
        uts: flags.uts.clone(),
        cgroup: flags.cgroupns.clone(),
        read_only: flags.read_only,
        privileged: flags.privileged,
        capabilities: capabilities(flags, slipway_runtime::host::capabilities())?
            .iter()
            .map(|capability| capability.to_string())
            .collect(),
        no_new_privileges,
        filter,
        limits: limits(flags)?,
        init: flags.init,
        terminal: flags.tty,
        interactive: flags.interactive,
        stop: stopping::policy(image, flags)?,
        restart: flags.restart,
        auto_remove: flags.rm,
        labels: labels(image, flags)?,
        log: log(flags)?,
    })
}

fn command(image: &ContainerConfig, flags: &Flags) -> Result<Vec<OsString>, Failure> {
    let ours = |words: Option<Vec<String>>| words.into_iter().flatten().map(OsString::from);
    let mut words: Vec<OsString> = match &flags.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.into()],
        None => ours(image.entrypoint.clone()).collect(),
    };
    // another program, or arguments of the caller, put the image's arguments aside
    if !flags.command.is_empty() {
        words.extend(flags.command.iter().cloned());
    } else if flags.entrypoint.is_none() {
        words.extend(ours(image.cmd.clone()));
    }
    if words.is_empty() {
        return Err(Failure::new("no command: neither the image nor the command line gives one"));
    }
    Ok(words)
}

fn working_dir(image: &ContainerConfig, flags: &Flags) -> String {
    let from_image =
        image.working_dir.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    match &flags.workdir {
        Some(path) if path.starts_with('/') => path.clone(),
        Some(path) => format!("{}/{path}", from_image.trim_end_matches('/')),
        None => from_image,
    }
}

fn environment(
    global: &Global,
    image: &ContainerConfig,
    flags: &Flags,
    hostname: &str,
) -> Result<Vec<OsString>, Failure> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables
        .insert("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    variables.insert("HOSTNAME".to_owned(), hostname.to_owned());
    if flags.tty {
        variables.insert("TERM".to_owned(), "xterm".to_owned());
    }
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables.extend(global.proxies());
    let mut given = Vec::new();
    for path in &flags.env_file {
        given.extend(lines("--env-file", path)?);
    }
    given.extend(flags.env.iter().cloned());
    for entry in given {
        match entry.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("-e: `{entry}` has no name"))),
            Some((name, value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
            None => match std::env::var(&entry) {
                Ok(value) => drop(variables.insert(entry, value)),
                Err(_) => drop(variables.remove(&entry)),
            },
        }
    }
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect())
}

/// The lines of a file of the caller's, without comments and empty ones.
fn lines(flag: &'static str, path: &Path) -> Result<Vec<String>, Failure> {
    let text = input::read(flag, path, bounds::ENV_FILE_BYTES)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// The image's labels, those of `--label-file`, and those of `--label`, of which the last counts.
fn labels(image: &ContainerConfig, flags: &Flags) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels: BTreeMap<String, String> = image.labels.clone().unwrap_or_default();
    let mut add = |flag: String, text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Failure::usage(format!("{flag}: `{text}` is not NAME=VALUE")));
        }
        labels.insert(name.to_owned(), value.to_owned());
        Ok(())
    };
    for path in &flags.label_file {
        for line in lines("--label-file", path)? {
            add(format!("--label-file: `{}`", path.display()), &line)?;
        }
    }
    flags.label.iter().try_for_each(|text| add("--label".to_owned(), text))?;
    Ok(labels)
}

/// `--log-driver` and `--log-opt`.
fn log(flags: &Flags) -> Result<LogLimits, Failure> {
    let is_kept = match flags.log_driver.as_str() {
        "json-file" | "local" | "k8s-file" => true,
        "none" => false,
        other => {
            let words = format!("--log-driver: `{other}` is none of json-file, none");
            return Err(Failure::usage(words)
                .with_hint("what a program writes to is the caller's to choose: `slipway logs -f`"));
        }
    };
    let mut limits = LogLimits { is_kept, ..LogLimits::default() };
    for option in &flags.log_opt {
        let bad = |why: &str| Failure::usage(format!("--log-opt: `{option}`: {why}"));
        match option.split_once('=') {
            Some(("max-size", "-1")) => limits.file_bytes = None,
            Some(("max-size", text)) => {
                limits.file_bytes = Some(size::bytes(text).map_err(|_| bad("no size"))?)
            }
            Some(("max-file", text)) => {
                limits.files =
                    text.parse().ok().filter(|files| *files > 0).ok_or_else(|| bad("no number"))?;
            }
            _ => return Err(bad("it is none of max-size=BYTES, max-file=NUMBER")),
        }
    }
    Ok(limits)
}
