//! Devices that wait to be let in (RFC 8628): a program without a browser shows a code, and somebody who is logged in at the web page
//! types it there and says whether that program may act as them.
//!
//! What the device keeps asking with is 256 random bits, of which only a digest is kept. What people type is 8 letters without
//! vowels and digits, so that nothing looks like another and no word comes out (section 6.1): 34 bits, which only who is logged in
//! can guess at, a few times in ten minutes, and hitting one lets a foreign device act as the guesser, nothing else. Codes
//! live for minutes, in the memory of the one process that has a folder, which forgets them when it ends: clients are told to begin
//! again then. Replicas keep them in their database, so that any of them may be asked and typed at.

use super::storage::{
    Storage, StorageError,
    pointers::{Decided, DeviceAsked, DeviceTimes, NewDevice, SharedDevices, Typed},
};
use crate::limits;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use slipway_oci::Digest;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Letters of a code (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// How many of them.
const CODE_LETTERS: usize = 8;

/// Devices that wait: at this process, or at any replica.
pub(super) enum Devices {
    Own(Own),
    Shared(SharedDevices),
}

/// Devices that wait at this process.
#[derive(Default)]
pub(super) struct Own(Mutex<State>);

#[derive(Default)]
struct State {
    /// By the digest of what the device has.
    waiting: HashMap<Digest, Waiting>,
    /// Wrong codes that users typed: since when, and how many.
    wrong: HashMap<String, (Instant, u32)>,
}

struct Waiting {
    code: String,
    device: Device,
    until: Instant,
    interval: Duration,
    asked: Option<Instant>,
    decided: Option<Decision>,
}

enum Decision {
    Allowed(Grant),
    Refused,
}

/// As whom a device may act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) user: String,
    /// What the user's tokens stood on then: who has another password since said yes to nothing.
    pub(super) stamp: String,
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// What it calls itself.
    pub(super) client: String,
    /// Where it asked from.
    pub(super) address: Option<IpAddr>,
}

/// What a device is given to begin with.
#[derive(Debug)]
pub(super) struct Codes {
    /// What it asks with.
    pub(super) device: String,
    /// What people type, as it is shown.
    pub(super) user: String,
}

/// Why there is no code.
#[derive(Debug)]
pub(super) enum NoCode {
    /// Too many devices wait, of that address or at all.
    Many,
    Storage(StorageError),
}

/// Why a device has no token yet, or never (RFC 8628, section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotYet {
    Pending,
    SlowDown,
    Refused,
    Expired,
    /// The code is none, or another client's.
    Unknown,
}

/// Why a code that somebody typed is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrongCode {
    Unknown,
    /// They typed too many wrong ones.
    Often(Duration),
}

const TIMES: DeviceTimes = DeviceTimes {
    life: limits::DEVICE_LIFE,
    pause: limits::DEVICE_INTERVAL,
    guesses: limits::DEVICE_GUESS_TIME,
    most_guesses: limits::DEVICE_GUESSES as u64,
};

impl Devices {
    pub(super) fn new(storage: &Storage) -> Devices {
        storage.devices().map_or_else(|| Devices::Own(Own::default()), Devices::Shared)
    }

    /// A device begins to wait. Blocks.
    pub(super) fn begin(&self, device: Device) -> Result<Codes, NoCode> {
        let shared = match self {
            Devices::Own(own) => return own.begin(device, Instant::now()),
            Devices::Shared(shared) => shared,
        };
        let (secret, code) = (secret()?, letters().map_err(|error| NoCode::Storage(error.into()))?);
        let address = device.address.map(|address| address.to_string());
        let new = NewDevice {
            secret: &Digest::sha256(secret.as_bytes()).to_string(),
            code: &code,
            client: &device.client,
            address: address.as_deref(),
            most: limits::DEVICES as u64,
            most_of_address: limits::DEVICES_OF_ADDRESS as u64,
        };
        match shared.begin(&new, &TIMES) {
            Ok(true) => Ok(Codes { device: secret, user: shown(&code) }),
            Ok(false) => Err(NoCode::Many),
            Err(error) => Err(NoCode::Storage(error)),
        }
    }

