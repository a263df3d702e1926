//! The accept loop: axum's own has neither a cap on connections nor a time for what they do.

use super::{
    call::Shared,
    connection::{Place, Places},
    dispatch,
};
use crate::limits;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Accepts until `stop` turns true, then waits for what is under way.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let places = Places::new(shared.budgets);
    let router = dispatch::router(Arc::clone(&shared));
    let graceful = GracefulShutdown::new();
    let builder = builder(&shared);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let connection = Arc::clone(&place.connection);
        let service =
            TowerToHyperService::new(router.clone().layer(axum::Extension(Arc::clone(&connection))));
        let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let served = graceful.watch(served);
        tokio::spawn(async move {
            tokio::select! {
                // a connection that breaks is its client's affair
                _ = served => {}
                () = connection.expired() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    // those who do not finish in time are cut off
    let _ = tokio::time::timeout(limits::STOP_TIME, graceful.shutdown()).await;
}

fn builder(shared: &Shared) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.budgets.idle)
        .max_buf_size(limits::HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .initial_stream_window_size(limits::AHEAD_BYTES)
        .initial_connection_window_size(limits::AHEAD_BYTES * 2)
        .max_send_buf_size(limits::AHEAD_BYTES as usize)
        .max_header_list_size(limits::HEAD_BYTES as u32);
    builder
}

async fn accept(listener: &TcpListener, places: &Arc<Places>) -> Option<(TcpStream, Place)> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // without it a small reply waits 40 ms for the peer's delayed acknowledgement
            stream.set_nodelay(true).ok()?;
            Some((stream, places.take().await))
        }
        Err(_) => {
            // out of file descriptors, mostly: accepting again at once would spin
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
