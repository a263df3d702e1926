//! How often and how much: rates by address and by user, and wrong passwords.
//!
//! A row is one moment: when what was taken so far is paid for (the "generic cell rate algorithm", ITU-T I.371). Who asks
//! while that lies further ahead than the rate's period is told to come back. Rows are found by a keyed hash, so that a long
//! name costs no memory and nobody can aim at another's row, and those that owe least go when there are too many.
//!
//! Wrong passwords are counted by address and by account. Who knows an account's password is not locked out by those who
//! guess at it: an address that an account came from lately is counted for itself.

mod shared;

use super::error::ApiError;
use crate::limits;
use shared::{Naming, Taken};
use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

/// So many in a time; all of them at once too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In which time.
    pub period: Duration,
}

impl Rate {
    fn cost(&self, count: u64) -> Duration {
        let nanoseconds = self.period.as_nanos() * u128::from(count) / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What one address or one user may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests.
    pub requests: Option<Rate>,
    /// Bytes of bodies, in both directions.
    pub bytes: Option<Rate>,
    /// Upload sessions that are begun.
    pub uploads: Option<Rate>,
    /// Passwords that are wrong.
    pub failed_logins: Option<Rate>,
}

/// What each address and each user may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// An address, or 64 bits of one of IPv6: that many one client has.
    pub address: Share,
    /// A user, or a job.
    pub user: Share,
}

/// A sentence of limits: `address: 20 requests/s, 50MiB/s, 100 uploads/h, 20 failed logins/m`, or the same of a `user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    text: String,
    of_user: bool,
    share: Share,
}

impl Limits {
    /// Adds what a sentence says.
    pub fn add(&mut self, limit: &Limit) {
        let own = if limit.of_user { &mut self.user } else { &mut self.address };
        let Share { requests, bytes, uploads, failed_logins } = limit.share;
        own.requests = requests.or(own.requests);
        own.bytes = bytes.or(own.bytes);
        own.uploads = uploads.or(own.uploads);
        own.failed_logins = failed_logins.or(own.failed_logins);
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let form = || "a limit is `address: RATE, ...` or `user: RATE, ...`; a rate is `20 requests/s`, `50MiB/s`, `100 uploads/h` or `20 failed logins/m`";
        let (who, rates) = text.split_once(':').ok_or_else(form)?;
        let of_user = match who.trim() {
            "address" => false,
            "user" => true,
            other => return Err(format!("`{other}` is neither `address` nor `user`")),
        };
        let mut share = Share::default();
        for rate in rates.split(',').map(str::trim) {
            let wrong = || format!("`{rate}` is no rate: {}", form());
            let (what, unit) = rate.rsplit_once('/').ok_or_else(wrong)?;
            let period = match unit.trim() {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 24 * 3600,
                _ => return Err(wrong()),
            };
            let (number, kind) = what.trim().split_once(' ').unwrap_or((what.trim(), ""));
            let (place, count) = match kind.trim() {
                "requests" => (&mut share.requests, number.parse().ok()),
                "uploads" => (&mut share.uploads, number.parse().ok()),
                "failed logins" => (&mut share.failed_logins, number.parse().ok()),
                "" => (&mut share.bytes, bytes(number)),
                _ => return Err(wrong()),
            };
            let count = count.filter(|count| *count > 0).ok_or_else(wrong)?;
            let again = place.replace(Rate { count, period: Duration::from_secs(period) }).is_some();
            if again {
                return Err(format!("`{rate}`: there is another rate of its kind before it"));
            }
        }
        Ok(Limit { text: text.to_owned(), of_user, share })
    }
}

/// A number of bytes: `50MiB`, `1.5GB`, `1000`.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..end)?.parse().ok()?;
    let factor: u64 = match text[end..].trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Whose a row is.
