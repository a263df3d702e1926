//! What a container may do and how much of the machine it gets.

use super::Arguments;
use crate::error::Failure;
use slipway_runtime::{Capability, CapabilitySet, CgroupSpec, SandboxSpec, Seccomp, Security};

/// What `--privileged`, `--cap-add` and `--cap-drop` leave; `available` is what this machine can give. All means what is
/// there; what was asked for by its name and is not there is refused (as docker).
pub(super) fn capabilities(
    arguments: &Arguments,
    available: CapabilitySet,
) -> Result<CapabilitySet, Failure> {
    let all = |text: &String| ["all", "cap_all"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let (added, dropped) = (&arguments.cap_add, &arguments.cap_drop);
    let mut set = match (arguments.privileged || added.iter().any(all), dropped.iter().any(all)) {
        (true, _) => CapabilitySet::ALL,
        (false, true) => CapabilitySet::NONE,
        (false, false) => CapabilitySet::DOCKER,
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
            other => {
                let words =
                    format!("--security-opt: `{other}` is not one of no-new-privileges, seccomp=unconfined");
                return Err(Failure::usage(words));
            }
        }
    }
    Ok(())
}

pub(super) fn limits(arguments: &Arguments) -> Result<Option<CgroupSpec>, Failure> {
    if arguments.memory.is_none() && arguments.cpus.is_none() && arguments.pids_limit.is_none() {
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
        memory_bytes: arguments.memory.as_deref().map(crate::request::size::bytes).transpose()?,
        // docker: 0 and -1 mean no limit
        pids_max: arguments.pids_limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0),
        cpu_quota: cpus.transpose()?,
        cpuset_cpus: None,
    }))
}
