//! Every cap of the registry's own, beside those it shares with the house in [`slipway_oci::limits`].
//!
//! A number here is the most that is accepted, never a size that is allocated up front. Each says what attack or
//! accident it stops.

mod engines;

pub use engines::*;
use std::time::Duration;

/// Bytes that are read from disk, or gathered before they are written, in one step off the async threads.
/// 512 KiB preads move 10 MB at 1.4 times the rate of 64 KiB ones (`reference/registry.md`, section 7).
pub const PIECE_BYTES: usize = 512 << 10;

/// Longest query string of a request, in bytes.
pub const QUERY_BYTES: usize = 16 << 10;

/// Most ranges of one request that are looked at; podman asks for up to 1,024 pieces of a layer. Each costs a head in the reply
/// (Apache's CVE-2011-3192).
pub const RANGES: usize = 1024;

/// Most bytes of all `Warning` headers of a reply (distribution specification, "Warnings").
pub const WARNING_BYTES: usize = 4096;

/// Longest text about deprecated repositories, in bytes, before it is quoted.
pub const DEPRECATION_BYTES: usize = 1000;

/// Most different warnings of registries that the client passes on.
pub const WARNINGS: usize = 20;

/// Age at which numbers about what is stored are looked up again: counting takes the database a while.
pub const METRICS_AGE: Duration = Duration::from_secs(60);

/// Most notices that wait for webhooks.
pub const NOTICES: u64 = 100_000;

/// Longest time that a webhook's receiver takes for a notice.
pub const NOTICE_TIME: Duration = Duration::from_secs(15);

/// Time between two looks for notices that another process queued.
pub const NOTICE_LOOK: Duration = Duration::from_secs(5);

/// Pause after a notice was not taken the first time; each further one is twice as long.
pub const NOTICE_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two attempts.
pub const NOTICE_PAUSE_MOST: Duration = Duration::from_secs(3600);

/// Longest time that a stopping server waits for the receiver of a notice that is under way.
pub const NOTICE_STOP: Duration = Duration::from_secs(1);

/// Attempts after which a notice is given up.
pub const NOTICE_ATTEMPTS: u32 = 60;

/// The same where the receiver refuses it (4xx): it will not like it better.
pub const NOTICE_REFUSALS: u32 = 5;

/// Age at which a notice is given up.
pub const NOTICE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest time that `/readyz` waits for what the server depends on.
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// Most connections of the sockets for numbers.
pub const OUTSIDE_CONNECTIONS: usize = 64;

/// Most characters of a client's name for itself that are told.
pub const AGENT_CHARACTERS: usize = 256;

/// Most names in one page of tags or of the catalog (CVE-2023-2253: never allocate what `n=` asks for).
pub const PAGE_ENTRIES: usize = 10_000;

/// Names in a page when the request does not say.
pub const PAGE_ENTRIES_DEFAULT: usize = 1000;

/// Most entries in one page of referrers.
pub const REFERRERS_ENTRIES: usize = 1000;

/// Most bytes of annotations in one page of referrers; an index has to stay a manifest that clients take.
pub const REFERRERS_BYTES: usize = 3 << 20;

/// Most `?tag=` parameters of one manifest push; the specification asks for at least ten.
pub const TAGS_PER_PUSH: usize = 100;

/// Most open connections of the server; more wait in the kernel's queue.
pub const CONNECTIONS: usize = 4096;

/// Longest time that a client takes to send a request's head (slow loris).
pub const HEADER_TIME: Duration = Duration::from_secs(30);

/// Longest pause between two pieces of a request's body, and of a peer that takes nothing of a reply.
pub const BODY_PAUSE: Duration = Duration::from_secs(60);

/// Longest time that the rest of a refused request is read, so that its sender gets to the reply.
pub const LINGER_TIME: Duration = Duration::from_secs(5);

/// Most bytes of a refused request that are read and thrown away.
pub const LINGER_BYTES: u64 = 64 << 20;

/// Bytes a second that a peer has to send or take in the mean, beyond one [`BODY_PAUSE`]: who dribbles holds a place as
/// long as who stands still.
pub const PEER_RATE_BYTES: u64 = 4096;

/// Time without progress after which a connection gives its place to one that waits.
pub const SHED_TIME: Duration = Duration::from_secs(10);

/// Time that every connection has for its request to arrive, however many others wait.
pub const FRESH_TIME: Duration = Duration::from_millis(100);