    /// A device asks whether it may act as somebody, and as whom. What is decided is told once. Blocks.
    pub(super) fn ask(&self, secret: &str, client: &str) -> Result<Result<Grant, NotYet>, StorageError> {
        let shared = match self {
            Devices::Own(own) => return Ok(own.ask(secret, client, Instant::now())),
            Devices::Shared(shared) => shared,
        };
        let asked = shared.ask(&Digest::sha256(secret.as_bytes()).to_string(), client, &TIMES)?;
        Ok(match asked {
            DeviceAsked::Allowed { user, stamp } => Ok(Grant { user, stamp }),
            DeviceAsked::Unknown => Err(NotYet::Unknown),
            DeviceAsked::Expired => Err(NotYet::Expired),
            DeviceAsked::Early => Err(NotYet::SlowDown),
            DeviceAsked::Pending => Err(NotYet::Pending),
            DeviceAsked::Refused => Err(NotYet::Refused),
        })
    }

    /// The device of a code that `user` typed. Blocks.
    pub(super) fn find(&self, user: &str, typed: &str) -> Result<Result<Device, WrongCode>, StorageError> {
        match self {
            Devices::Own(own) => Ok(own.find(user, typed, Instant::now())),
            Devices::Shared(shared) => Ok(device(shared.typed(user, &code_of(typed), None, &TIMES)?)),
        }
    }

    /// `user` says whether it may act as them, as whom `stamp` tells; `None` refuses it. Blocks.
    pub(super) fn decide(
        &self,
        user: &str,
        typed: &str,
        stamp: Option<String>,
    ) -> Result<Result<Device, WrongCode>, StorageError> {
        match self {
            Devices::Own(own) => Ok(own.decide(user, typed, stamp, Instant::now())),
            Devices::Shared(shared) => {
                Ok(device(shared.typed(user, &code_of(typed), Some(&Decided(stamp)), &TIMES)?))
            }
        }
    }
}

fn device(typed: Typed) -> Result<Device, WrongCode> {
    match typed {
        Typed::Known { client, address } => {
            Ok(Device { client, address: address.and_then(|address| address.parse().ok()) })
        }
        Typed::Unknown => Err(WrongCode::Unknown),
        Typed::Often(time) => Err(WrongCode::Often(time)),
    }
}

/// What a device asks with.
fn secret() -> Result<String, NoCode> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| NoCode::Storage(error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(secret))
}

impl Own {
    fn state(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().expect("no panic happens while devices are held");
        // those that are over stay a while longer, so that their devices are told
        state.waiting.retain(|_, one| one.until + limits::DEVICE_LIFE > now);
        state.wrong.retain(|_, (since, _)| *since + limits::DEVICE_GUESS_TIME > now);
        state
    }

    /// A device begins to wait.
    pub(super) fn begin(&self, device: Device, now: Instant) -> Result<Codes, NoCode> {
        let secret = secret()?;
        let mut state = self.state(now);
        let of_address = state.waiting.values().filter(|one| one.device.address == device.address).count();
        if state.waiting.len() >= limits::DEVICES || of_address >= limits::DEVICES_OF_ADDRESS {
            return Err(NoCode::Many);
        }
        let code = loop {
            let code = letters().map_err(|error| NoCode::Storage(error.into()))?;
            if state.waiting.values().all(|one| one.code != code) {
                break code;
            }
        };
        let shown = shown(&code);
        let waiting = Waiting {
            code,
            device,
            until: now + limits::DEVICE_LIFE,
            interval: limits::DEVICE_INTERVAL,
            asked: None,
            decided: None,
        };
        state.waiting.insert(Digest::sha256(secret.as_bytes()), waiting);
        Ok(Codes { device: secret, user: shown })
    }

