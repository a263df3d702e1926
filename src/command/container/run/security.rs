//! What a container may do and how much of the machine it gets.

use super::Arguments;
use crate::error::Failure;
use slipway_runtime::{CapabilitySet, CgroupSpec, SandboxSpec, Seccomp, Security};

pub(super) fn capabilities(arguments: &Arguments) -> Result<CapabilitySet, Failure> {
    let mut set = if arguments.privileged { CapabilitySet::ALL } else { CapabilitySet::DOCKER };
    let all = |text: &String| text.eq_ignore_ascii_case("all");
    if arguments.cap_drop.iter().any(all) {
        set = CapabilitySet::NONE;
    }
    if arguments.cap_add.iter().any(all) {
        set = CapabilitySet::ALL;
    }
    let parse = |text: &String| {
        text.parse::<slipway_runtime::Capability>()
            .map_err(|_| Failure::usage(format!("`{text}` is not a capability, such as NET_ADMIN")))
    };
    for text in arguments.cap_add.iter().filter(|text| !all(text)) {
        set.insert(parse(text)?);
    }
    for text in arguments.cap_drop.iter().filter(|text| !all(text)) {
        set.remove(parse(text)?);
    }
    Ok(set)
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