/// Time between two tries to find a connection that gives its place up.
pub const SHED_RETRY: Duration = Duration::from_millis(50);

/// Descriptors that connections and their files leave to everything else: databases, uploads, the runtime.
pub const DESCRIPTORS_KEPT: u64 = 256;

/// Files that are opened before their reply begins; others are opened when the peer takes bytes.
pub const EARLY_FILES: usize = 64;

/// Most requests of one HTTP/2 connection at a time.
pub const STREAMS: u32 = 64;

/// How far apart bytes are that are tried to find out whether a file is in the kernel's cache, which holds what was read in
/// runs of about this length (`read_ahead_kb` without settings).
pub const CACHE_STEP: usize = 128 << 10;

/// Spans of traces that wait to be sent; what comes beyond them is lost.
pub const SPANS_WAITING: usize = 4096;

/// Spans that are sent at a time.
pub const SPANS_AT_ONCE: usize = 512;

/// How long spans wait for others to be sent with them, and a post that may pass for its second try; for each further one twice as long.
pub const TRACES_PAUSE: Duration = Duration::from_secs(1);

/// How often spans are sent that may pass.
pub const TRACES_TRIES: u32 = 5;

/// Bytes that are read of what a collector says.
pub const TRACES_REPLY_BYTES: usize = 64 << 10;

/// How long a collector may take to answer.
pub const TRACES_TIME: Duration = Duration::from_secs(5);

/// Time between two words about a collector that takes nothing.
pub const TRACES_TOLD: Duration = Duration::from_secs(300);

/// How long a server that stops waits for the last spans to go.
pub const TRACES_STOP: Duration = Duration::from_secs(2);

/// Characters of a text in a span.
pub const SPAN_CHARACTERS: usize = 256;

/// Members of a request's `tracestate` (W3C Trace Context, section 3.3.1.1).
pub const TRACE_STATES: usize = 32;

/// Bytes of a request's `tracestate` that are recorded (W3C Trace Context, section 3.3.1.5: 512 at least).
pub const TRACE_STATE_BYTES: usize = 512;

/// Most bytes of a request's head, and of a reply that wait for a peer of HTTP/1 beside one piece.
pub const HEAD_BYTES: usize = 32 << 10;

/// Bytes of a request's body that an HTTP/2 peer may send ahead of its reader, by stream; twice that by connection.
pub const AHEAD_BYTES: u32 = 64 << 10;

/// Bytes of pieces larger than [`PIECE_SMALL_BYTES`] and of whole replies and manifests that are in memory at a time.
pub const MEMORY_BYTES: usize = 24 << 20;

/// Size of a piece when the memory for larger ones is in use; also the first piece of every reply.
pub const PIECE_SMALL_BYTES: usize = 16 << 10;

/// Pieces of a body smaller than this are copied together: each one alone keeps a buffer of its own alive.
pub const COPY_BYTES: usize = 16 << 10;

/// Longest time that a stopping server waits for requests that are under way.
pub const STOP_TIME: Duration = Duration::from_secs(10);

/// Most unfinished upload sessions of one repository.
pub const SESSIONS_PER_REPOSITORY: u64 = 1000;

/// Most unfinished upload sessions in all.
pub const SESSIONS_IN_ALL: u64 = 10_000;

/// Bytes of a session after which its length and hash state are written down within one request, so that a crash loses
/// no more.
pub const SAVE_BYTES: u64 = 16 << 20;

/// Age at which a session that nobody writes to makes room for a new one, where there are too many.
pub const SESSION_IDLE: Duration = Duration::from_secs(600);

/// Longest time between condemning content and removing it by the same process.
pub const CONDEMNED_OWN: Duration = Duration::from_secs(2);

/// Age at which others take a removal over whose process died; well above [`CONDEMNED_OWN`].
pub const CONDEMNED_AGE: Duration = Duration::from_secs(6);

/// Age of a loose blob's mark at which it is renewed when somebody asks for the blob: a collection's grace is the longer time
/// by far, so that what a client was told is there is there when it is named.
pub const LOOSE_RENEWED: Duration = Duration::from_secs(600);

/// How long deleted things stay in the trash without settings.
pub const TRASH_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pointers a second that a collection takes without settings: it leaves nine tenths of the database's writer to pushes.
pub const COLLECT_RATE: u64 = 1000;