    /// A device asks whether it may act as somebody, and as whom. What is decided is told once.
    pub(super) fn ask(&self, secret: &str, client: &str, now: Instant) -> Result<Grant, NotYet> {
        let mut state = self.state(now);
        let key = Digest::sha256(secret.as_bytes());
        let one = state.waiting.get_mut(&key).filter(|one| one.device.client == client);
        let one = one.ok_or(NotYet::Unknown)?;
        let early = one.asked.is_some_and(|asked| now < asked + one.interval);
        one.asked = Some(now);
        let answer = match one.decided.take() {
            _ if one.until <= now => Err(NotYet::Expired),
            Some(Decision::Allowed(grant)) => Ok(grant),
            Some(Decision::Refused) => Err(NotYet::Refused),
            None if early => {
                one.interval += limits::DEVICE_INTERVAL;
                return Err(NotYet::SlowDown);
            }
            None => return Err(NotYet::Pending),
        };
        state.waiting.remove(&key);
        answer
    }

    /// The device of a code that `user` typed.
    pub(super) fn find(&self, user: &str, typed: &str, now: Instant) -> Result<Device, WrongCode> {
        self.with(user, typed, now, |one| one.device.clone())
    }

    /// `user` says whether it may act as them, as whom `stamp` tells; `None` refuses it.
    pub(super) fn decide(
        &self,
        user: &str,
        typed: &str,
        stamp: Option<String>,
        now: Instant,
    ) -> Result<Device, WrongCode> {
        self.with(user, typed, now, |one| {
            let grant = stamp.map(|stamp| Grant { user: user.to_owned(), stamp });
            one.decided = Some(grant.map_or(Decision::Refused, Decision::Allowed));
            one.device.clone()
        })
    }

    fn with<T>(
        &self,
        user: &str,
        typed: &str,
        now: Instant,
        work: impl FnOnce(&mut Waiting) -> T,
    ) -> Result<T, WrongCode> {
        let mut state = self.state(now);
        if let Some((since, count)) = state.wrong.get(user)
            && *count >= limits::DEVICE_GUESSES
        {
            return Err(WrongCode::Often(*since + limits::DEVICE_GUESS_TIME - now));
        }
        let code = code_of(typed);
        let open = |one: &&mut Waiting| one.code == code && one.decided.is_none() && one.until > now;
        match state.waiting.values_mut().find(open) {
            Some(one) => Ok(work(one)),
            None => {
                let (_, count) = state.wrong.entry(user.to_owned()).or_insert((now, 0));
                *count += 1;
                Err(WrongCode::Unknown)
            }
        }
    }
}

/// The code that somebody means by what they typed; one letter too many is none.
fn code_of(typed: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric();
    typed.chars().filter(plain).take(CODE_LETTERS + 1).map(|c| c.to_ascii_uppercase()).collect()
}

/// A code as devices show it, however somebody typed it.
pub(super) fn shown(typed: &str) -> String {
    let code = code_of(typed);
    let (first, last) = code.split_at(code.len().min(CODE_LETTERS / 2));
    format!("{first}-{last}")
}

