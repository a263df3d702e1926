//! From answers to instructions (seccomp(2); Documentation/userspace-api/seccomp_filter.rst).
//!
//! ```text
//! load arch; for each machine: if it is this one, its section; else kill
//! section:   load nr; above the last known -> ENOSYS; search tree over ranges; leaves: return, or a condition's block
//! ```

use super::Instruction;
use super::custom::{Comparison, Condition, Rule};
use super::profile::{Answer, MachineRules, Plain};

/// Opcodes of linux/bpf_common.h, put together.
mod code {
    /// `BPF_LD | BPF_W | BPF_ABS`
    pub(super) const LOAD: u16 = 0x20;
    /// `BPF_JMP | BPF_JA`
    pub(super) const JUMP: u16 = 0x05;
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    pub(super) const EQUAL: u16 = 0x15;
    /// `BPF_JMP | BPF_JGE | BPF_K`
    pub(super) const AT_LEAST: u16 = 0x35;
    /// `BPF_JMP | BPF_JGT | BPF_K`
    pub(super) const MORE: u16 = 0x25;
    /// `BPF_ALU | BPF_AND | BPF_K`
    pub(super) const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JSET | BPF_K`
    pub(super) const ANY_BIT: u16 = 0x45;
    /// `BPF_RET | BPF_K`
    pub(super) const RETURN: u16 = 0x06;
}

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_*` (linux/seccomp.h).
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_USER_NOTIF: u32 = 0x7FC0_0000;
const RETURN_ALLOW: u32 = 0x7FFF_0000;

/// `__X32_SYSCALL_BIT` (asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

/// A half-open range up to the next one's start, with its answer.
struct Range<'a> {
    start: u32,
    answer: &'a Answer,
}

/// The most instructions of one program (`BPF_MAXINSNS`, linux/bpf_common.h).
pub(super) const PROGRAM_INSTRUCTIONS: usize = 4096;
/// The most of all programs of a process (`MAX_INSNS_PER_PATH`, kernel/seccomp.c).
pub(crate) const ALL_INSTRUCTIONS: usize = 32_768;

/// Rules that the kernel takes in no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// How many instructions they are.
    pub instructions: usize,
    /// How many it takes.
    pub most: usize,
}

/// The numbers of system calls that a program answers for; to all others it says yes.
#[derive(Clone, Copy)]
struct Window {
    from: u32,
    /// The first one beyond, if there is one.
    to: Option<u32>,
}

impl Window {
    fn has(self, number: u32) -> bool {
        self.from <= number && self.to.is_none_or(|to| number < to)
    }
}

/// The programs that together are the whole: one where it is short enough. Of several programs the kernel takes the most
/// restrictive answer (seccomp(2)), and since each number is answered by one and allowed by the others, that is the answer
/// of the one. The last one answers for `last`, the call that installs them. Only the first has a listener, as the kernel
/// allows.
pub(super) fn programs(machines: &[MachineRules], last: u32) -> Result<Vec<Vec<Instruction>>, TooLong> {
    let whole = program(machines);
    if whole.len() <= PROGRAM_INSTRUCTIONS {
        return Ok(vec![whole]);
    }
    let (listening, others) = without_listener(machines);
    let mut parts = Vec::new();
    split(&others, Window { from: 0, to: None }, &mut parts)?;
    // stable: only the one that answers for the call moves
    parts.sort_by_key(|(window, _)| window.has(last));
    let programs: Vec<_> = listening.into_iter().chain(parts.into_iter().map(|(_, code)| code)).collect();
    match programs.iter().map(Vec::len).sum() {
        instructions if instructions > ALL_INSTRUCTIONS => {
            Err(TooLong { instructions, most: ALL_INSTRUCTIONS })
        }
        _ => Ok(programs),
    }
}

/// What is left to a listener as a program of its own, if there is any, and the rest without it.
fn without_listener(machines: &[MachineRules]) -> (Option<Vec<Instruction>>, Vec<MachineRules>) {
    let part = |is_first: bool| -> Vec<MachineRules> {
        let answer = |answer: &Answer| match (answer, is_first) {
            (Answer::Listener, true) => Answer::Listener,
            (Answer::Listener, false) | (_, true) => Answer::Allow,
            (answer, false) => answer.clone(),
        };
        let machine = |machine: &MachineRules| MachineRules {
            audit: machine.audit,
            answers: machine.answers.iter().map(|(number, found)| (*number, answer(found))).collect(),
            newer: if is_first { RETURN_ALLOW } else { machine.newer },
        };
        machines.iter().map(machine).collect()
    };
    let listens =
        machines.iter().flat_map(|machine| &machine.answers).any(|(_, found)| *found == Answer::Listener);
    (listens.then(|| program(&part(true))), part(false))
}

