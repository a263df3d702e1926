//! What of a [`super::Throttle`] several replicas know of: the names of rows, and what was taken of them lately.
//!
//! A message is `REPLICA ROW:COST,ROW:COST,...`: numbers in hexadecimal, a cost in nanoseconds of its rate, with a sign where a right
//! password is given back.

use super::Throttle;
use crate::{limits, server::storage::StorageError};
use ring::digest::{Context, SHA256};
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How rows are called.
pub(super) enum Naming {
    /// As only this process knows.
    Own(RandomState),
    /// As all replicas do, and nobody else: by a key of theirs.
    Shared(Box<[u8]>),
}

impl Default for Naming {
    fn default() -> Naming {
        Naming::Own(RandomState::new())
    }
}

impl Naming {
    pub(super) fn name(&self, row: impl Hash) -> u64 {
        match self {
            Naming::Own(state) => state.hash_one(row),
            Naming::Shared(key) => {
                let mut hasher = Keyed(Context::new(&SHA256));
                hasher.write(key);
                row.hash(&mut hasher);
                hasher.finish()
            }
        }
    }
}

struct Keyed(Context);

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        let first = digest.as_ref().first_chunk().expect("a digest has 32 bytes");
        u64::from_be_bytes(*first)
    }
}

/// What was taken here since others were told.
pub(super) struct Taken {
    /// What this replica is called in its messages.
    replica: u64,
    costs: Mutex<HashMap<u64, i64>>,
}

impl Taken {
    /// Notes a cost, in nanoseconds.
    pub(super) fn note(&self, row: u64, cost: i64) {
        let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        if costs.len() < limits::COUNTS_TOLD || costs.contains_key(&row) {
            let noted = costs.entry(row).or_default();
            *noted = noted.saturating_add(cost);
        }
    }
}

impl Throttle {
    /// One of replicas, which call rows by this key.
    pub(in crate::server) fn shared(key: &[u8]) -> Result<Throttle, StorageError> {
        let mut replica = [0; 8];
        getrandom::fill(&mut replica)?;
        let taken = Taken { replica: u64::from_be_bytes(replica), costs: Mutex::default() };
        Ok(Throttle { naming: Naming::Shared(key.into()), taken: Some(taken), ..Throttle::default() })
    }

    /// What others have to hear, in messages; it is not told again.
    pub(in crate::server) fn tell(&self) -> Vec<String> {
        let Some(taken) = &self.taken else { return Vec::new() };
        let costs = std::mem::take(&mut *taken.costs.lock().unwrap_or_else(PoisonError::into_inner));
        let one = |(row, cost): (u64, i64)| {
            let sign = if cost < 0 { "-" } else { "" };
            format!("{row:x}:{sign}{:x}", cost.unsigned_abs())
        };
        let all: Vec<String> = costs.into_iter().filter(|(_, cost)| *cost != 0).map(one).collect();
        let message = |some: &[String]| format!("{:x} {}", taken.replica, some.join(","));
        all.chunks(limits::COUNTS_MESSAGE).map(message).collect()
    }

    /// Counts what another replica told. What cannot be read is of a version that tells more.
    pub(in crate::server) fn hear(&self, text: &str) {
        let Some((replica, costs)) = text.split_once(' ') else { return };
        let own = self.taken.as_ref().map(|taken| taken.replica);
        if u64::from_str_radix(replica, 16).ok().is_none_or(|replica| own == Some(replica)) {
            return;
        }
        let now = Instant::now();
        for (row, cost) in costs.split(',').filter_map(|one| one.split_once(':')) {
            let row = u64::from_str_radix(row, 16);
            if let (Ok(row), Ok(cost)) = (row, i64::from_str_radix(cost, 16)) {
                self.count_of_others(row, cost, now);
            }
        }
    }

    fn count_of_others(&self, row: u64, cost: i64, now: Instant) {
        let amount = Duration::from_nanos(cost.unsigned_abs()).min(limits::COUNTS_MOST);
        let mut rows = self.rows();
        super::make_room(&mut rows, now);
        let paid = rows.get(&row).copied().filter(|paid| *paid > now).unwrap_or(now);
        let paid = if cost < 0 { paid.checked_sub(amount).unwrap_or(now) } else { paid + amount };
        rows.insert(row, paid.min(now + limits::COUNTS_MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};
    use std::net::{IpAddr, Ipv4Addr};

    const ANN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn of(text: &str) -> Limits {
        let mut limits = Limits::default();
        limits.add(&text.parse().expect(text));
        limits
    }

    fn hear_each_other(all: &[Throttle]) {
        let told: Vec<Vec<String>> = all.iter().map(Throttle::tell).collect();
        for throttle in all {
            told.iter().flatten().for_each(|text| throttle.hear(text));
        }
    }

    #[test]
    fn what_is_taken_at_one_is_missing_at_others_once_it_is_told() {
        let all = [0, 1, 2].map(|_| Throttle::shared(b"key").expect("a throttle"));
        let limits = of("address: 30 failed logins/h");
        let wrong = |one: &Throttle| one.attempt(&limits, Some(ANN), "ann").map(drop).is_ok();
        for _ in 0..10 {
            assert!(all.iter().all(wrong));
        }
        hear_each_other(&all);
        assert!(!all.iter().any(wrong), "thirty were wrong, wherever");
        let mut another = Throttle::shared(b"other key").expect("a throttle");
        all.iter().flat_map(Throttle::tell).for_each(|text| another.hear(&text));
        assert!(wrong(&another), "what is called otherwise is something else");
        another = Throttle::default();
        assert!(another.tell().is_empty());
    }

    #[test]
    fn what_was_right_is_given_back_and_what_makes_no_sense_is_nothing() {
        let all = [0, 1].map(|_| Throttle::shared(b"key").expect("a throttle"));
        let limits = of("user: 3 failed logins/h");
        let attempt = |one: &Throttle| one.attempt(&limits, None, "ann").map(drop).is_ok();
        for _ in 0..3 {
            let right = all[0].attempt(&limits, None, "ann").expect("room");
            hear_each_other(&all);
            right.was_right();
        }
        hear_each_other(&all);
        assert!((0..3).all(|_| attempt(&all[1])) && !attempt(&all[1]));
        for text in ["", "x", "1 ", "1 :", "1 1:zz,,2:", "zz 1:1", "1 ffffffffffffffffffff:1", "-1 1:1"] {
            all[0].hear(text);
        }
        // whoever writes into the database cannot shut somebody out for years
        let row = all[0].naming.name(Row::Guesses(Whose::User("eve")));
        all[0].hear(&format!("1 {row:x}:{:x}", i64::MAX));
        let ahead = all[0].rows()[&row] - Instant::now();
        assert!(ahead <= limits::COUNTS_MOST, "{ahead:?}");
    }

    #[test]
    fn messages_are_as_long_as_a_database_takes() {
        let throttle = Throttle::shared(b"key").expect("a throttle");
        let taken = throttle.taken.as_ref().expect("one of replicas");
        for row in 0..limits::COUNTS_TOLD as u64 + 10 {
            taken.note(u64::MAX - row, i64::MIN + 1);
        }
        let told = throttle.tell();
        assert!(told.iter().all(|text| text.len() < 7900), "a notification has at most 8000 bytes");
        assert_eq!(told.iter().flat_map(|text| text.matches(':')).count(), limits::COUNTS_TOLD);
    }
}
