//! A connection, and how long its answers are waited for.
//!
//! A server bounds its statements by itself, while it runs. One that stands still, or a way to it that takes bytes and carries none,
//! answers nothing at all: whoever waits gives up a little later than the server would have, and the connection is of no use any more.

use super::address::{AddressError, DatabaseAddress};
use crate::server::storage::StorageError;
use postgres::{
    AsyncMessage, Client, Connection, Error, Notification,
    tls::{MakeTlsConnect, TlsConnect},
};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, Runtime},
    time::timeout,
};

/// Carries what is written and what comes; `None` once the server is gone.
type Driver = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send>;

/// A connection that one thread asks at a time.
pub(super) struct Line {
    client: Client,
    driver: Driver,
    heard: VecDeque<Notification>,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
    /// `None` once it ends.
    runtime: Option<Runtime>,
}

impl Drop for Line {
    fn drop(&mut self) {
        // an ordinary end waits, which a thread that serves connections must not
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Line {
    /// Makes a connection, which is waited for as long as each answer.
    pub(super) fn open(address: &DatabaseAddress, patience: Duration) -> Result<Line, StorageError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StorageError::Io {
            operation: "wait for",
            path: address.to_string().into(),
            source,
        })?;
        let connected = runtime.block_on(async { timeout(patience, address.connect()).await });
        let (client, driver) = match connected {
            Ok(connected) => connected.map_err(|error| match error {
                AddressError::Postgres(error) => StorageError::Away(error),
                AddressError::Tls(error) => StorageError::DatabaseTls(error),
                AddressError::Name(error) => StorageError::DatabaseName(error),
            })?,
            Err(_) => {
                runtime.shutdown_background();
                return Err(StorageError::Silent);
            }
        };
        Ok(Line { client, driver, heard: VecDeque::new(), patience, runtime: Some(runtime) })
    }

    /// Asks something. After [`StorageError::Silent`] nothing more may be asked.
    pub(super) fn ask<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        let Line { client, driver, heard, patience, runtime } = self;
        let mut asked = pin!(work(client));
        let answered = poll_fn(|context| {
            if let Poll::Ready(Err(error)) = carry(driver, heard, context) {
                return Poll::Ready(Err(error));
            }
            asked.as_mut().poll(context)
        });
        let runtime = runtime.as_ref().expect("it ends with its owner");
        match runtime.block_on(async { timeout(*patience, answered).await }) {
            Ok(answered) => Ok(answered?),
            Err(_) => Err(StorageError::Silent),
        }
    }

    /// The next notification, waited for as long as `time`; without any only what has come by now. An error once the server is gone.
    pub(super) fn hear(&mut self, time: Duration) -> Result<Option<Notification>, StorageError> {
        let Line { driver, heard, runtime, .. } = self;
        let came = poll_fn(|context| {
            let carried = carry(driver, heard, context);
            match (heard.pop_front(), carried) {
                (Some(notification), _) => Poll::Ready(Ok(notification)),
                (None, Poll::Ready(gone)) => Poll::Ready(Err(gone)),
                (None, Poll::Pending) => Poll::Pending,
            }
        });
        let runtime = runtime.as_ref().expect("it ends with its owner");
        match runtime.block_on(async { timeout(time, came).await }) {
            Ok(Ok(notification)) => Ok(Some(notification)),
            Ok(Err(Err(error))) => Err(error.into()),
            Ok(Err(Ok(()))) => Err(StorageError::Silent),
            Err(_) => Ok(None),
        }
    }
}

/// Carries as much as there is; ready once the server is gone.
fn carry(
    driver: &mut Driver,
    heard: &mut VecDeque<Notification>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    loop {
        match driver(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => heard.push_back(notification),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// A connection in two halves.
pub(super) type Halves = (Client, Driver);

/// Connects, with TLS or without.
pub(super) async fn halves<T>(config: &postgres::Config, tls: T) -> Result<Halves, Error>
where
    T: MakeTlsConnect<postgres::Socket>,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<postgres::Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await?;
    Ok((client, driver(connection)))
}

fn driver<S, T>(mut connection: Connection<S, T>) -> Driver
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::new(move |context| connection.poll_message(context))
}