/// Time between two passes of the collection without settings.
pub const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// How long something is loose without settings before it is collected: longer than any push takes.
pub const COLLECT_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Pointers that a collection takes in one transaction: a few milliseconds that others wait.
pub const COLLECT_PAGE: u64 = 100;

/// Pointers that a collection takes with one sync of the disk, before it removes their contents.
pub const COLLECT_BATCH: usize = 500;

/// Pointers that a collection looks up at a time: of a hundred thousand that were deleted in one second each look-up sorts all.
pub const COLLECT_FIND: u64 = 2000;

/// Time between two looks whether pulls are to be written down, or a pass of the collection is due.
pub const PULLS_EVERY: Duration = Duration::from_secs(10);

/// Different pulls that wait in memory at most: some 20 MiB.
pub const PULLS_WAITING: usize = 100_000;

/// Pulls that are written in one transaction.
pub const PULLS_PAGE: usize = 500;

/// Moves of tags that are read at a time.
pub const HISTORY_PAGE: u64 = 1000;

/// Moves of each tag that are remembered.
pub const TAG_MOVES: u64 = 100;

/// Most entries that a sweep takes at a time.
pub const SWEEP_ENTRIES: u64 = 10_000;

/// Time without writes after which the journal of pointers is brought to the disk.
pub const JOURNAL_SYNC: Duration = Duration::from_secs(1);

/// The same where there is always something to write.
pub const JOURNAL_SYNC_MOST: Duration = Duration::from_secs(5);

/// Bytes of the journal's log at which a snapshot takes its place, or half a snapshot's where that is more.
pub const JOURNAL_BYTES: u64 = 4 << 20;

/// Longest line of the journal.
pub const JOURNAL_LINE_BYTES: usize = 64 << 10;

/// Longest wait of a backup for those who remove content.
pub const HOLD_TIME: Duration = Duration::from_secs(5);

/// Most components of a repository's name in a folder that is adopted; a name has 255 bytes at most.
pub const ADOPT_DEPTH: usize = 128;

/// Most bytes of a link in a folder that is adopted: a digest, and space around it.
pub const ADOPT_LINK_BYTES: u64 = 256;

/// Threads that write pointers while a folder is adopted; each waits for its transaction.
pub const ADOPT_WRITERS: usize = 16;

/// Longest time that a certificate's authority takes for a whole order.
pub const ACME_TIME: Duration = Duration::from_secs(300);

/// The same for one request.
pub const ACME_REQUEST_TIME: Duration = Duration::from_secs(60);

/// Largest message of an authority, and file of a certificate, in bytes.
pub const ACME_BYTES: usize = 1 << 20;

/// Time between two looks at a certificate that is kept: another process may have renewed it.
pub const ACME_LOOK: Duration = Duration::from_secs(60);

/// Pause after the first failure to get one; each further one is twice as long.
pub const ACME_PAUSE: Duration = Duration::from_secs(60);

/// Longest pause between two attempts.
pub const ACME_PAUSE_MOST: Duration = Duration::from_secs(6 * 3600);

/// Most repositories that are named for damaged content.
pub const DAMAGE_PLACES: u64 = 20;

/// Bytes a second that the scrub reads without settings: a terabyte in 14 hours, for one hundredth of a core.
pub const SCRUB_RATE: u64 = 20 << 20;

/// Time between the beginnings of two rounds of the scrub without settings.
pub const SCRUB_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Time between two looks whether a round is due; the first one comes so long after the start.
pub const SCRUB_LOOK: Duration = Duration::from_secs(30);

/// Time between two notes of how far a round is.
pub const SCRUB_SAVE: Duration = Duration::from_secs(15);

/// Contents that a round takes from the database at a time.
pub const SCRUB_PAGE: u64 = 1000;

/// What opening one content counts beside its bytes.
pub const SCRUB_CONTENT_BYTES: u64 = 32 << 10;

/// Largest note beside the content, in bytes.
pub const NOTE_BYTES: u64 = 64 << 10;

/// Most times that content is put back when deletes of it come in between.
pub const PLACE_TRIES: usize = 8;

/// Room that is kept for deletes on a full disk, in bytes: the log of some hundred transactions.
pub const RESERVE_BYTES: usize = 4 << 20;

/// Most connections to the database that read at a time; each is two descriptors.
pub const DATABASE_READERS: usize = 16;

/// Notices that are handed over at a time.
pub const NOTICES_PAGE: u64 = 100;

/// How often replicas tell each other what they counted for limits.
pub const COUNTS_EVERY: Duration = Duration::from_secs(1);

