//! One table of two databases, made equal.

use super::contents::Contents;
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::rows::{Cell, Row, Rows, Table, text_bytes},
    },
};
use std::{cmp::Ordering, vec};

/// Rows of one side in the order of their keys, page by page.
struct Cursor<'a> {
    rows: &'a dyn Rows,
    table: &'a Table,
    page: vec::IntoIter<Row>,
    /// The key of the page's last row.
    last: Option<Vec<Cell>>,
    next: Option<Row>,
    is_over: bool,
}

impl<'a> Cursor<'a> {
    fn new(rows: &'a dyn Rows, table: &'a Table) -> Result<Cursor<'a>, StorageError> {
        let mut cursor =
            Cursor { rows, table, page: Vec::new().into_iter(), last: None, next: None, is_over: false };
        cursor.step()?;
        Ok(cursor)
    }

    fn step(&mut self) -> Result<(), StorageError> {
        self.next = self.page.next();
        if self.next.is_none() && !self.is_over {
            let page = self.rows.page(self.table, self.last.as_deref(), limits::MOVE_PAGE)?;
            self.is_over = page.is_empty();
            self.last = page.last().map(|row| self.table.key(row).to_vec());
            self.page = page.into_iter();
            self.next = self.page.next();
        }
        Ok(())
    }
}

/// What is to be changed, until it is enough for a transaction.
struct Batch<'a> {
    to: &'a dyn Rows,
    table: &'a Table,
    contents: &'a Contents<'a>,
    is_last: bool,
    put: Vec<Row>,
    gone: Vec<Row>,
    /// Of the texts in both.
    bytes: usize,
    changed: u64,
}

impl Batch<'_> {
    fn is_full(&self) -> bool {
        (self.put.len() + self.gone.len()) as u64 >= limits::MOVE_PAGE || self.bytes >= limits::MOVE_BYTES
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.bytes = 0;
        let (mut put, gone) = (std::mem::take(&mut self.put), std::mem::take(&mut self.gone));
        self.changed += (put.len() + gone.len()) as u64;
        if let Some(column) = self.table.content {
            // content first: a row without its bytes waits for the next round, when it may be gone
            let wanted: Vec<&Cell> = put.iter().map(|row| &row[column]).collect();
            let sizes = size_column(self.table);
            let wanted = wanted.into_iter().zip(put.iter().map(|row| &row[sizes])).collect::<Vec<_>>();
            let there = self.contents.bring(&wanted, self.is_last)?;
            let mut there = there.into_iter();
            put.retain(|_| there.next().unwrap_or(false));
        }
        self.to.change(self.table, put, gone)
    }
}

fn size_column(table: &Table) -> usize {
    table.columns.iter().position(|(name, _)| *name == "size").expect("what points at content has its size")
}

/// Makes the table of `to` what that of `from` is. Answers how many rows differed.
pub(super) fn sync(
    from: &dyn Rows,
    to: &dyn Rows,
    table: &Table,
    contents: &Contents<'_>,
    is_last: bool,
) -> Result<u64, StorageError> {
    let (mut source, mut target) = (Cursor::new(from, table)?, Cursor::new(to, table)?);
    let mut batch =
        Batch { to, table, contents, is_last, put: Vec::new(), gone: Vec::new(), bytes: 0, changed: 0 };
    loop {
        let order = match (&source.next, &target.next) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => table.key(one).cmp(table.key(other)),
        };
        let differs = order != Ordering::Equal || source.next != target.next;
        let changed = if order == Ordering::Greater { &target.next } else { &source.next };
        if let Some(row) = changed.as_ref().filter(|_| differs) {
            batch.bytes += text_bytes(row);
            if order == Ordering::Greater { &mut batch.gone } else { &mut batch.put }.push(row.clone());
        }
        if order != Ordering::Greater {
            source.step()?;
        }
        if order != Ordering::Less {
            target.step()?;
        }
        if batch.is_full() {
            batch.write()?;
        }
    }
    if !batch.put.is_empty() || !batch.gone.is_empty() {
        batch.write()?;
    }
    Ok(batch.changed)
}
