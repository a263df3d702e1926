//! Whether what several clients did to one tag, and were told, can be told as one story: an order of all acts, each between its
//! begin and its end, in which every answer is right (Herlihy and Wing 1990; the search is Wing and Gong's, with what was tried
//! remembered).
//!
//! Whoever got no answer does not know: what it began has happened at any moment since, or never.

use std::collections::HashSet;

/// What somebody did to a tag, and was told. Values are manifests; each is written by one act alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Looked where it points: nowhere, or at a manifest.
    Read(Option<u32>),
    /// Set it, whatever was there.
    Write(u32),
    /// Set it from the first to the second (`If-Match`); whether that was done.
    Move(u32, u32, bool),
    /// Removed it; whether it was there.
    Delete(bool),
}

/// An act in time, in whatever unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Before this it has not happened.
    pub(super) begun: u64,
    /// After this it has happened; `None` where no answer came.
    pub(super) ended: Option<u64>,
    /// What was done.
    pub(super) act: Act,
}

/// Where the tag points after an act that an answer tells of; `None` where that answer is wrong there.
fn told(state: Option<u32>, act: &Act) -> Option<Option<u32>> {
    match act {
        Act::Read(seen) => (*seen == state).then_some(state),
        Act::Write(to) => Some(Some(*to)),
        Act::Move(from, to, true) => (state == Some(*from)).then_some(Some(*to)),
        Act::Move(from, _, false) => (state != Some(*from)).then_some(state),
        Act::Delete(was) => (state.is_some() == *was).then_some(None),
    }
}

/// The same for one that no answer came to, and that changed something: otherwise it may as well not have happened.
fn untold(state: Option<u32>, act: &Act) -> Option<Option<u32>> {
    match act {
        Act::Read(_) => None,
        Act::Write(to) => Some(Some(*to)),
        Act::Move(from, to, _) => (state == Some(*from)).then_some(Some(*to)),
        Act::Delete(_) => state.is_some().then_some(None),
    }
}

/// Most acts without an answer that are told before one that only they explain.
const CHAIN: usize = 3;

/// A part of the story: which acts it has told, and where the tag points after them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Story {
    done: Vec<u64>,
    state: Option<u32>,
}

impl Story {
    fn has(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize, state: Option<u32>) -> Story {
        let mut done = self.done.clone();
        done[at / 64] |= 1 << (at % 64);
        Story { done, state }
    }
}

/// Whether there is such a story of a tag that points at `begin` at first. The error is the acts, in the order of their begins.
///
/// An act without an answer is told right before one that is wrong without it, and never else: told before another one it
/// changes nothing that shows, or may as well be told after that.
pub(super) fn is_linear(begin: Option<u32>, events: &[Event]) -> Result<(), String> {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.begun);
    let mut tried: HashSet<Story> = HashSet::new();
    let mut open = vec![Story { done: vec![0; events.len().div_ceil(64)], state: begin }];
    let mut farthest = 0;
    while let Some(story) = open.pop() {
        let left = |at: &usize| !story.has(*at) && events[*at].ended.is_some();
        let bound = (0..events.len()).filter(left).filter_map(|at| events[at].ended).min();
        let Some(bound) = bound else { return Ok(()) };
        farthest = farthest.max(story.done.iter().map(|word| word.count_ones()).sum());
        // what is next began before the first of the others ended; the earliest is tried first, so pushed last
        let next: Vec<usize> =
            (0..events.len()).take_while(|at| events[*at].begun <= bound).filter(left).collect();
        for at in next.into_iter().rev() {
            for after in explained(&story, &events, at, bound, CHAIN) {
                if tried.insert(after.clone()) {
                    open.push(after);
                }
            }
        }
    }
    let lines: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
    Err(format!("no order is right beyond {farthest} of {} acts:\n{}", events.len(), lines.join("\n")))
}