/// Most rows of which a replica tells at a time.
pub const COUNTS_TOLD: usize = 4000;

/// Rows in a message: PostgreSQL takes 8,000 bytes.
pub const COUNTS_MESSAGE: usize = 200;

/// Most that one row owes by what others tell.
pub const COUNTS_MOST: Duration = Duration::from_secs(2 * 24 * 3600);

/// How long what a replica remembers of the database counts without a word that nothing changed: a tag that was moved elsewhere is
/// served as it was for less than a second.
pub const CACHE_TIME: Duration = Duration::from_millis(800);

/// Most records of the database that a replica remembers of a kind, and sizes of objects.
pub const CACHE_RECORDS: usize = 20_000;

/// Most repositories that a replica remembers something of.
pub const CACHE_REPOSITORIES: usize = 10_000;

/// How long the size of an object is believed.
pub const CACHE_SIZE_TIME: Duration = Duration::from_secs(60);

/// Largest object that a replica keeps in memory, in bytes.
pub const CACHE_SMALL: u64 = 64 << 10;

/// Bytes of such objects in all.
pub const CACHE_SMALL_BYTES: usize = 16 << 20;

/// What each of them costs beside its bytes.
pub const CACHE_ENTRY_BYTES: usize = 256;

/// A blob that is larger than one of so many parts of a replica's files does not come into them.
pub const CACHE_LARGEST_PART: u64 = 4;

/// Pages of the database's log from which on they are moved to where they belong: SQLite's own number.
pub const LOG_PAGES: u32 = 1000;

/// Most writes that share one transaction and one sync.
pub const BATCH_WRITES: usize = 512;

/// Age at which an upload session that nobody writes to is removed (distribution's default).
pub const SESSION_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Age at which a file without a session is taken for a crash's left-over.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Time between two sweeps of upload sessions.
pub const SWEEP_PERIOD: Duration = Duration::from_secs(3600);

/// Longest `Authorization` header that is looked at, in bytes.
pub const AUTHORIZATION_BYTES: usize = 24 << 10;

/// Longest token that is looked at, in bytes; one for [`SCOPES`] of the longest names is half as long.
pub const TOKEN_BYTES: usize = 24 << 10;

/// Longest form of a token request, in bytes.
pub const TOKEN_FORM_BYTES: usize = 64 << 10;

/// Most scopes of one token.
pub const SCOPES: usize = 32;

/// Time that a token for requests is good for. What changes in the rules counts at once all the same.
pub const TOKEN_LIFE_SECONDS: i64 = 300;

/// Time that a token for new tokens is good for: what a client keeps after a login.
pub const REFRESH_LIFE_SECONDS: i64 = 90 * 24 * 3600;

/// Time that a key signs tokens.
pub const KEY_LIFE_SECONDS: i64 = 30 * 24 * 3600;

/// How far clocks of replicas may be apart.
pub const CLOCK_SKEW_SECONDS: i64 = 60;

/// Most credentials that are remembered.
pub const CALLERS_SEEN: usize = 10_000;

/// Time for which a right password is remembered.
pub const PASSWORD_SEEN: Duration = Duration::from_secs(300);

/// Time for which a wrong one is.
pub const REFUSAL_SEEN: Duration = Duration::from_secs(5);

/// Most passwords that wait for their check; each is a connection that waits.
pub const PASSWORDS_WAITING: usize = 64;

/// Most addresses and users whose requests, bytes or wrong passwords are counted.
pub const THROTTLE_ROWS: usize = 50_000;

/// Longest time that anybody is told to stay away for what they took.
pub const DEBT_TIME: Duration = Duration::from_secs(60);

/// Time for which an address from which an account logged in is its own.
pub const ADDRESS_KNOWN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most claims of an identity token.
pub const CLAIMS: usize = 500;

/// Longest value of a claim that a pattern looks at, in bytes.
pub const CLAIM_BYTES: usize = 1024;

/// Most keys of an issuer of identity tokens.
pub const ISSUER_KEYS: usize = 100;

/// Largest document of an issuer, in bytes.
pub const ISSUER_BYTES: usize = 256 << 10;

/// Longest time that an issuer may take for a document.
pub const ISSUER_TIME: Duration = Duration::from_secs(5);

/// Time between two looks at an issuer's keys, whatever keys tokens name.
pub const ISSUER_PAUSE: Duration = Duration::from_secs(10);

