//! Rounds of the scrub: each reads everything that is pointed at once, over days and restarts.
//!
//! How far a round is lies beside the content (`scrub`, JSON), or with the lease of the replica that has it, so that whatever process
//! comes next goes on from there. One at a time has the turn.

use super::{Examined, Pace, Storage, StorageError, Turn, Work, now_seconds};
use crate::limits;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How far a round is. A field that an older version lacks has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// When it began, in seconds since 1970.
    pub begun: i64,
    /// When it ended, where it has.
    pub ended: Option<i64>,
    /// The last content that was read, in the order of text.
    pub last: String,
    /// How much was read.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them were damaged or missing.
    pub damaged: u64,
}

impl Round {
    /// Whether the next one is due: one that has not ended goes on at once.
    fn is_due(&self, every: Duration, now: i64) -> bool {
        let next = self.begun.saturating_add(i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
        // a clock that was set back must not end it for years
        self.ended.is_none() || next <= now || self.begun > now
    }
}

/// A page of a round.
#[derive(Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// There may be more.
    On(Round),
    /// The round is over.
    Ended(Round),
    /// No round is due, or another process has it.
    Idle,
}

/// A round under way. While this lives no other process goes on with it.
pub struct Scrubbing {
    round: Round,
    turn: Turn,
}

impl Storage {
    /// How far the round is, or the last one was.
    pub fn round(&self) -> Result<Round, StorageError> {
        let text = self.work_note(Work::Scrub)?;
        // one that cannot be read begins anew
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Takes up the round, or begins the next one, if that is due `every` so often and nobody else has it.
    pub fn begin_scrub(&self, every: Duration) -> Result<Option<Scrubbing>, StorageError> {
        let now = now_seconds();
        if !self.round()?.is_due(every, now) {
            return Ok(None);
        }
        let Some(turn) = self.only_turn(Work::Scrub)? else { return Ok(None) };
        // another one may have ended it since
        let mut round = self.round()?;
        if !round.is_due(every, now) {
            return Ok(None);
        }
        if round.ended.is_some() || round.begun == 0 {
            round = Round { begun: now, ..Round::default() };
        }
        Ok(Some(Scrubbing { round, turn }))
    }

    /// Goes on with a round until it is over, or until `until`, which never comes within one content: a large one would never be
    /// read to its end. `pace` may end it at any time. `failed` is told of content that could not be looked at.
    pub fn scrub(
        &self,
        scrubbing: &mut Scrubbing,
        until: Instant,
        pace: &mut Pace<'_>,
        failed: &dyn Fn(&StorageError),
    ) -> Result<Scrubbed, StorageError> {
        let Scrubbing { round, turn } = scrubbing;
        loop {
            if !turn.holds() {
                return Ok(Scrubbed::Idle);
            }
            let page = self.contents(&round.last, limits::SCRUB_PAGE)?;
            if page.is_empty() {
                round.ended = Some(now_seconds());
                return self.keep_round(round, turn, Scrubbed::Ended);
            }
            for (digest, size_bytes) in page {
                match self.examine(&digest, size_bytes, pace) {
                    Ok(Examined::Stopped) => {
                        return self.keep_round(round, turn, Scrubbed::On);
                    }
                    Ok(Examined::Whole) => {}
                    Ok(Examined::Faulty(fault)) => match self.quarantine(&digest, size_bytes, fault) {
                        Ok(damage) => round.damaged += u64::from(damage.is_some()),
                        Err(error) => failed(&error),
                    },
                    Err(error) => failed(&error),
                }
                round.last = digest.to_string();
                round.contents += 1;
                round.bytes += size_bytes;
                // many small ones cost more than their bytes
                if !pace(limits::SCRUB_CONTENT_BYTES) || Instant::now() >= until {
                    return self.keep_round(round, turn, Scrubbed::On);
                }
            }
            if self.keep_round(round, turn, Scrubbed::On)? == Scrubbed::Idle {
                return Ok(Scrubbed::Idle);
            }
        }
    }

    /// Writes down how far the round is; what a former holder of the turn has to say is not.
    fn keep_round(
        &self,
        round: &Round,
        turn: &Turn,
        is: impl FnOnce(Round) -> Scrubbed,
    ) -> Result<Scrubbed, StorageError> {
        let text = serde_json::to_string(round).expect("numbers and a text are JSON");
        match self.set_work_note(turn, Work::Scrub, &text) {
            Ok(false) => return Ok(Scrubbed::Idle),
            // on a full disk it is only not remembered
            Err(error) if !error.is_full() => return Err(error),
            Ok(true) | Err(_) => {}
        }
        Ok(is(round.clone()))
    }

    /// A whole round without pauses, for who waits for it.
    #[cfg(test)]
    pub(crate) fn scrub_now(&self) -> Round {
        let mut scrubbing = self.begin_scrub(Duration::ZERO).expect("a turn").expect("it is due");
        let until = Instant::now() + Duration::from_secs(600);
        let failed = |error: &StorageError| panic!("{error}");
        match self.scrub(&mut scrubbing, until, &mut |_| true, &failed).expect("a round") {
            Scrubbed::Ended(round) => round,
            other => panic!("{other:?}"),
        }
    }
}
