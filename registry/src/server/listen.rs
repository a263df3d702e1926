//! The accept loops: axum's own has neither a cap on connections nor a time for what they do.

use super::{
    call::Shared,
    connection::{Budgets, Connection, Place, Places},
    direct::{Direct, Outbox, Port},
    dispatch,
    sockets::Socket,
    throttle,
    tls::{self, Tls},
};
use crate::limits;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

/// What every accept loop shares.
struct Loop {
    shared: Arc<Shared>,
    places: Arc<Places>,
    router: axum::Router,
    /// Whether TLS is spoken where it is configured.
    secure: bool,
    graceful: GracefulShutdown,
    builder: auto::Builder<TokioExecutor>,
}

/// Answers on sockets of their own, without TLS, until `stop` turns true: that is after the others have ended.
pub(super) async fn run_beside(
    sockets: Vec<Socket>,
    router: axum::Router,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    let budgets = Budgets { connections: limits::OUTSIDE_CONNECTIONS, ..shared.budgets };
    let all = Loop {
        places: Places::new(budgets),
        router,
        secure: false,
        graceful: GracefulShutdown::new(),
        builder: builder(&shared),
        shared,
    };
    futures_util::future::join_all(sockets.into_iter().map(|socket| all.accept(socket, stop.clone()))).await;
}

/// Accepts on all sockets until `stop` turns true, then waits for what is under way.
pub(super) async fn run(
    sockets: Vec<Socket>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let all = Loop {
        places: Places::new(shared.budgets),
        router: dispatch::router(Arc::clone(&shared)),
        secure: true,
        graceful: GracefulShutdown::new(),
        builder: builder(&shared),
        shared,
    };
    futures_util::future::join_all(sockets.into_iter().map(|socket| all.accept(socket, stop.clone()))).await;
    // those who do not finish in time are cut off
    let _ = tokio::time::timeout(drain, all.graceful.shutdown()).await;
}

impl Loop {
    /// One socket's loop; the socket, and its file, go with its end.
    async fn accept(&self, socket: Socket, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept_one(&socket) => accepted,
                _ = stop.wait_for(|stop| *stop) => {
                    self.shared.draining.store(true, Ordering::Relaxed);
                    break;
                }
            };
            if accepted.is_err() {
                // out of file descriptors, mostly: accepting again at once would spin
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn accept_one(&self, socket: &Socket) -> io::Result<()> {
        match socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let address = Some(throttle::counted(peer.ip()));
                // without it a small reply waits 40 ms for the peer's delayed acknowledgement; a peer that is gone
                // already is no failure of the socket's
                if stream.set_nodelay(true).is_ok() {
                    let tls = self.shared.tls.current().filter(|_| self.secure);
                    let place = self.places.take(tls.is_some(), address).await;
                    place.connection.is_from(peer.ip());
                    match tls {
                        Some(tls) => self.serve_tls(tls, stream, place),
                        None => self.serve(stream, place),
                    }
                }
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                self.serve(stream, self.places.take(false, None).await);
            }
        }
        Ok(())
    }

    fn serve(&self, socket: impl Port, place: Place) {
        let (connection, outbox) = (Arc::clone(&place.connection), Arc::new(Outbox::default()));
        connection.sends(Arc::clone(&outbox));
        let stream = Direct::new(socket, outbox);
        let served = speak(&self.router, &self.builder, self.graceful.watcher(), stream, &connection);
        let counted = Counted::new(&self.shared);
        tokio::spawn(async move {
            tokio::select! {
                () = served => {}
                () = connection.expired() => {}
            }
            drop((place, counted));
        });
    }

    /// Shaking hands is part of the time without a request, and does not hold up who comes next.
    fn serve_tls(&self, tls: Tls, stream: TcpStream, place: Place) {
        let (router, builder) = (self.router.clone(), self.builder.clone());
        let watcher = self.graceful.watcher();
        let (connection, counted) = (Arc::clone(&place.connection), Counted::new(&self.shared));
        tokio::spawn(async move {
            let served = async {
                if let Some(stream) = tls::accept(tls, stream).await {
                    if let Some(user) = tls::user_of(&stream) {
                        connection.is_of(user);
                    }
                    speak(&router, &builder, watcher, stream, &connection).await;
                }
            };
            tokio::select! {
                () = served => {}
                () = connection.expired() => {}
            }
            drop((place, counted));
        });
    }
}

/// A connection among those that are open.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Counted {
        shared.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection's requests, from its first to its last.
fn speak(
    router: &axum::Router,
    builder: &auto::Builder<TokioExecutor>,
    watcher: Watcher,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: &Arc<Connection>,
) -> impl Future<Output = ()> + Send + 'static {
    let router = router.clone().layer(axum::Extension(Arc::clone(connection)));
    let service = TowerToHyperService::new(router);
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let served = watcher.watch(served);
    // a connection that breaks is its client's affair
    async move { drop(served.await) }
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
