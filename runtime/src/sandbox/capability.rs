//! Capabilities by name and as sets (capabilities(7), `linux/capability.h`).

use std::fmt;
use std::str::FromStr;

use crate::sandbox::spec::Namespace;

/// One capability; the number is the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// The names without `CAP_`, in the kernel's order: the place is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// The kernel's number, the bit in a set.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Every capability this library knows, in the kernel's order.
    pub fn all() -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8).map(Capability)
    }

    /// The name as the specifications write it, `CAP_CHOWN`.
    pub fn name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A capability's name that the kernel's headers do not have.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a capability")]
pub struct UnknownCapability(pub String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Docker's spelling: any case, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let place = NAMES.iter().position(|known| *known == name);
        place.map(|place| Capability(place as u8)).ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

/// A set of capabilities as the kernel's bit mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// What a container has that asks for nothing. Where the network is shared it has not `CAP_NET_RAW`, with which it
    /// would read and forge the traffic of everybody on it.
    pub fn default_for(network: &Namespace) -> CapabilitySet {
        match network.is_new() {
            true => CapabilitySet::DOCKER,
            false => CapabilitySet(CapabilitySet::DOCKER.0 & !CapabilitySet::NET_RAW.0),
        }
    }

    /// No capability.
    pub const NONE: CapabilitySet = CapabilitySet(0);
    /// Every capability that this library knows, for `--privileged` and `--security=insecure`.
    pub const ALL: CapabilitySet = CapabilitySet((1 << NAMES.len()) - 1);
    /// Docker's default fourteen (moby `daemon/pkg/oci/caps/defaults.go`): CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD,
    /// NET_RAW, SETGID, SETUID, SETFCAP, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE.
    pub const DOCKER: CapabilitySet = CapabilitySet(
        1 | 1 << 1
            | 1 << 3
            | 1 << 4
            | 1 << 5
            | 1 << 6
            | 1 << 7
            | 1 << 8
            | 1 << 10
            | 1 << 13
            | 1 << 18
            | 1 << 27
            | 1 << 29
            | 1 << 31,
    );
    /// `CAP_NET_RAW` alone.
    const NET_RAW: CapabilitySet = CapabilitySet(1 << 13);
    /// `CAP_CHOWN` alone.
    pub(crate) const CHOWN: CapabilitySet = CapabilitySet(1);
    /// `CAP_SYS_ADMIN` alone; what it is compared with most.
    pub(crate) const SYS_ADMIN: CapabilitySet = CapabilitySet(1 << 21);

    /// The set with these bits; bits past the last known capability are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        CapabilitySet(bits & Self::ALL.0)
    }

    /// The kernel's mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the capability is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability.0 != 0
    }

    /// Whether the two sets share a capability.
    pub const fn intersects(self, other: CapabilitySet) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds one capability.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.0;
    }

    /// Removes one capability.
    pub fn remove(&mut self, capability: Capability) {
        self.0 &= !(1 << capability.0);
    }

    /// The capabilities in the set, in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::NONE, |mut set, capability| {
            set.insert(capability);
            set
        })
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_default_is_its_fourteen_names() {
        let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE \
                     SYS_CHROOT KILL AUDIT_WRITE";
        let set: CapabilitySet = names.split_whitespace().map(|name| name.parse().unwrap()).collect();
        assert_eq!(set, CapabilitySet::DOCKER);
        assert_eq!(set.iter().count(), 14);
    }

    #[test]
    fn raw_sockets_are_for_networks_of_ones_own() {
        assert_eq!(CapabilitySet::default_for(&Namespace::New), CapabilitySet::DOCKER);
        let mut shared = CapabilitySet::default_for(&Namespace::Host);
        let raw: Capability = "NET_RAW".parse().unwrap();
        assert!(!shared.contains(raw));
        shared.insert(raw);
        assert_eq!(shared, CapabilitySet::DOCKER);
    }

    #[test]
    fn names_are_read_in_dockers_spellings() {
        let admin: Capability = "cap_sys_admin".parse().unwrap();
        assert_eq!(admin, "SYS_ADMIN".parse().unwrap());
        assert_eq!(admin.number(), 21);
        assert_eq!(admin.to_string(), "CAP_SYS_ADMIN");
        assert!(CapabilitySet::SYS_ADMIN.contains(admin));
        assert!("ALL".parse::<Capability>().is_err());
        assert!("CAP_".parse::<Capability>().is_err());
    }

    #[test]
    fn sets_add_and_remove() {
        let chown: Capability = "chown".parse().unwrap();
        let mut set = CapabilitySet::NONE;
        set.insert(chown);
        assert!(set.contains(chown) && set.intersects(CapabilitySet::DOCKER));
        set.remove(chown);
        assert_eq!(set, CapabilitySet::NONE);
        assert_eq!(CapabilitySet::from_bits(u64::MAX), CapabilitySet::ALL);
    }
}
