//! What a container may do and how much of the machine it gets.

use super::flags::Flags;
use crate::{error::Failure, request::size, service::input};
use slipway_runtime::seccomp::{PROFILE_BYTES, Profile};
use slipway_runtime::{
    Capability, CapabilitySet, CpuQuota, Namespace, SandboxSpec, Seccomp, Security, SwapLimit,
    container::config::{Config, Filter, Limits, Sharing},
};
use std::{path::Path, sync::Arc};

/// What `--privileged`, `--cap-add` and `--cap-drop` leave; `available` is what this machine can give. All means what is
/// there; what was asked for by its name and is not there is refused (as docker).
pub(super) fn capabilities(flags: &Flags, available: CapabilitySet) -> Result<CapabilitySet, Failure> {
    let all = |text: &String| ["all", "cap_all"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let (added, dropped) = (&flags.cap_add, &flags.cap_drop);
    let mut set = match (flags.privileged || added.iter().any(all), dropped.iter().any(all)) {
        (true, _) => CapabilitySet::ALL,
        (false, true) => CapabilitySet::NONE,
        // a network of others' is not the container's to listen to
        (false, false) => CapabilitySet::default_for(match flags.network {
            Sharing::Own => &Namespace::New,
            _ => &Namespace::Host,
        }),
    };
    for text in added.iter().filter(|text| !all(text)) {
        let capability = capability("--cap-add", text)?;
        if !available.contains(capability) {
            return Err(Failure::new(format!("--cap-add: this machine cannot give {capability}"))
                .with_hint("slipway itself is without it; `--cap-add ALL` means those that are there"));
        }
        set.insert(capability);
    }
    for text in dropped.iter().filter(|text| !all(text)) {
        set.remove(capability("--cap-drop", text)?);
    }
    Ok(set)
}

fn capability(flag: &str, text: &str) -> Result<Capability, Failure> {
    let words = format!("{flag}: `{text}` is not a capability, such as NET_ADMIN or ALL");
    text.parse().map_err(|_| Failure::usage(words).with_hint("capabilities(7) names them all"))
}

/// `--security-opt`: whether set-user-id programs lose their effect, and the filter.
pub(super) fn filter(flags: &Flags) -> Result<(bool, Filter), Failure> {
    let mut no_new_privileges = false;
    let mut filter = if flags.privileged { Filter::Unconfined } else { Filter::Default };
    for option in &flags.security_opt {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                no_new_privileges = true
            }
            "seccomp=unconfined" | "seccomp:unconfined" => filter = Filter::Unconfined,
            "seccomp=builtin" | "seccomp:builtin" => filter = Filter::Default,
            other => match other.strip_prefix("seccomp=").or_else(|| other.strip_prefix("seccomp:")) {
                Some(file) if !file.is_empty() => filter = profile(Path::new(file))?,
                _ => {
                    let known = "no-new-privileges, seccomp=unconfined, seccomp=FILE";
                    return Err(Failure::usage(format!("--security-opt: `{other}` is not one of {known}")));
                }
            },
        }
    }
    Ok((no_new_privileges, filter))
}

/// What a container may do, of its sandbox.
pub(super) fn apply(spec: &mut SandboxSpec, config: &Config) -> Result<(), Failure> {
    if config.privileged {
        spec.security = Security::insecure();
    }
    spec.process.no_new_privileges = config.no_new_privileges;
    spec.seccomp = match &config.filter {
        Filter::Default => Seccomp::Default,
        Filter::Unconfined => Seccomp::Unconfined,
        Filter::Profile { file, json } => Seccomp::Profile(Arc::new(parse(file, json.as_bytes())?)),
    };
    Ok(())
}

const PROFILE: &str = "--security-opt seccomp";

/// A system call filter of the caller's, as it is now: what the file says later counts no more.
fn profile(path: &Path) -> Result<Filter, Failure> {
    let json = input::read(PROFILE, path, PROFILE_BYTES)?;
    let file = path.display().to_string();
    parse(&file, &json)?;
    Ok(Filter::Profile { file, json: String::from_utf8_lossy(&json).into_owned() })
}

