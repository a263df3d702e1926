//! Bytes from the network into the blob folder: hashed and written off the async threads, one piece while the next
//! one arrives.

use super::error::ClientError;
use crate::limits;
use reqwest::Response;
use slipway_oci::{
    Pool, Pooled,
    blobs::{BlobError, BlobWriter},
};
use std::{io::Write, path::PathBuf};
use tokio::task::JoinHandle;

/// A blob that is being received. Survives broken connections.
pub(super) struct Sink {
    /// `None` only after a failed write, which ends the transfer.
    writing: Option<JoinHandle<Result<BlobWriter, BlobError>>>,
    gathered: Pooled,
    pool: Pool,
    received: u64,
}

impl Sink {
    pub(super) fn new(writer: BlobWriter) -> Sink {
        Sink {
            writing: Some(tokio::task::spawn_blocking(move || Ok(writer))),
            gathered: Pooled::default(),
            pool: Pool::default(),
            received: 0,
        }
    }

    /// How many bytes were taken.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes bytes in.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.gathered.extend_from_slice(bytes);
        self.received += bytes.len() as u64;
        if self.gathered.len() >= limits::PIECE_BYTES { self.write_out().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), ClientError> {
        let mut writer = self.writer().await?;
        let bytes = std::mem::replace(&mut self.gathered, self.pool.take(limits::PIECE_BYTES));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            writer.write_all(&bytes).map_err(|source| BlobError::Io {
                operation: "write",
                path: PathBuf::from("a temporary blob"),
                source,
            })?;
            Ok(writer)
        }));
        Ok(())
    }

    async fn writer(&mut self) -> Result<BlobWriter, ClientError> {
        let writing = self.writing.take().expect("a sink whose write failed is not used again");
        Ok(writing.await??)
    }

    /// The writer with all bytes in it.
    pub(super) async fn finish(mut self) -> Result<BlobWriter, ClientError> {
        self.write_out().await?;
        self.writer().await
    }
}

/// The next piece of a reply's body.
pub(super) async fn next(
    host: &str,
    response: &mut Response,
) -> Result<Option<impl AsRef<[u8]> + use<>>, ClientError> {
    let broken = |source| ClientError::Interrupted { host: host.to_owned(), source: Some(source) };
    response.chunk().await.map_err(broken)
}
