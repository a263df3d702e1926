//! A caller's own profile, in docker's form of JSON (docker's `--security-opt seccomp=FILE`; moby profiles/seccomp).
//!
//! The rules of libseccomp: a call's rules are tried in their order, the first whose conditions all hold answers, and
//! where none does the profile's default does. Conditions look at all 64 bits. Names that the table lacks are passed over,
//! as docker does; actions that need somebody to listen are refused.

use serde::Deserialize;

use super::profile::{Answer, MachineRules, NATIVE};
use super::table::{Machine, Row, rows};
use crate::sandbox::capability::{Capability, CapabilitySet};

/// The largest profile that is read, in bytes; docker's own has 15 thousand.
pub const PROFILE_BYTES: u64 = 1 << 20;

/// A profile that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What the caller calls it.
    name: String,
    /// What is answered where no rule answers.
    default: u32,
    /// The machines whose programs may run, by their place in [`NATIVE`].
    machines: [bool; 2],
    rules: Vec<NamedRule>,
}

/// A rule and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedRule {
    names: Vec<String>,
    includes: Filter,
    excludes: Filter,
    rule: Rule,
}

/// What is answered if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) answer: u32,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) comparison: Comparison,
    /// What is compared with; the mask of a masked comparison.
    pub(super) value: u64,
    /// What the masked argument is compared with.
    pub(super) second: u64,
}

