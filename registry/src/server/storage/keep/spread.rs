//! Work on every content, on all processors.

use crate::server::storage::StorageError;
use slipway_oci::Digest;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// Contents after one, in the order of text; none at the end.
pub(super) type Page<'a> = dyn Fn(&str) -> Result<Vec<(Digest, u64)>, StorageError> + 'a;

/// What is done with one content of so many bytes; the flag says that something failed elsewhere.
pub(super) type Work<'a> = dyn Fn(&Digest, u64, &AtomicBool) -> Result<(), StorageError> + Sync + 'a;

/// Does `work` with everything; the first failure ends it. Answers how much there was, and its bytes.
pub(super) fn spread(page: &Page<'_>, work: &Work<'_>) -> Result<(u64, u64), StorageError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (send, receive) = mpsc::sync_channel::<(Digest, u64)>(threads * 2);
    let (receive, failed) = (Mutex::new(receive), AtomicBool::new(false));
    let worker = || -> Result<(), StorageError> {
        loop {
            let next = receive.lock().expect("no panic happens while it is held").recv();
            let Ok((digest, size_bytes)) = next else { return Ok(()) };
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            work(&digest, size_bytes, &failed).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let handed = hand_out(page, &send, &failed);
        drop(send);
        for worker in workers {
            worker.join().expect("a panic of a worker is one of this")?;
        }
        handed
    })
}

fn hand_out(
    page: &Page<'_>,
    send: &mpsc::SyncSender<(Digest, u64)>,
    failed: &AtomicBool,
) -> Result<(u64, u64), StorageError> {
    let (mut contents, mut bytes, mut last) = (0, 0, String::new());
    loop {
        let found = page(&last)?;
        let Some((end, _)) = found.last() else { return Ok((contents, bytes)) };
        last = end.to_string();
        for (digest, size_bytes) in found {
            contents += 1;
            bytes += size_bytes;
            let mut waiting = (digest, size_bytes);
            // where no worker takes any more, one has failed and says why
            while let Err(mpsc::TrySendError::Full(back)) = send.try_send(waiting) {
                if failed.load(Ordering::Relaxed) {
                    return Ok((contents, bytes));
                }
                thread::sleep(Duration::from_millis(1));
                waiting = back;
            }
        }
    }
}