/// Age at which an issuer's keys are looked at again.
pub const ISSUER_AGE: Duration = Duration::from_secs(3600);

/// Age up to which they are believed where the issuer does not answer.
pub const ISSUER_STALE: Duration = Duration::from_secs(24 * 3600);

/// Time for which a job may do what its identity token opened, from when it showed that: the longest push.
pub const JOB_LIFE_SECONDS: i64 = 3600;

/// Most repositories that a mount without a source looks at for one that the caller may read.
pub const MOUNT_SOURCES: u64 = 1000;

/// Time for which a mirror believes a tag before it asks again, without settings.
pub const MIRROR_FRESH: Duration = Duration::from_secs(300);

/// Longest wait of a mirror for an upstream's answer: a manifest, or the beginning of a blob.
pub const MIRROR_ANSWER_TIME: Duration = Duration::from_secs(30);

/// Most manifests and lists that one upstream is asked for at a time, and as many blobs.
pub const MIRROR_REQUESTS: usize = 32;

/// Longest wait for a turn among them.
pub const MIRROR_TURN_TIME: Duration = Duration::from_secs(30);

/// Most different manifests, and as many blobs, that are fetched or wait for it.
pub const MIRROR_FLIGHTS: usize = 1024;

/// Pause after an upstream did not answer; it doubles while that goes on.
pub const MIRROR_PAUSE: Duration = Duration::from_secs(1);

/// Longest of these pauses that nobody asked for.
pub const MIRROR_PAUSE_MOST: Duration = Duration::from_secs(30);

/// Pause after an upstream said that there were too many requests, and not for how long.
pub const MIRROR_PAUSE_OFTEN: Duration = Duration::from_secs(30);

/// Most tags whose last look-up is remembered.
pub const MIRROR_TAGS: usize = 50_000;

/// Most times that a blob is taken up where it broke off.
pub const MIRROR_RESUMES: u32 = 4;

/// Most bytes of a blob whose size its upstream does not say.
pub const MIRROR_UNSIZED_BYTES: u64 = 10 << 30;

/// What the names of leases begin with by which one of all replicas asks an upstream for something.
pub const MIRROR_ERRAND: &str = "mirror ";

/// How long such a lease is remembered: no tag is believed for longer by what another replica has found.
pub const MIRROR_ERRAND_AGE: Duration = Duration::from_secs(31 * 86_400);

/// How often a replica looks whether another one has brought what it wants.
pub const MIRROR_LOOK: Duration = Duration::from_millis(100);

/// How long it waits for that.
pub const MIRROR_WAIT: Duration = Duration::from_secs(600);

/// Most tokens that the client keeps.
pub const TOKENS_KEPT: usize = 1000;

/// Most redirects that the client follows.
pub const REDIRECTS: usize = 10;

/// Largest body of a token, an error or a page of tags that the client reads, in bytes.
pub const REPLY_BYTES: u64 = 4 << 20;

/// Longest message of a registry's error that is passed on, in characters.
pub const MESSAGE_CHARACTERS: usize = 500;

/// Most pages of tags that the client asks for.
pub const PAGES: usize = 10_000;

/// Most referrers of one manifest that the client takes.
pub const REFERRERS: usize = 10_000;

/// Most addresses of a layer that lives elsewhere that are tried.
pub const FOREIGN_PLACES: usize = 4;

/// Most tags that the client takes from one repository.
pub const TAGS: usize = 1_000_000;

/// Longest wait that a `Retry-After` can impose.
pub const RETRY_AFTER: Duration = Duration::from_secs(120);

/// Most times that one transfer is taken up again, progress or not.
pub const RESUMES: u32 = 200;

/// Bytes that a transfer must have moved for its retries to count from zero again.
pub const RESUME_PROGRESS_BYTES: u64 = 1 << 20;

/// Largest docker configuration file that is read, in bytes.
pub const DOCKER_CONFIG_BYTES: u64 = 4 << 20;

/// Largest answer of a credential helper, in bytes.
pub const HELPER_BYTES: u64 = 1 << 20;

/// Most entries of a registry's certificate folder that are looked at.
pub const CERTIFICATE_FILES: usize = 1000;

/// Largest file of extra certificate authorities, in bytes.
pub const AUTHORITIES_BYTES: u64 = 16 << 20;

/// Time to reach a registry.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);

/// Longest pause of a registry within a reply.
pub const REPLY_PAUSE: Duration = Duration::from_secs(120);