fn parse(file: &str, json: &[u8]) -> Result<Profile, Failure> {
    Profile::parse(file, json).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Failure::new(format!("{PROFILE}: `{file}`: {error}{cause}"))
    })
}

/// `--memory`, `--memory-swap`, `--cpus` and `--pids-limit`.
pub(super) fn limits(flags: &Flags) -> Result<Limits, Failure> {
    let (memory_bytes, swap) = memory(flags.memory.as_deref(), flags.memory_swap.as_deref())?;
    const PERIOD_MICROSECONDS: u64 = 100_000;
    let cpu = flags.cpus.map(|cpus| match cpus.is_finite() && cpus > 0.0 {
        true => Ok(CpuQuota {
            quota_us: (cpus * PERIOD_MICROSECONDS as f64) as u64,
            period_us: PERIOD_MICROSECONDS,
        }),
        false => Err(Failure::usage("--cpus must be more than 0")),
    });
    // docker: 0 and -1 mean no limit
    let pids_max = flags.pids_limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    Ok(Limits { memory_bytes, swap, pids_max, cpu: cpu.transpose()? })
}

/// The least memory that docker gives a container; with less not even its first process starts.
const LEAST_MEMORY_BYTES: u64 = 6 << 20;

/// `--memory` and `--memory-swap`, which is the sum of both (docker `verifyPlatformContainerResources`): not given it is
/// twice the memory, and -1 is no limit of swap.
fn memory(memory: Option<&str>, both: Option<&str>) -> Result<(Option<u64>, SwapLimit), Failure> {
    let given = |text: Option<&str>| text.filter(|text| *text != "0").map(size::bytes).transpose();
    let memory = given(memory).map_err(|failure| failure.about("--memory"))?;
    let swap = match both {
        Some("-1") => SwapLimit::Unlimited,
        both => match (given(both).map_err(|failure| failure.about("--memory-swap"))?, memory) {
            (None, _) => SwapLimit::AsMemory,
            (Some(_), None) => return Err(Failure::usage("--memory-swap needs --memory")),
            (Some(both), Some(memory)) => SwapLimit::Bytes(both.checked_sub(memory).ok_or_else(|| {
                Failure::usage("--memory-swap is memory and swap together: it cannot be less than --memory")
            })?),
        },
    };
    match memory {
        Some(bytes) if bytes < LEAST_MEMORY_BYTES => Err(Failure::usage("--memory must be at least 6m")),
        _ => Ok((memory, swap)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_are_dockers() {
        const M: u64 = 1 << 20;
        let fine = |memory: Option<&str>, both: Option<&str>| super::memory(memory, both).expect("limits");
        for (given, both, memory, swap) in [
            (None, None, None, SwapLimit::AsMemory),
            (Some("64m"), None, Some(64 * M), SwapLimit::AsMemory),
            (Some("64m"), Some("0"), Some(64 * M), SwapLimit::AsMemory),
            (Some("64m"), Some("64m"), Some(64 * M), SwapLimit::Bytes(0)),
            (Some("64m"), Some("1g"), Some(64 * M), SwapLimit::Bytes(960 * M)),
            (Some("64m"), Some("-1"), Some(64 * M), SwapLimit::Unlimited),
            (Some("0"), None, None, SwapLimit::AsMemory),
            (None, Some("-1"), None, SwapLimit::Unlimited),
            (Some("6m"), None, Some(6 * M), SwapLimit::AsMemory),
        ] {
            assert_eq!(fine(given, both), (memory, swap), "{given:?} {both:?}");
        }
        for (given, both) in [
            (Some("5m"), None),
            (Some("64m"), Some("63m")),
            (None, Some("64m")),
            (Some("0"), Some("64m")),
            (Some("64x"), None),
            (Some("64m"), Some("-2")),
            (Some("-1"), None),
        ] {
            assert!(super::memory(given, both).is_err(), "{given:?} {both:?}");
        }
    }
}