/// The stories that go on with an act, where need be after others that nobody was told of.
fn explained(story: &Story, events: &[Event], at: usize, bound: u64, chain: usize) -> Vec<Story> {
    if let Some(state) = told(story.state, &events[at].act) {
        return vec![story.with(at, state)];
    }
    if chain == 0 {
        return Vec::new();
    }
    let unheard = (0..events.len()).take_while(|one| events[*one].begun <= bound);
    let unheard = unheard.filter(|one| !story.has(*one) && events[*one].ended.is_none());
    let before = unheard.filter_map(|one| Some(story.with(one, untold(story.state, &events[one].act)?)));
    before.flat_map(|before| explained(&before, events, at, bound, chain - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(begun: u64, ended: u64, act: Act) -> Event {
        Event { begun, ended: (ended > 0).then_some(ended), act }
    }

    /// `0` as an end is an answer that never came.
    #[test]
    fn stories_are_found_and_lies_are_not_believed() {
        use Act::{Delete, Move, Read, Write};
        for (is_true, events) in [
            (true, vec![event(0, 1, Write(1)), event(2, 3, Read(Some(1)))]),
            // a write that was answered is seen
            (false, vec![event(0, 1, Write(1)), event(2, 3, Read(None))]),
            // while it goes on, either
            (true, vec![event(0, 4, Write(1)), event(1, 2, Read(None)), event(1, 3, Read(Some(1)))]),
            // but never the new one and then the old one
            (false, vec![event(0, 9, Write(1)), event(1, 2, Read(Some(1))), event(3, 4, Read(None))]),
            // of two that moved the same, one won
            (
                false,
                vec![event(0, 1, Write(1)), event(2, 5, Move(1, 2, true)), event(2, 5, Move(1, 3, true))],
            ),
            (
                true,
                vec![event(0, 1, Write(1)), event(2, 5, Move(1, 2, true)), event(2, 5, Move(1, 3, false))],
            ),
            (false, vec![event(0, 1, Write(1)), event(2, 3, Move(1, 2, false))]),
            // one without an answer happened later, or never
            (true, vec![event(0, 0, Write(1)), event(1, 2, Read(None)), event(3, 4, Read(Some(1)))]),
            (true, vec![event(0, 0, Write(1)), event(5, 6, Read(None))]),
            (false, vec![event(5, 0, Write(1)), event(1, 2, Read(Some(1)))]),
            // but once
            (
                false,
                vec![
                    event(0, 0, Write(1)),
                    event(1, 2, Read(Some(1))),
                    event(3, 4, Write(2)),
                    event(5, 6, Read(Some(1))),
                ],
            ),
            (true, vec![event(0, 1, Write(1)), event(2, 3, Delete(true)), event(4, 5, Delete(false))]),
            (false, vec![event(0, 1, Write(1)), event(2, 3, Delete(true)), event(4, 5, Read(Some(1)))]),
            (false, vec![event(0, 1, Delete(true))]),
            // what explains a refusal may be a write that nobody was told of
            (true, vec![event(0, 1, Write(1)), event(2, 0, Write(2)), event(3, 4, Move(1, 3, false))]),
        ] {
            assert_eq!(is_linear(None, &events).is_ok(), is_true, "{events:#?}");
        }
    }

    /// Many at once, and one answer among them that was never true.
    #[test]
    fn one_wrong_answer_among_hundreds_is_found() {
        let mut events = Vec::new();
        for turn in 0..200_u64 {
            let at = turn * 10;
            events.push(event(at, at + 14, Act::Write(turn as u32)));
            events.push(event(at + 15, at + 18, Act::Read(Some(turn as u32))));
            if turn % 10 == 0 {
                events.push(event(at, 0, Act::Write(1000 + turn as u32)));
            }
        }
        // neighbours overlap: the read of one may come before the next one's write
        assert_eq!(is_linear(None, &events), Ok(()));
        let at = events.iter().position(|event| event.act == Act::Read(Some(150))).unwrap();
        events[at].act = Act::Read(Some(120));
        assert!(is_linear(None, &events).is_err());
    }
}
