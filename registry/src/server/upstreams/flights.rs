//! One piece of work for all who want the same: the first one starts it as a task of its own, so that nobody's leaving ends it.

use crate::{limits, server::trouble::Trouble};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

type Told<T> = Option<Result<T, Trouble>>;
type Going<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Told<T>>>>>;

/// What is under way, by what it is about.
pub(in crate::server) struct Flights<K, T>(Going<K, T>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Flights<K, T> {
        Flights(Arc::default())
    }
}

/// Tells those who wait. It is under way until this is dropped.
pub(in crate::server) struct Flight<K: Hash + Eq, T> {
    key: K,
    going: Going<K, T>,
    tell: watch::Sender<Told<T>>,
}

impl<K: Hash + Eq, T> Flight<K, T> {
    pub(in crate::server) fn tell(&self, result: Result<T, Trouble>) {
        self.tell.send_replace(Some(result));
    }
}

impl<K: Hash + Eq, T> Drop for Flight<K, T> {
    fn drop(&mut self) {
        self.going.lock().expect("no panic happens while the table is held").remove(&self.key);
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// Waits for what is under way, or for what `begin` starts.
    pub(in crate::server) async fn join(
        &self,
        key: K,
        begin: impl FnOnce(Flight<K, T>),
    ) -> Result<T, Trouble> {
        let mut told = {
            let mut going = self.0.lock().expect("no panic happens while the table is held");
            match going.get(&key) {
                Some(told) => told.clone(),
                None if going.len() >= limits::MIRROR_FLIGHTS => return Err(Trouble::Busy),
                None => {
                    let (tell, told) = watch::channel(None);
                    going.insert(key.clone(), told.clone());
                    drop(going);
                    begin(Flight { key, going: Arc::clone(&self.0), tell });
                    told
                }
            }
        };
        let told = told.wait_for(Option::is_some).await.map(|told| told.clone());
        told.ok().flatten().unwrap_or_else(|| Err(Trouble::Own("the fetch ended without a word".into())))
    }
}
