//! What commands are made of: neither arguments nor printing.

pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod password;