/// Halves the numbers until each part is short enough.
fn split(
    machines: &[MachineRules],
    window: Window,
    parts: &mut Vec<(Window, Vec<Instruction>)>,
) -> Result<(), TooLong> {
    let code = program_within(machines, window);
    if code.len() <= PROGRAM_INSTRUCTIONS {
        parts.push((window, code));
        return Ok(());
    }
    let numbers = machines.iter().flat_map(|machine| &machine.answers).map(|(number, _)| *number);
    let mut numbers: Vec<u32> = numbers.filter(|number| window.has(*number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() < 2 {
        return Err(TooLong { instructions: code.len(), most: PROGRAM_INSTRUCTIONS });
    }
    let middle = numbers[numbers.len() / 2];
    split(machines, Window { to: Some(middle), ..window }, parts)?;
    split(machines, Window { from: middle, ..window }, parts)
}

/// The program that answers for some numbers.
fn program_within(machines: &[MachineRules], window: Window) -> Vec<Instruction> {
    let within = |machine: &MachineRules| {
        let (from, to) = (window.from, window.to);
        let below = (from > 0).then_some((0, Answer::Allow));
        let inside = machine.answers.iter().filter(|(number, _)| window.has(*number)).cloned();
        let above = to.map(|to| (to, Answer::Allow));
        let newer = if to.is_some() { RETURN_ALLOW } else { machine.newer };
        MachineRules {
            audit: machine.audit,
            answers: below.into_iter().chain(inside).chain(above).collect(),
            newer,
        }
    };
    let machines: Vec<_> = machines.iter().map(within).collect();
    whole(&machines, window.to.is_none())
}

/// The whole program.
pub(super) fn program(machines: &[MachineRules]) -> Vec<Instruction> {
    whole(machines, true)
}

/// With `answers_x32` it refuses the numbers of x32.
fn whole(machines: &[MachineRules], answers_x32: bool) -> Vec<Instruction> {
    let mut code = vec![statement(code::LOAD, OFFSET_ARCHITECTURE)];
    for machine in machines {
        let section = section(&machine.answers, machine.newer, answers_x32);
        code.push(jump(code::EQUAL, machine.audit, 1, 0));
        code.push(statement(code::JUMP, section.len() as u32));
        code.extend(section);
    }
    code.push(statement(code::RETURN, RETURN_KILL_PROCESS));
    code
}

fn section(answers: &[(u32, Answer)], newer: u32, answers_x32: bool) -> Vec<Instruction> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (number, answer) in answers {
        // Numbers that the kernel does not have go to the range below them: it answers ENOSYS by itself.
        if ranges.last().is_none_or(|range| range.answer != answer || is_conditional(answer)) {
            let start = if ranges.is_empty() { 0 } else { *number };
            ranges.push(Range { start, answer });
        }
    }
    let newer = Answer::Return(newer);
    // numbers of x32 have this bit, on a machine that is called the same
    let x32 = if answers_x32 { Answer::Errno(libc::ENOSYS as u16) } else { Answer::Allow };
    if let Some((last, _)) = answers.last() {
        ranges.push(Range { start: last + 1, answer: &newer });
        ranges.push(Range { start: X32_BIT, answer: &x32 });
    }
    let mut code = vec![statement(code::LOAD, OFFSET_NUMBER)];
    code.extend(tree(&ranges));
    code
}

/// A range with a condition must not grow over numbers that do not exist: it would cost, and say nothing true.
fn is_conditional(answer: &Answer) -> bool {
    matches!(answer, Answer::OneOf { .. } | Answer::AnyBit { .. } | Answer::Rules { .. })
}

/// Halves the ranges until one is left.
fn tree(ranges: &[Range<'_>]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [range] => leaf(range.answer),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (low, start) = (tree(low), high[0].start);
            let mut code = match u8::try_from(low.len()) {
                Ok(distance) => vec![jump(code::AT_LEAST, start, distance, 0)],
                // Conditional jumps reach 255 instructions, unconditional ones any.
                Err(_) => vec![jump(code::AT_LEAST, start, 0, 1), statement(code::JUMP, low.len() as u32)],
            };
            code.extend(low);
            code.extend(tree(high));
            code
        }
    }
}

