//! `syscalls.tbl`: names, rules and numbers.

use std::sync::OnceLock;

/// The machines with a column, in the file's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

/// One system call.
#[derive(Debug)]
pub(super) struct Row {
    /// The kernel's name.
    pub(super) name: &'static str,
    /// What the profile says, as the file's head explains.
    pub(super) rule: &'static str,
    numbers: [Option<u32>; 4],
}

impl Row {
    /// The call's number on a machine that has it.
    pub(super) fn number(&self, machine: Machine) -> Option<u32> {
        self.numbers[machine as usize]
    }
}

/// The rows, read once.
pub(super) fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| include_str!("syscalls.tbl").lines().filter_map(row).collect())
}

fn row(line: &'static str) -> Option<Row> {
    let mut fields = line.split(' ');
    let name = fields.next().filter(|name| !name.starts_with('#'))?;
    let rule = fields.next()?;
    let mut number = || fields.next().and_then(|text| text.parse().ok());
    Some(Row { name, rule, numbers: [number(), number(), number(), number()] })
}