/// Chunk that the client sends to registries that refuse a blob in one piece, in bytes; below the body caps that
/// proxies have by default.
pub const CHUNK_BYTES: u64 = 16 << 20;

/// Time that somebody who logged in to the web page stays so.
pub const SESSION_LIFE_SECONDS: i64 = 12 * 3600;

/// Longest form of the web page, in bytes.
pub const FORM_BYTES: usize = 32 << 10;

/// Rows of one list of the web page.
pub const WEB_ROWS: usize = 100;

/// Most repositories whose names one search of the web page looks at.
pub const WEB_NAMES: usize = 100_000;

/// Most repositories whose usage one page sums up.
pub const WEB_USAGES: usize = 5000;

/// Most tags that the web page sorts by time; more are sorted by name.
pub const WEB_TAGS: usize = 5000;

/// Most platforms of an index that the web page sums up.
pub const WEB_PLATFORMS: usize = 24;

/// Most images of which sizes and platforms are remembered.
pub const WEB_FACTS: usize = 5000;

/// Largest document (SBOM, provenance, signature) that the web page reads, in bytes.
pub const WEB_DOCUMENT_BYTES: u64 = 16 << 20;

/// Most paths of a layer that the web page lists (an archive of ten million empty files costs memory, not bytes).
pub const WEB_LAYER_PATHS: usize = 200_000;

/// Most bytes of the names of one layer's paths (paths of 4,096 bytes each).
pub const WEB_LAYER_NAMES: usize = 24 << 20;

/// Most bytes that a layer is unpacked to for its list (a decompression bomb costs time).
pub const WEB_LAYER_BYTES: u64 = 16 << 30;

/// Longest time that one layer is read for its list.
pub const WEB_LAYER_TIME: Duration = Duration::from_secs(20);

/// Longest time that one request reads layers.
pub const WEB_FILES_TIME: Duration = Duration::from_secs(40);

/// Most paths of one whole image that the web page puts together.
pub const WEB_IMAGE_PATHS: usize = 500_000;

/// Most bytes of lists of layers that are remembered.
pub const WEB_LISTS_BYTES: usize = 32 << 20;

/// Most layers and documents that are read for the web page at a time; each takes a decoder's window, of zstd up to 128 MiB.
pub const WEB_READERS: usize = 2;

/// Most look-ups for the web page at a time: threads and readers of the database that clients' requests lack meanwhile.
pub const WEB_LOOKS: usize = 4;

/// Longest wait for one of these.
pub const WEB_WAIT: Duration = Duration::from_secs(15);

/// Most requests of each kind that all upstreams of mirrors are asked at a time; fewer where descriptors are few.
pub const FETCHES: usize = 256;

/// Most entries of a list of proxies that are looked at.
pub const PROXIES: usize = 64;

/// Most components of a namespace that quotas can be about. Each costs a row for each content below it (a name has up to 128).
pub const NAMESPACE_DEPTH: usize = 4;

/// Most repositories that are looked at for a content before a push of it is refused early.
pub const QUOTA_PLACES: u64 = 100;

/// How long a device's code holds.
pub const DEVICE_LIFE: Duration = Duration::from_secs(600);

/// Time between two questions of a device.
pub const DEVICE_INTERVAL: Duration = Duration::from_secs(5);

/// Most devices that wait at a time.
pub const DEVICES: usize = 1000;

/// The same of one address, as it is counted.
pub const DEVICES_OF_ADDRESS: usize = 20;

/// Most wrong codes of devices that one user types within [`DEVICE_GUESS_TIME`].
pub const DEVICE_GUESSES: u32 = 10;

/// After which the count begins anew.
pub const DEVICE_GUESS_TIME: Duration = Duration::from_secs(600);

/// Longest name of a client.
pub const CLIENT_ID_BYTES: usize = 60;

/// Longest time that a login waits for a code to be typed, whatever a registry says.
pub const DEVICE_WAIT: Duration = Duration::from_secs(1800);

/// Shortest time between two questions whether it was, whatever a registry says.
pub const DEVICE_PAUSE_LEAST: Duration = Duration::from_secs(1);

/// Longest time between them.
pub const DEVICE_PAUSE_MOST: Duration = Duration::from_secs(60);

/// Longest code that is shown.
pub const DEVICE_CODE_BYTES: usize = 64;

/// Longest address of a page that is shown.
pub const DEVICE_PAGE_BYTES: usize = 2048;