fn leaf(answer: &Answer) -> Vec<Instruction> {
    match answer {
        Answer::Allow => vec![plain(Plain::Allow)],
        Answer::Errno(errno) => vec![plain(Plain::Errno(*errno))],
        Answer::Return(bits) => vec![statement(code::RETURN, *bits)],
        Answer::Rules { rules, otherwise } => {
            let mut code: Vec<_> = rules.iter().flat_map(rule).collect();
            code.push(statement(code::RETURN, *otherwise));
            code
        }
        Answer::Listener => vec![statement(code::RETURN, RETURN_USER_NOTIF)],
        Answer::AnyBit { argument, bits, then, otherwise } => {
            vec![load_argument(*argument), jump(code::ANY_BIT, *bits, 0, 1), plain(*then), plain(*otherwise)]
        }
        Answer::OneOf { argument, values, then, otherwise } => {
            let runs = runs(values);
            let mut code = vec![load_argument(*argument)];
            for (first, last) in runs {
                if first == last {
                    code.extend([jump(code::EQUAL, first, 0, 1), plain(*then)]);
                } else {
                    let past = jump(code::AT_LEAST, last + 1, 1, 0);
                    code.extend([jump(code::AT_LEAST, first, 0, 2), past, plain(*then)]);
                }
            }
            code.push(plain(*otherwise));
            code
        }
    }
}

/// Where a comparison leads: on, to the end of its condition, or out of its rule.
#[derive(Clone, Copy, PartialEq)]
enum To {
    Next,
    Holds,
    Fails,
}

/// A rule's conditions one after the other, and its answer. Both halves of an argument are looked at, the high one first;
/// a rule of six conditions has some forty instructions, which conditional jumps reach.
fn rule(rule: &Rule) -> Vec<Instruction> {
    let conditions: Vec<Vec<(Instruction, To, To)>> = rule.conditions.iter().map(condition).collect();
    let total: usize = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for steps in conditions {
        let end = code.len() + steps.len();
        for (mut step, if_true, if_false) in steps {
            let here = code.len() + 1;
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => (end - here) as u8,
                To::Fails => (total - here) as u8,
            };
            (step.jump_true, step.jump_false) = (distance(if_true), distance(if_false));
            code.push(step);
        }
    }
    code.push(statement(code::RETURN, rule.answer));
    code
}

fn condition(condition: &Condition) -> Vec<(Instruction, To, To)> {
    use To::{Fails, Holds, Next};
    let half = |value: u64, high: bool| if high { (value >> 32) as u32 } else { value as u32 };
    let load = |high: bool| {
        let offset = OFFSET_ARGUMENTS + 8 * u32::from(condition.argument) + if high { 4 } else { 0 };
        (statement(code::LOAD, offset), Next, Next)
    };
    let compare =
        |code: u16, high: bool, to: (To, To)| (jump(code, half(condition.value, high), 0, 0), to.0, to.1);
    // what the high halves say where they differ, and the comparison of the low ones
    let ordered = |greater: To, less: To, code: u16, low: (To, To)| {
        vec![
            load(true),
            compare(code::MORE, true, (greater, Next)),
            compare(code::EQUAL, true, (Next, less)),
            load(false),
            compare(code, false, low),
        ]
    };
    let both = |if_high: (To, To), if_low: (To, To)| {
        let equal = |high, to| compare(code::EQUAL, high, to);
        vec![load(true), equal(true, if_high), load(false), equal(false, if_low)]
    };
    match condition.comparison {
        Comparison::Equal => both((Next, Fails), (Holds, Fails)),
        Comparison::NotEqual => both((Next, Holds), (Fails, Holds)),
        Comparison::Greater => ordered(Holds, Fails, code::MORE, (Holds, Fails)),
        Comparison::AtLeast => ordered(Holds, Fails, code::AT_LEAST, (Holds, Fails)),
        Comparison::Less => ordered(Fails, Holds, code::AT_LEAST, (Fails, Holds)),
        Comparison::AtMost => ordered(Fails, Holds, code::MORE, (Fails, Holds)),
        Comparison::Masked => [true, false]
            .into_iter()
            .flat_map(|high| {
                let mask = statement(code::AND, half(condition.value, high));
                let equal = jump(code::EQUAL, half(condition.second, high), 0, 0);
                let then = if high { Next } else { Holds };
                [load(high), (mask, Next, Next), (equal, then, Fails)]
            })
            .collect(),
    }
}

/// Ascending values as runs of consecutive ones.
fn runs(values: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*value) => *last = *value,
            _ => runs.push((*value, *value)),
        }
    }
    runs
}

/// Loads an argument's low half; both machines are little-endian.
fn load_argument(argument: u8) -> Instruction {
    statement(code::LOAD, OFFSET_ARGUMENTS + 8 * u32::from(argument))
}

fn plain(answer: Plain) -> Instruction {
    let value = match answer {
        Plain::Allow => RETURN_ALLOW,
        Plain::Errno(errno) => RETURN_ERRNO | u32::from(errno),
    };
    statement(code::RETURN, value)
}

fn statement(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}