/// A code, each letter as likely as any other.
fn letters() -> Result<String, getrandom::Error> {
    let mut code = String::with_capacity(CODE_LETTERS);
    while code.len() < CODE_LETTERS {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        // the largest multiple of 20 in a byte
        let fair = bytes.iter().filter(|byte| **byte < 240);
        code.extend(fair.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])));
    }
    code.truncate(CODE_LETTERS);
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> Device {
        Device { client: "slipway".to_owned(), address: Some(IpAddr::from([127, 0, 0, number])) }
    }

    fn stamp() -> Option<String> {
        Some("s".to_owned())
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_device_is_let_in_once_by_whoever_types_its_code() {
        let (devices, start) = (Own::default(), Instant::now());
        let codes = devices.begin(device(1), start).expect("codes");
        let ask = |at| devices.ask(&codes.device, "slipway", start + second(at));
        assert_eq!(ask(0), Err(NotYet::Pending));
        assert_eq!(ask(4), Err(NotYet::SlowDown));
        assert_eq!(ask(13), Err(NotYet::SlowDown), "ten seconds by now");
        assert_eq!(ask(28), Err(NotYet::Pending), "fifteen");
        assert_eq!(devices.ask(&codes.device, "other", start + second(90)), Err(NotYet::Unknown));
        assert_eq!(devices.ask(&codes.user, "slipway", start), Err(NotYet::Unknown));
        let typed = codes.user.to_lowercase().replace('-', " - ");
        assert_eq!(devices.find("ann", &typed, start), Ok(device(1)));
        assert_eq!(devices.decide("ann", &typed, stamp(), start), Ok(device(1)));
        assert_eq!(devices.decide("bob", &typed, stamp(), start), Err(WrongCode::Unknown), "it is decided");
        assert_eq!(
            ask(29),
            Ok(Grant { user: "ann".to_owned(), stamp: "s".to_owned() }),
            "who was let in waits no longer"
        );
        assert_eq!(ask(99), Err(NotYet::Unknown), "and only once");
        let codes = devices.begin(device(1), start).expect("codes");
        devices.decide("ann", &codes.user, None, start).expect("a device");
        assert_eq!(devices.ask(&codes.device, "slipway", start), Err(NotYet::Refused));
    }

    #[test]
    fn codes_end_and_are_bounded() {
        let (devices, start) = (Own::default(), Instant::now());
        let codes = devices.begin(device(1), start).expect("codes");
        let over = start + limits::DEVICE_LIFE;
        assert_eq!(devices.find("ann", &codes.user, over), Err(WrongCode::Unknown));
        assert_eq!(devices.ask(&codes.device, "slipway", over), Err(NotYet::Expired));
        // allowed in the last moment, fetched too late
        let codes = devices.begin(device(1), start).expect("codes");
        devices.decide("ann", &codes.user, stamp(), start).expect("a device");
        assert_eq!(devices.ask(&codes.device, "slipway", over), Err(NotYet::Expired));
        for _ in 0..limits::DEVICES_OF_ADDRESS {
            devices.begin(device(2), start).expect("codes");
        }
        assert!(matches!(devices.begin(device(2), start), Err(NoCode::Many)));
        devices.begin(device(3), start).expect("others have their own");
        let mut number = 0_u32;
        let full = loop {
            number += 1;
            let address = Some(IpAddr::from(number.to_be_bytes()));
            let another = Device { client: String::new(), address };
            if devices.begin(another, start).is_err() {
                break number;
            }
        };
        assert!(full as usize <= limits::DEVICES);
        devices.begin(device(2), over + limits::DEVICE_LIFE).expect("all is over");
    }

    #[test]
    fn nobody_guesses_for_long_and_letters_are_plain() {
        let (devices, start) = (Own::default(), Instant::now());
        let codes = devices.begin(device(1), start).expect("codes");
        let wrong = ["", "BCDF", "BCDFGHJKL", "aeiou", "\u{212a}", "'; --", "BCDF\0GHJK", "ＢＣＤＦＧＨＪＫ"];
        for number in 0..limits::DEVICE_GUESSES {
            let typed = wrong[number as usize % wrong.len()];
            assert_eq!(devices.find("eve", typed, start), Err(WrongCode::Unknown), "{typed}");
        }
        assert!(
            matches!(devices.find("eve", &codes.user, start), Err(WrongCode::Often(_))),
            "not even a right one"
        );
        assert!(devices.find("ann", &codes.user, start).is_ok(), "others go on");
        let later = start + limits::DEVICE_GUESS_TIME;
        assert_eq!(devices.find("eve", &codes.user, later), Err(WrongCode::Unknown), "it is over by then");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let code = letters().expect("letters");
            assert!(code.len() == 8 && code.bytes().all(|letter| LETTERS.contains(&letter)), "{code}");
            seen.insert(code);
        }
        assert_eq!(seen.len(), 2000);
        assert_eq!(
            seen.iter().flat_map(|code| code.bytes()).collect::<std::collections::BTreeSet<_>>().len(),
            20
        );
    }
}
