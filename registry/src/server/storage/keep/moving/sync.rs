//! One table of two databases, made equal.

use super::contents::Contents;
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::rows::{Cell, Row, Rows, Table},
    },
};
use std::{cmp::Ordering, vec};

/// Rows of one side in the order of their keys, page by page.
struct Cursor<'a> {
    rows: &'a dyn Rows,
    table: &'a Table,
    page: vec::IntoIter<Row>,
    last: Option<Row>,
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
            let after = self.last.as_ref().map(|row| self.table.key(row));
            let page = self.rows.page(self.table, after, limits::MOVE_PAGE)?;
            self.is_over = (page.len() as u64) < limits::MOVE_PAGE;
            self.last = page.last().cloned().or(self.last.take());
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
    changed: u64,
}

impl Batch<'_> {
    fn write(&mut self, least: u64) -> Result<(), StorageError> {
        if ((self.put.len() + self.gone.len()) as u64) < least.max(1) {
            return Ok(());
        }
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
    let mut batch = Batch { to, table, contents, is_last, put: Vec::new(), gone: Vec::new(), changed: 0 };
    loop {
        let order = match (&source.next, &target.next) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => table.key(one).cmp(table.key(other)),
        };
        if order == Ordering::Equal && source.next != target.next || order == Ordering::Less {
            batch.put.extend(source.next.clone());
        }
        if order == Ordering::Greater {
            batch.gone.extend(target.next.clone());
        }
        if order != Ordering::Greater {
            source.step()?;
        }
        if order != Ordering::Less {
            target.step()?;
        }
        batch.write(limits::MOVE_PAGE)?;
    }
    batch.write(1)?;
    Ok(batch.changed)
}
