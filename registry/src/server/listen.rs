//! The accept loop: axum's own has neither a cap on connections nor a timeout for a request's head.

use crate::limits;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

/// Accepts until `stop` turns true, then waits for what is under way.
pub(super) async fn run(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::HEADER_TIME);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // a connection that breaks is its client's affair
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    // those who do not finish in time are cut off
    let _ = tokio::time::timeout(limits::STOP_TIME, graceful.shutdown()).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => {
            // without it a small reply waits 40 ms for the peer's delayed acknowledgement
            stream.set_nodelay(true).ok()?;
            Some((stream, place))
        }
        Err(_) => {
            // out of file descriptors, mostly: accepting again at once would spin
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