#[derive(Clone, Copy, Hash)]
enum Row<'a> {
    Requests(Whose<'a>),
    Bytes(Whose<'a>),
    Uploads(Whose<'a>),
    Guesses(Whose<'a>),
    /// Guesses at an account from where it came from.
    Own(&'a str, IpAddr),
}

/// Who takes something.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Whose<'a> {
    Address(IpAddr),
    User(&'a str),
}

/// Counts the bytes of a request and its reply.
pub(super) struct Meter {
    throttle: Arc<Throttle>,
    limits: Limits,
    address: Option<IpAddr>,
    /// Known once the head was looked at.
    user: OnceLock<String>,
}

impl Meter {
    /// `None` where nobody's bytes are limited.
    pub(super) fn new(
        throttle: &Arc<Throttle>,
        limits: Limits,
        address: Option<IpAddr>,
    ) -> Option<Arc<Meter>> {
        limits.address.bytes.or(limits.user.bytes)?;
        Some(Arc::new(Meter { throttle: Arc::clone(throttle), limits, address, user: OnceLock::new() }))
    }

    pub(super) fn is_of(&self, user: &str) {
        // a request has one sender
        let _ = self.user.set(user.to_owned());
    }

    pub(super) fn count(&self, bytes: usize) {
        let (throttle, bytes) = (&self.throttle, bytes as u64);
        if let Some(address) = self.address {
            throttle.moved(Whose::Address(address), &self.limits.address, bytes);
        }
        if let Some(user) = self.user.get() {
            throttle.moved(Whose::User(user), &self.limits.user, bytes);
        }
    }
}

/// What everybody took.
#[derive(Default)]
pub(super) struct Throttle {
    naming: Naming,
    rows: Mutex<HashMap<u64, Instant>>,
    /// Accounts with addresses that they came from, and until when that counts.
    known: Mutex<HashMap<u64, Instant>>,
    /// What other replicas have to hear of, where there are some.
    taken: Option<Taken>,
}

/// One that is under way; it counts as wrong unless it turns out to be right.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    taken: Vec<(u64, Duration)>,
    pair: Option<u64>,
}

impl Attempt<'_> {
    /// It does not count: another one was the same.
    pub(super) fn give_back(&mut self) {
        let mut rows = self.throttle.rows();
        for (row, cost) in self.taken.drain(..) {
            if let Some(paid) = rows.get_mut(&row) {
                *paid -= cost;
            }
            self.throttle.note(row, -nanoseconds(cost));
        }
    }

    /// It was right.
    pub(super) fn was_right(mut self) {
        self.give_back();
        let Some(pair) = self.pair else { return };
        let now = Instant::now();
        let mut known = self.throttle.known.lock().expect("no panic happens while they are held");
        make_room(&mut known, now);
        known.insert(pair, now + limits::ADDRESS_KNOWN);
    }
}

impl Throttle {
    fn rows(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.rows.lock().expect("no panic happens while the rows are held")
    }

    /// Others hear of it.
    fn note(&self, row: u64, cost: i64) {
        if let Some(taken) = &self.taken {
            taken.note(row, cost);
        }
    }

    fn take(&self, row: u64, rate: Rate, count: u64, now: Instant) -> Result<Duration, ApiError> {
        let cost = rate.cost(count);
        let mut rows = self.rows();
        let paid = rows.get(&row).copied().filter(|paid| *paid > now).unwrap_or(now);
        let ahead = paid + cost - now;
        // the last one of a rate may take what is left of it
        if ahead > rate.period.max(cost) {
            return Err(ApiError::Often { retry: ahead - rate.period });
        }
        make_room(&mut rows, now);
        rows.insert(row, paid + cost);
        self.note(row, nanoseconds(cost));
        Ok(cost)
    }

    fn count(&self, row: &Row<'_>, rate: Option<Rate>) -> Result<(), ApiError> {
        let Some(rate) = rate else { return Ok(()) };
        self.take(self.naming.name(row), rate, 1, Instant::now()).map(|_| ())
    }

    /// A request of somebody begins.
    pub(super) fn request(&self, whose: Whose<'_>, share: &Share) -> Result<(), ApiError> {
        let Some(rate) = share.bytes else { return self.count(&Row::Requests(whose), share.requests) };
        let now = Instant::now();
        let paid = self.rows().get(&self.naming.name(Row::Bytes(whose))).copied();
        match paid.map(|paid| paid.saturating_duration_since(now)) {
            Some(ahead) if ahead > rate.period => Err(ApiError::Often { retry: ahead - rate.period }),
            _ => self.count(&Row::Requests(whose), share.requests),
        }
    }

    /// Bytes of somebody's bodies went by.
    pub(super) fn moved(&self, whose: Whose<'_>, share: &Share, bytes: u64) {
        let Some(rate) = share.bytes else { return };
        let now = Instant::now();
        let most = rate.period + limits::DEBT_TIME;
        let row = self.naming.name(Row::Bytes(whose));
        let mut rows = self.rows();
        make_room(&mut rows, now);
        let paid = rows.get(&row).copied().filter(|paid| *paid > now).unwrap_or(now);
        // what is moved is moved; who owes for longer than anybody waits does not owe more
        let cost = rate.cost(bytes).min(most);
        rows.insert(row, (paid + cost).min(now + most));
        self.note(row, nanoseconds(cost));
    }

    /// Somebody begins an upload session.
    pub(super) fn upload(&self, whose: Whose<'_>, share: &Share) -> Result<(), ApiError> {
        self.count(&Row::Uploads(whose), share.uploads)
    }

    /// Somebody shows a password that is not known to be right.
    pub(super) fn attempt(
        &self,
        all: &Limits,
        address: Option<IpAddr>,
        account: &str,
    ) -> Result<Attempt<'_>, ApiError> {
        let now = Instant::now();
        let pair = address.map(|address| (Row::Own(account, address), address));
        let hash = |row: &Row<'_>| self.naming.name(row);
        let known = pair.is_some_and(|(row, _)| {
            let known = self.known.lock().expect("no panic happens while they are held");
            known.get(&hash(&row)).is_some_and(|until| *until > now)
        });
        let mut attempt =
            Attempt { throttle: self, taken: Vec::new(), pair: pair.map(|(row, _)| hash(&row)) };
        let rows = match pair {
            Some((own, _)) if known => vec![(own, all.user.failed_logins.or(all.address.failed_logins))],
            Some((_, address)) => vec![
                (Row::Guesses(Whose::Address(address)), all.address.failed_logins),
                (Row::Guesses(Whose::User(account)), all.user.failed_logins),
            ],
            None => vec![(Row::Guesses(Whose::User(account)), all.user.failed_logins)],
        };
        for (row, rate) in rows {
            let Some(rate) = rate else { continue };
            let row = hash(&row);
            attempt.taken.push((row, self.take(row, rate, 1, now)?));
        }
        Ok(attempt)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Forgets what is over, and where that is too little, the half that ends first.
fn make_room(rows: &mut HashMap<u64, Instant>, now: Instant) {
    if rows.len() < limits::THROTTLE_ROWS {
        return;
    }
    rows.retain(|_, paid| *paid > now);
    if rows.len() >= limits::THROTTLE_ROWS {
        let mut ends: Vec<Instant> = rows.values().copied().collect();
        let middle = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(middle);
        let middle = *middle;
        rows.retain(|_, paid| *paid > middle);
    }
}

/// The address that counts: of IPv6 the network that one client has.
pub(super) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(texts: &[&str]) -> Limits {
        let mut limits = Limits::default();
        texts.iter().for_each(|text| limits.add(&text.parse().expect(text)));
        limits
    }

    #[test]
    fn limits_are_sentences() {
        let all = limits(&[
            "address: 20 requests/s, 50MiB/s,100 uploads/h",
            "user: 3 failed logins/m",
            "user: 1kB/d",
        ]);
        let rate = |count, seconds| Some(Rate { count, period: Duration::from_secs(seconds) });
        let address = Share {
            requests: rate(20, 1),
            bytes: rate(50 << 20, 1),
            uploads: rate(100, 3600),
            failed_logins: None,
        };
        let user = Share { failed_logins: rate(3, 60), bytes: rate(1000, 86_400), ..Share::default() };
        assert_eq!(all, Limits { address, user });
        for (text, word) in [
            ("", "a limit is"),
            ("20 requests/s", "a limit is"),
            ("ann: 20 requests/s", "neither"),
            ("user:", "no rate"),
            ("user: 20", "no rate"),
            ("user: requests/s", "no rate"),
            ("user: 0 requests/s", "no rate"),
            ("user: -1 requests/s", "no rate"),
            ("user: 1.5 requests/s", "no rate"),
            ("user: 20 requests/y", "no rate"),
            ("user: 20 pushes/s", "no rate"),
            ("user: 5XB/s", "no rate"),
            ("user: 99999999999999999999/s", "no rate"),
            ("user: 1 requests/s, 2 requests/m", "another rate"),
        ] {
            let error = text.parse::<Limit>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        for (text, expected) in [
            ("1", Some(1)),
            ("2K", Some(2048)),
            ("1TB", Some(1_000_000_000_000)),
            ("", None),
            ("é", None),
            ("MiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn who_takes_too_much_is_told_when_to_come_back() {
        let throttle = Throttle::default();
        let rate = Rate { count: 10, period: Duration::from_secs(10) };
        let now = Instant::now();
        for _ in 0..10 {
            assert!(throttle.take(1, rate, 1, now).is_ok());
        }
        let Err(ApiError::Often { retry }) = throttle.take(1, rate, 1, now) else { panic!("too many") };
        assert_eq!(retry, Duration::from_secs(1));
        assert!(throttle.take(2, rate, 1, now).is_ok(), "another is not held up");
        assert!(throttle.take(1, rate, 1, now + retry).is_ok(), "one comes back each second");
        assert!(throttle.take(1, rate, 1, now + retry).is_err());
        // bytes that went by are owed, up to a bound
        let share =
            Share { bytes: Some(Rate { count: 100, period: Duration::from_secs(1) }), ..Share::default() };
        let who = Whose::User("ann");
        assert!(throttle.request(who, &share).is_ok());
        throttle.moved(who, &share, 50);
        assert!(throttle.request(who, &share).is_ok());
        throttle.moved(who, &share, u64::MAX);
        let Err(ApiError::Often { retry }) = throttle.request(who, &share) else { panic!("too much") };
        assert!(retry <= limits::DEBT_TIME, "{retry:?}");
        assert!(throttle.request(Whose::User("bob"), &share).is_ok());
    }

    #[test]
    fn guesses_lock_out_nobody_who_knows_the_password() {
        let throttle = Throttle::default();
        let all = limits(&["address: 10 failed logins/h", "user: 20 failed logins/h"]);
        let home: IpAddr = "192.0.2.1".parse().expect("an address");
        let away = |number: u8| Some(IpAddr::from([198, 51, 100, number]));
        throttle.attempt(&all, Some(home), "ann").expect("the first").was_right();
        let mut tried = 0;
        for number in 0..100 {
            tried += u32::from(throttle.attempt(&all, away(number), "ann").is_ok());
        }
        assert_eq!(tried, 20, "of one account from anywhere");
        assert!(throttle.attempt(&all, Some(home), "ann").is_ok(), "ann comes from where she came from");
        let tried =
            (0..100).filter(|number| throttle.attempt(&all, away(200), &format!("user-{number}")).is_ok());
        assert_eq!(tried.count(), 10, "of one address at any accounts");
        // who is right does not use it up
        for _ in 0..100 {
            throttle.attempt(&all, away(201), "bob").expect("right").was_right();
        }
        // where somebody is known, guesses are counted all the same
        let tried = (0..100).filter(|_| throttle.attempt(&all, Some(home), "ann").is_ok()).count();
        assert_eq!(tried, 19);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let rate = Rate { count: 10, period: Duration::from_secs(3600) };
        let now = Instant::now();
        for _ in 0..10 {
            throttle.take(u64::MAX, rate, 1, now).expect("a few");
        }
        for row in 0..limits::THROTTLE_ROWS as u64 * 2 {
            throttle.take(row, rate, 1, now).expect("one each");
        }
        assert!(throttle.rows().len() <= limits::THROTTLE_ROWS);
        assert!(throttle.take(u64::MAX, rate, 1, now).is_err(), "who owes most is not forgotten");
        let six: IpAddr = "2001:db8:1:2:3:4:5:6".parse().expect("an address");
        assert_eq!(counted(six).to_string(), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1".parse().expect("one")).to_string(), "192.0.2.1");
    }
}
