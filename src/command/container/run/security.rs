//! What a container may do and how much of the machine it gets.

use super::Arguments;
use crate::{error::Failure, request::size, service::input};
use slipway_runtime::seccomp::{PROFILE_BYTES, Profile};
use slipway_runtime::{
    Capability, CapabilitySet, CgroupSpec, Namespace, SandboxSpec, Seccomp, Security, SwapLimit,
};
use std::{path::Path, sync::Arc};

/// What `--privileged`, `--cap-add` and `--cap-drop` leave; `available` is what this machine can give. All means what is
/// there; what was asked for by its name and is not there is refused (as docker).
pub(super) fn capabilities(
    arguments: &Arguments,
    network: &Namespace,
    available: CapabilitySet,
) -> Result<CapabilitySet, Failure> {
    let all = |text: &String| ["all", "cap_all"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let (added, dropped) = (&arguments.cap_add, &arguments.cap_drop);
    let mut set = match (arguments.privileged || added.iter().any(all), dropped.iter().any(all)) {
        (true, _) => CapabilitySet::ALL,
        (false, true) => CapabilitySet::NONE,
        (false, false) => CapabilitySet::default_for(network),
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

pub(super) fn apply_security(spec: &mut SandboxSpec, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.privileged {
        spec.seccomp = Seccomp::Unconfined;
        spec.security = Security::insecure();
    }
    for option in &arguments.security_opt {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                spec.process.no_new_privileges = true
            }
            "seccomp=unconfined" | "seccomp:unconfined" => spec.seccomp = Seccomp::Unconfined,
            "seccomp=builtin" | "seccomp:builtin" => spec.seccomp = Seccomp::Default,
            other => match other.strip_prefix("seccomp=").or_else(|| other.strip_prefix("seccomp:")) {
                Some(file) if !file.is_empty() => spec.seccomp = Seccomp::Profile(profile(Path::new(file))?),
                _ => {
                    let known = "no-new-privileges, seccomp=unconfined, seccomp=FILE";
                    return Err(Failure::usage(format!("--security-opt: `{other}` is not one of {known}")));
                }
            },
        }
    }
    Ok(())
}

/// A system call filter of the caller's.
fn profile(path: &Path) -> Result<Arc<Profile>, Failure> {
    let flag = "--security-opt seccomp";
    let json = input::read(flag, path, PROFILE_BYTES)?;
    let profile = Profile::parse(&path.display().to_string(), &json).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Failure::new(format!("{flag}: `{}`: {error}{cause}", path.display()))
    })?;
    Ok(Arc::new(profile))
}

pub(super) fn limits(arguments: &Arguments) -> Result<Option<CgroupSpec>, Failure> {
    let (memory_bytes, swap) = memory(arguments.memory.as_deref(), arguments.memory_swap.as_deref())?;
    if memory_bytes.is_none() && arguments.cpus.is_none() && arguments.pids_limit.is_none() {
        return Ok(None);
    }
    const PERIOD_MICROSECONDS: u64 = 100_000;
    let cpus = arguments.cpus.map(|cpus| match cpus.is_finite() && cpus > 0.0 {
        true => Ok(slipway_runtime::CpuQuota {
            quota_us: (cpus * PERIOD_MICROSECONDS as f64) as u64,
            period_us: PERIOD_MICROSECONDS,
        }),
        false => Err(Failure::usage("--cpus must be more than 0")),
    });
    Ok(Some(CgroupSpec {
        name: super::random_name(),
        memory_bytes,
        swap,
        // docker: 0 and -1 mean no limit
        pids_max: arguments.pids_limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0),
        cpu_quota: cpus.transpose()?,
        cpuset_cpus: None,
    }))
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