/// `SCMP_CMP_*` of libseccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Comparison {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    AtMost,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    AtLeast,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    Masked,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is no such JSON.
    #[error("it is not a seccomp profile in docker's form")]
    Json(#[from] serde_json::Error),
    /// A word that is not one of docker's.
    #[error("`{word}` is not {what} that slipway can keep")]
    Word {
        /// What it should be, with its article.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// An argument's number.
    #[error("a system call has no argument {0}: they are 0 to 5")]
    Argument(u64),
    /// It holds both of two ways to say the same.
    #[error("it has both `architectures` and `archMap`: give one")]
    Architectures,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Comparison,
}

/// For whom a rule is, or is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// `SECCOMP_RET_*` (linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const LOG: u32 = 0x7FFC_0000;
pub(super) const ALLOW: u32 = 0x7FFF_0000;

/// Whether an answer is a failure with a number.
pub(super) fn is_errno(answer: u32) -> bool {
    answer & 0xFFFF_0000 == ERRNO
}

/// What an action answers. Without a number of its own `SCMP_ACT_ERRNO` is EPERM (runtime-spec, "Seccomp").
fn action(word: &str, errno: Option<u16>) -> Result<u32, ProfileError> {
    Ok(match word {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | u32::from(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_LOG" => LOG,
        word => return Err(ProfileError::Word { what: "an action", word: word.to_owned() }),
    })
}

impl Profile {
    /// Reads a profile; it is called `name` where it cannot be used.
    pub fn parse(name: &str, json: &[u8]) -> Result<Profile, ProfileError> {
        let document: Document = serde_json::from_slice(json)?;
        let default = action(&document.default_action, document.default_errno_ret)?;
        let machines = machines_of(&document)?;
        let rules = document.syscalls.into_iter().map(NamedRule::new).collect::<Result<_, _>>()?;
        Ok(Profile { name: name.to_owned(), default, machines, rules })
    }

    /// What the caller calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The answers for a process with these capabilities; see [`super::profile::machines`] for `beside`.
    pub(super) fn machines(&self, capabilities: CapabilitySet, beside: bool) -> Vec<MachineRules> {
        let applying: Vec<&NamedRule> = self.rules.iter().filter(|rule| rule.applies(capabilities)).collect();
        let machine = |place: usize| {
            let (audit, machine) = NATIVE[place];
            let answer =
                |row: &Row| Some((row.number(machine)?, self.answer(row, machine, &applying, beside)));
            let mut answers: Vec<_> = rows().iter().filter_map(answer).collect();
            answers.sort_by_key(|(number, _)| *number);
            let newer = if is_errno(self.default) { ERRNO | libc::ENOSYS as u32 } else { self.default };
            MachineRules { audit, answers, newer }
        };
        (0..NATIVE.len()).filter(|place| self.machines[*place]).map(machine).collect()
    }

    fn answer(&self, row: &Row, machine: Machine, applying: &[&NamedRule], beside: bool) -> Answer {
        let named = applying.iter().filter(|rule| rule.names.iter().any(|name| name == row.name));
        let mut rules: Vec<Rule> = named.map(|named| named.rule.clone()).collect();
        // what follows a rule without conditions is never asked
        let mut otherwise = self.default;
        if let Some(end) = rules.iter().position(|rule| rule.conditions.is_empty()) {
            otherwise = rules[end].answer;
            rules.truncate(end);
        }
        if rules.is_empty() {
            if beside && row.rule == "owner" && otherwise == ALLOW && machine == NATIVE[0].1 {
                return Answer::Listener;
            }
            return Answer::Return(otherwise);
        }
        Answer::Rules { rules, otherwise }
    }
}

/// Which machines the profile is for: those that it names, or ours.
fn machines_of(document: &Document) -> Result<[bool; 2], ProfileError> {
    const NAMES: [&str; 2] = if cfg!(target_arch = "x86_64") {
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    } else {
        ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    let named: Vec<&String> = match (&document.architectures, &document.arch_map) {
        (Some(list), Some(map)) if !list.is_empty() && !map.is_empty() => {
            return Err(ProfileError::Architectures);
        }
        (Some(list), _) if !list.is_empty() => list.iter().collect(),
        (_, Some(map)) => {
            let ours = map.iter().filter(|entry| entry.architecture == NAMES[0]);
            ours.flat_map(|entry| {
                std::iter::once(&entry.architecture).chain(entry.sub_architectures.iter().flatten())
            })
            .collect()
        }
        _ => Vec::new(),
    };
    // the native one is always there, as libseccomp has it
    Ok([true, named.iter().any(|name| *name == NAMES[1])])
}

impl NamedRule {
    fn new(call: Syscall) -> Result<NamedRule, ProfileError> {
        let mut conditions = Vec::new();
        for argument in call.args.into_iter().flatten() {
            let Some(place) = u8::try_from(argument.index).ok().filter(|place| *place < 6) else {
                return Err(ProfileError::Argument(argument.index));
            };
            conditions.push(Condition {
                argument: place,
                comparison: argument.op,
                value: argument.value,
                second: argument.value_two,
            });
        }
        let answer = action(&call.action, call.errno_ret)?;
        let names = call.names.into_iter().flatten().chain(call.name).collect();
        let (includes, excludes) = (call.includes.unwrap_or_default(), call.excludes.unwrap_or_default());
        for name in includes.caps.iter().chain(&excludes.caps).flatten() {
            if name.parse::<Capability>().is_err() {
                return Err(ProfileError::Word { what: "a capability", word: name.clone() });
            }
        }
        for version in includes.min_kernel.iter().chain(&excludes.min_kernel) {
            if kernel(version).is_none() {
                return Err(ProfileError::Word { what: "a kernel's version", word: version.clone() });
            }
        }
        Ok(NamedRule { names, includes, excludes, rule: Rule { conditions, answer } })
    }

    /// Docker's rule: all capabilities, one of the machines and the kernel of `includes`, and nothing of `excludes`.
    fn applies(&self, capabilities: CapabilitySet) -> bool {
        const MACHINE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let has = |name: &String| name.parse().is_ok_and(|capability| capabilities.contains(capability));
        let at_least = |version: &String| kernel(version).is_some_and(|version| running() >= version);
        let is_ours = |list: &Vec<String>| list.iter().any(|name| name == MACHINE);
        self.includes.caps.iter().flatten().all(has)
            && !self.excludes.caps.iter().flatten().any(has)
            && self.includes.arches.as_ref().is_none_or(|list| list.is_empty() || is_ours(list))
            && !self.excludes.arches.as_ref().is_some_and(is_ours)
            && self.includes.min_kernel.as_ref().is_none_or(at_least)
            && !self.excludes.min_kernel.as_ref().is_some_and(at_least)
    }
}

/// Major and minor number of a kernel's version.
fn kernel(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn running() -> (u32, u32) {
    rustix::system::uname().release().to_str().ok().and_then(kernel).unwrap_or((0, 0))
}
