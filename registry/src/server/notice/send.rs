//! Sends what waits: a task a hook, in order, with growing pauses.

use super::{Hook, Hooks, Notices, body::content_type};
use crate::{
    client::{ClientError, beside},
    limits,
    server::{
        event::{Dropped, Event, Observer},
        storage::pointers::{Outbox, OutboxError, Waiting},
    },
};
use reqwest::{StatusCode, header};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// When to look for the next notice.
enum Next {
    Now,
    /// After this time, or when there is a new one.
    News(Duration),
    /// After this time.
    After(Duration),
}

/// What reaches the receivers.
pub(in crate::server) struct Sender {
    http: reqwest::Client,
    hooks: Vec<Hook>,
    pause: Duration,
}

impl Sender {
    pub(in crate::server) fn new(hooks: &Hooks) -> Result<Sender, ClientError> {
        let plain = hooks.hooks.iter().all(|hook| hook.url.scheme() == "http");
        let http = beside(hooks.authorities.as_ref(), &hooks.proxies, plain, limits::NOTICE_TIME)?;
        Ok(Sender { http, hooks: hooks.hooks.clone(), pause: hooks.pause })
    }

    /// Sends until the server ends. What is under way then is noted as it ended, so that the next server need not wait for it.
    pub(in crate::server) async fn run(
        self,
        notices: Arc<Notices>,
        report: Observer,
        stop: watch::Receiver<bool>,
    ) {
        let waiting = Queued { notices, report };
        let all = self.hooks.iter().map(|hook| self.serve(hook, &waiting, stop.clone()));
        futures_util::future::join_all(all).await;
    }

    async fn serve(&self, hook: &Hook, queued: &Queued, mut stop: watch::Receiver<bool>) {
        let mut news = queued.notices.news.subscribe();
        while !*stop.borrow() {
            let pause = match self.first(hook, queued).await {
                Next::Now => continue,
                Next::After(pause) => {
                    let paused = tokio::time::sleep(pause);
                    tokio::select! { () = paused => {}, _ = stop.wait_for(|stop| *stop) => {} }
                    continue;
                }
                Next::News(pause) => pause,
            };
            // what another process of this storage queued is seen after the pause
            let told = tokio::time::timeout(pause, news.changed());
            tokio::select! { _ = told => {}, _ = stop.wait_for(|stop| *stop) => {} }
        }
    }

    /// Sends the first that waits.
    async fn first(&self, hook: &Hook, queued: &Queued) -> Next {
        let name = hook.name.clone();
        let claimed = queued.work(move |queue| {
            let Some(waiting) = queue.first(&name)? else { return Ok(Err(limits::NOTICE_LOOK)) };
            if waiting.wait > Duration::ZERO {
                return Ok(Err(waiting.wait.min(limits::NOTICE_LOOK)));
            }
            let claimed = queue.claim(&waiting, limits::NOTICE_TIME * 2)?;
            Ok(if claimed { Ok(waiting) } else { Err(Duration::from_secs(1)) })
        });
        let waiting = match claimed.await {
            Some(Ok(waiting)) => waiting,
            Some(Err(pause)) => return Next::News(pause),
            None => return Next::News(limits::NOTICE_LOOK),
        };
        let failure = self.send(hook, &waiting).await.err();
        let attempts = waiting.attempts + 1;
        let id = waiting.id;
        let Some(why) = failure else {
            queued.work(move |queue| queue.remove(id)).await;
            return Next::Now;
        };
        let refused = matches!(why, Failed::Refused(status) if status.is_client_error());
        let most = if refused { limits::NOTICE_REFUSALS } else { limits::NOTICE_ATTEMPTS };
        let old = waiting.age > limits::NOTICE_AGE;
        if attempts >= most || old {
            let why = why.to_string();
            (queued.report)(&Event::NoticeDropped(Dropped { hook: &hook.name, attempts, why: &why }));
            queued.work(move |queue| queue.remove(id)).await;
            return Next::Now;
        }
        // 1, 2, 4 ... seconds, an hour at most
        let pause = self.pause.saturating_mul(1 << attempts.min(12).saturating_sub(1));
        let pause = pause.min(limits::NOTICE_PAUSE_MOST);
        queued.work(move |queue| queue.postpone(id, attempts, pause)).await;
        // others come after it: nobody else's news shortens the pause
        Next::After(pause.min(limits::NOTICE_LOOK))
    }

    async fn send(&self, hook: &Hook, waiting: &Waiting) -> Result<(), Failed> {
        let request = self
            .http
            .post(hook.url.clone())
            .header(header::CONTENT_TYPE, content_type(hook.form))
            .body(waiting.body.clone());
        let response = request.send().await.map_err(|error| Failed::Unanswered(error.without_url()))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failed::Refused(status)),
        }
    }
}

/// Why a notice was not taken.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it does not answer: {0}")]
    Unanswered(reqwest::Error),
    #[error("it answers {0}")]
    Refused(StatusCode),
}

/// What waits, and who hears of what fails.
struct Queued {
    notices: Arc<Notices>,
    report: Observer,
}

impl Queued {
    /// Works on the queue off the async threads; what fails is told, and looked at again later.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Option<T> {
        let (queue, report) = (Arc::clone(&self.notices.queue), Arc::clone(&self.report));
        let done = tokio::task::spawn_blocking(move || {
            work(&*queue)
                .inspect_err(|error| report(&Event::Failure { operation: "read notices", error }))
                .ok()
        });
        done.await.ok().flatten()
    }
}
