//! What replicas ask of their database and store, and of each other.

use std::time::Duration;

/// How far the time of day may run ahead between two passes of the collection before it is not believed.
pub const CLOCK_LEAP: Duration = Duration::from_secs(3600);

/// Most connections of a replica to the database that replicas share.
pub const DATABASE_CONNECTIONS: usize = 16;

/// Longest time that one waits for such a connection to be free.
pub const DATABASE_PATIENCE: Duration = Duration::from_secs(10);

/// Longest time that such a connection takes to be made.
pub const DATABASE_CONNECT: Duration = Duration::from_secs(5);

/// Time after which such a connection whose other end says nothing counts as cut off.
pub const DATABASE_SILENCE: Duration = Duration::from_secs(10);

/// How often, and how many times, a connection without a word is asked whether its other end is there.
pub const DATABASE_ALIVE: (Duration, u32) = (Duration::from_secs(3), 3);

/// Longest time that the database works on a statement, besides those that look through everything.
pub const DATABASE_STATEMENT: Duration = Duration::from_secs(10);

/// Longest time that the answer to such a statement is waited for, and that a new connection is: longer than the database works on it.
pub const DATABASE_ANSWER: Duration = Duration::from_secs(12);

/// Longest time that the answer to a statement is waited for that looks through everything.
pub const DATABASE_PASS: Duration = Duration::from_secs(6 * 3600);

/// How long one waits for another to find out whether what did not answer answers again.
pub const SILENCE_LOOK: Duration = Duration::from_millis(500);

/// How long work in the background is one replica's without a word of it: those that die are followed after this.
pub const LEASE: Duration = Duration::from_secs(30);

/// Time between two words of it.
pub const LEASE_WORD: Duration = Duration::from_secs(8);

/// Most rounds of a move before its source is held.
pub const MOVE_ROUNDS: usize = 6;

/// Rows that differ after a round, of which the rest is carried while the source is held.
pub const MOVE_FEW: u64 = 500;

/// Rows that a move reads and writes at a time.
pub const MOVE_PAGE: u64 = 500;

/// Bytes of rows that a move has in memory at a time of each side, and one row more: annotations may have megabytes.
pub const MOVE_BYTES: usize = 8 << 20;

/// Contents that a move copies at a time.
pub const MOVE_COPIES: usize = 8;

/// How long the source of a move refuses changes after the last word of whoever moves it.
pub const MOVE_HOLD: Duration = Duration::from_secs(30);

/// Time between two looks whether a turn that a command waits for is free.
pub const TURN_LOOK: Duration = Duration::from_millis(500);

/// Time between two looks for work that no replica does.
pub const LEASE_LOOK: Duration = Duration::from_secs(10);

/// How often a transaction is tried that others are in the way of.
pub const DATABASE_TRIES: u64 = 10;

/// Longest time that a connection to an object store takes to be made.
pub const STORE_CONNECT: Duration = Duration::from_secs(5);

/// Longest time that an object store says nothing when it is asked for something, or within a reply.
pub const STORE_SILENCE: Duration = Duration::from_secs(10);

/// Longest time that an object store says nothing while it is sent bytes, at most [`STORE_PART_BYTES`], or copies an object.
pub const STORE_WRITE_SILENCE: Duration = Duration::from_secs(60);

/// How many connections to an object store are kept that nobody uses.
pub const STORE_IDLE: usize = 32;

/// Longest pause before a request to an object store is tried again.
pub const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How often a request to an object store is tried again, and for how long.
pub const STORE_TRIES: usize = 5;

/// See [`STORE_TRIES`].
pub const STORE_PATIENCE: Duration = Duration::from_secs(9);

/// Pieces of an object that are read ahead.
pub const STORE_PIECES: usize = 4;

/// How many readers of an object store have pieces ahead of them at once; others ask for each piece when it is its turn.
pub const STORE_STREAMS: usize = 32;

/// Bytes of a part of a multipart upload, of which all stores take 5 MiB and more.
pub const STORE_PART_BYTES: usize = 8 << 20;

/// Most parts of a multipart upload; stores take ten thousand.
pub const STORE_PARTS: usize = 9000;

/// Most parts and small blobs that are in memory at a time, on their way to an object store.
pub const STORE_SENDING: usize = 4;

/// Bytes of an unfinished upload that the pointers keep, so that a small one costs no request.
pub const STORE_SMALL_BYTES: usize = 16 << 10;

/// Age at which an upload of an object store that no session knows is taken for a crash's left-over: longer than any request takes
/// that another replica may be reading.
pub const STORE_UPLOAD_AGE: Duration = Duration::from_secs(24 * 3600);

/// Objects and uploads that are listed at a time.
pub const STORE_LIST: usize = 1000;

/// Largest list of uploads that is read, in bytes.
pub const STORE_LIST_BYTES: usize = 8 << 20;

/// How long an address in the object store that a client is sent to opens its object.
pub const REDIRECT_LIFE: Duration = Duration::from_secs(1200);

/// Smallest blob for which clients are sent to the store where the settings do not say, in bytes.
pub const REDIRECT_FROM: u64 = 1 << 20;

/// Largest object that an object store copies in one request.
pub const STORE_COPY_BYTES: u64 = 5 << 30;

/// How often replicas that get their certificate by themselves look what another one of them has.
pub const ACME_SHARED_LOOK: Duration = Duration::from_secs(1);
