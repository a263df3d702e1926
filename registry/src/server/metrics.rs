//! Numbers about the server, in Prometheus' text form (exposition format 0.0.4).
//!
//! Labels are of a closed set each (class of route, method, status), so that no request can make more of them. No name of a
//! repository or user is among them.

use super::{
    quota::{self, Fullness, Quota},
    storage::{Asked, Counts, Dependency, Storage},
    traces::Tracer,
};
use crate::limits;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Upper bounds of the histogram of durations, in milliseconds.
const BOUNDS_MS: [u64; 11] = [1, 5, 10, 25, 50, 100, 500, 1000, 5000, 30_000, 120_000];

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What others count, at the moment that the numbers are asked for.
pub(super) struct Gauges<'a> {
    pub(super) storage: &'a Storage,
    pub(super) quotas: &'a [Quota],
    pub(super) most_connections: usize,
    pub(super) draining: bool,
    /// Notices that wait, where there are webhooks.
    pub(super) waiting: Option<u64>,
    /// What traces are given to, where they go anywhere.
    pub(super) tracer: Option<&'a Tracer>,
}

/// A request that was answered, as far as numbers go.
pub(super) struct Answered {
    pub(super) class: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) took: Duration,
    pub(super) sent: u64,
    pub(super) received: u64,
}

#[derive(Default)]
struct Times {
    buckets: [u64; BOUNDS_MS.len()],
    count: u64,
    sum: Duration,
    sent: u64,
    received: u64,
}

type Requests = BTreeMap<(&'static str, &'static str, u16), u64>;

/// What is counted.
pub(super) struct Metrics {
    requests: Mutex<Requests>,
    times: Mutex<BTreeMap<&'static str, Times>>,
    /// Requests under way.
    pub(super) active: AtomicUsize,
    /// Open connections.
    pub(super) connections: AtomicUsize,
    failures: AtomicU64,
    /// Requests to mirrors that were answered from what is here, and those that upstream was asked for.
    mirrored: [AtomicU64; 2],
    /// Bytes that the scrub read.
    pub(super) scrubbed: AtomicU64,
    /// Contents that were found to be damaged or missing.
    pub(super) damaged: AtomicU64,
    /// Pointers that the collection looked at and took.
    pub(super) collected: AtomicU64,
    /// Bytes of content that it freed.
    pub(super) freed: AtomicU64,
    /// When its last pass ended, in seconds since 1970.
    passed: AtomicU64,
    stored: Mutex<Option<(Instant, Counts)>>,
    filled: Mutex<Option<(Instant, Vec<Fullness>)>>,
    started: SystemTime,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: Mutex::default(),
            times: Mutex::default(),
            active: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
            mirrored: Default::default(),
            scrubbed: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            collected: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            stored: Mutex::default(),
            filled: Mutex::default(),
            started: SystemTime::now(),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic happens while numbers are held")
}

/// What a replica asked of its database and of the store of its content.
fn dependencies(storage: &Storage, text: &mut Text) {
    let asked = |of: Dependency| storage.asked(of).map(|asked| (of.name(), asked));
    let all: Vec<(&str, Asked)> = Dependency::ALL.into_iter().filter_map(asked).collect();
    type Value = fn(&Asked) -> f64;
    let values: [(&str, &str, Value); 3] = [
        ("slipway_dependency_requests_total", "Requests to what a replica depends on.", |one| {
            one.requests as f64
        }),
        ("slipway_dependency_errors_total", "Those that were not answered, or refused.", |one| {
            one.errors as f64
        }),
        ("slipway_dependency_seconds_total", "How long they took.", |one| one.time.as_secs_f64()),
    ];
    for (name, help, value) in values.into_iter().filter(|_| !all.is_empty()) {
        text.head(name, "counter", help);
        for (dependency, asked) in &all {
            text.line(name, &format!("{{dependency=\"{dependency}\"}}"), value(asked));
        }
    }
}

/// What goes on behind requests: traces, and the database.
fn background(now: &Gauges<'_>, text: &mut Text) {
    if let Some(tracer) = now.tracer {
        let (sent, lost) = (tracer.sent.load(Ordering::Relaxed), tracer.dropped.load(Ordering::Relaxed));
        text.one("slipway_spans_sent_total", "counter", "Spans of traces that a collector took.", "", sent);
        text.one("slipway_spans_dropped_total", "counter", "Spans of traces that were lost.", "", lost);
    }
    dependencies(now.storage, text);
    let queue = now.storage.queue();
    text.one("slipway_database_queue", "gauge", "Writes that wait for the database.", "", queue);
    let written = now.storage.written();
    let (help, many) = ("Transactions that wrote.", written.transactions);
    text.one("slipway_database_transactions_total", "counter", help, "", many);
    let (help, long) = ("How long no other could write.", written.locked.as_secs_f64());
    text.one("slipway_database_locked_seconds_total", "counter", help, "", long);
}

impl Metrics {
    /// Counts a request.
    pub(super) fn count(&self, answered: &Answered) {
        *held(&self.requests).entry((answered.class, answered.method, answered.status)).or_default() += 1;
        let mut times = held(&self.times);
        let times = times.entry(answered.class).or_default();
        let took = answered.took.as_millis();
        for (bucket, bound) in times.buckets.iter_mut().zip(BOUNDS_MS) {
            *bucket += u64::from(took <= u128::from(bound));
        }
        times.count += 1;
        times.sum += answered.took;
        times.sent += answered.sent;
        times.received += answered.received;
    }

    /// Counts a failure of the registry's own.
    pub(super) fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request to a mirror; `here`: no upstream was asked.
    pub(super) fn mirror(&self, here: bool) {
        self.mirrored[usize::from(!here)].fetch_add(1, Ordering::Relaxed);
    }

    /// A pass of the collection is over.
    pub(super) fn passed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.passed.store(now, Ordering::Relaxed);
    }

    /// What is stored, looked up again only where it is old: it takes the database a while. Blocks.
    fn stored(&self, storage: &Storage) -> Option<Counts> {
        let mut stored = held(&self.stored);
        if let Some((when, counts)) = &*stored
            && when.elapsed() < limits::METRICS_AGE
        {
            return Some(counts.clone());
        }
        let counts = storage.counts().ok().flatten()?;
        *stored = Some((Instant::now(), counts.clone()));
        Some(counts)
    }

    /// How full quotas are, in the same way; that of a sentence, so that there are no more labels than sentences.
    fn filled(&self, now: &Gauges<'_>) -> Vec<Fullness> {
        let mut filled = held(&self.filled);
        let same = |all: &[Fullness]| {
            all.iter().map(|one| one.quota.as_str()).eq(now.quotas.iter().map(|quota| quota.text()))
        };
        if let Some((when, all)) = &*filled
            && when.elapsed() < limits::METRICS_AGE
            && same(all)
        {
            return all.clone();
        }
        let all = quota::fullness(now.quotas, now.storage).unwrap_or_default();
        *filled = Some((Instant::now(), all.clone()));
        all
    }

    fn quotas(&self, now: &Gauges<'_>, text: &mut Text) {
        let all = self.filled(now);
        type Value = fn(&Fullness) -> f64;
        let values: [(&str, &str, Value); 3] = [
            ("slipway_quota_fullest_ratio", "How full the fullest scope of a quota is, of 1.", |one| {
                one.fullest
            }),
            ("slipway_quota_near_scopes", "Scopes of a quota that are nine tenths full or more.", |one| {
                one.near as f64
            }),
            ("slipway_quota_scopes", "Scopes that a quota is about.", |one| one.scopes as f64),
        ];
        for (name, help, value) in values.into_iter().filter(|_| !all.is_empty()) {
            text.head(name, "gauge", help);
            for one in &all {
                // no sentence has a quote or a backslash
                text.line(name, &format!("{{quota=\"{}\"}}", one.quota), value(one));
            }
        }
    }

    /// All of it. Blocks.
    pub(super) fn text(&self, now: &Gauges<'_>) -> String {
        let mut text = Text::default();
        text.one(
            "slipway_info",
            "gauge",
            "The version.",
            &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")),
            1,
        );
        let started = self.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        text.one(
            "process_start_time_seconds",
            "gauge",
            "When the process began, in seconds since 1970.",
            "",
            started,
        );
        text.head("slipway_requests_total", "counter", "Requests that were answered.");
        for ((class, method, status), count) in &*held(&self.requests) {
            let labels = format!("{{route=\"{class}\",method=\"{method}\",status=\"{status}\"}}");
            text.line("slipway_requests_total", &labels, count);
        }
        self.durations(&mut text);
        let active = self.active.load(Ordering::Relaxed);
        text.one("slipway_requests_active", "gauge", "Requests whose reply is not complete.", "", active);
        let connections = self.connections.load(Ordering::Relaxed);
        text.one("slipway_connections", "gauge", "Open connections.", "", connections);
        text.one("slipway_connections_max", "gauge", "Most open connections.", "", now.most_connections);
        text.head(
            "slipway_mirror_requests_total",
            "counter",
            "Manifests and blobs that mirrors were asked for.",
        );
        for (from, count) in ["storage", "upstream"].iter().zip(&self.mirrored) {
            let labels = format!("{{from=\"{from}\"}}");
            text.line("slipway_mirror_requests_total", &labels, count.load(Ordering::Relaxed));
        }
        let failures = self.failures.load(Ordering::Relaxed);
        text.one("slipway_failures_total", "counter", "Failures of the registry's own.", "", failures);
        text.one("slipway_draining", "gauge", "Whether the server is stopping.", "", u8::from(now.draining));
        self.scrub(now.storage, &mut text);
        self.collection(&mut text);
        if let Some(counts) = self.stored(now.storage) {
            for (name, help, value) in [
                ("slipway_store_repositories", "Repositories.", counts.repositories),
                ("slipway_store_manifests", "Manifests, each once in each repository.", counts.manifests),
                ("slipway_store_tags", "Tags.", counts.tags),
                ("slipway_store_blobs", "Different blobs.", counts.blobs),
                ("slipway_store_bytes", "Bytes of different blobs.", counts.bytes),
                ("slipway_uploads_open", "Unfinished uploads.", counts.uploads),
            ] {
                text.one(name, "gauge", help, "", value);
            }
        }
        self.quotas(now, &mut text);
        if let Some(waiting) = now.waiting {
            text.one("slipway_notices_waiting", "gauge", "Notices that wait for webhooks.", "", waiting);
        }
        background(now, &mut text);
        text.0
    }

    fn scrub(&self, storage: &Storage, text: &mut Text) {
        for (name, help, value) in [
            ("slipway_scrubbed_bytes_total", "Bytes that the scrub read.", &self.scrubbed),
            ("slipway_damaged_total", "Contents found damaged or missing, in each round.", &self.damaged),
        ] {
            text.one(name, "counter", help, "", value.load(Ordering::Relaxed));
        }
        let Ok(round) = storage.round() else { return };
        for (name, help, value) in [
            ("slipway_scrub_began_seconds", "When the round of the scrub began, since 1970.", round.begun),
            (
                "slipway_scrub_ended_seconds",
                "When it ended, since 1970; 0 while it goes on.",
                round.ended.unwrap_or(0),
            ),
            ("slipway_scrub_damaged", "Contents that it found damaged or missing.", round.damaged as i64),
        ] {
            text.one(name, "gauge", help, "", value);
        }
    }

    fn collection(&self, text: &mut Text) {
        for (name, kind, help, value) in [
            (
                "slipway_collected_total",
                "counter",
                "Pointers that the collection took away.",
                &self.collected,
            ),
            ("slipway_collected_bytes_total", "counter", "Bytes of content that it removed.", &self.freed),
            (
                "slipway_collection_ended_seconds",
                "gauge",
                "When its last pass ended, since 1970; 0 before the first.",
                &self.passed,
            ),
        ] {
            text.one(name, kind, help, "", value.load(Ordering::Relaxed));
        }
    }

    fn durations(&self, text: &mut Text) {
        let times = held(&self.times);
        text.head("slipway_request_seconds", "histogram", "Time from a request's head to its reply's end.");
        for (class, times) in &*times {
            for (bound, count) in BOUNDS_MS.iter().zip(&times.buckets) {
                let labels = format!("{{route=\"{class}\",le=\"{}\"}}", *bound as f64 / 1000.0);
                text.line("slipway_request_seconds_bucket", &labels, count);
            }
            let labels = format!("{{route=\"{class}\",le=\"+Inf\"}}");
            text.line("slipway_request_seconds_bucket", &labels, times.count);
            let labels = format!("{{route=\"{class}\"}}");
            text.line("slipway_request_seconds_sum", &labels, times.sum.as_secs_f64());
            text.line("slipway_request_seconds_count", &labels, times.count);
        }
        type Bytes = fn(&Times) -> u64;
        let both: [(&str, &str, Bytes); 2] = [
            ("slipway_sent_bytes_total", "Bytes of replies' bodies.", |times| times.sent),
            ("slipway_received_bytes_total", "Bytes of requests' bodies.", |times| times.received),
        ];
        for (name, help, bytes) in both {
            text.head(name, "counter", help);
            for (class, times) in &*times {
                text.line(name, &format!("{{route=\"{class}\"}}"), bytes(times));
            }
        }
    }
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a text takes everything");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{name}{labels} {value}").expect("a text takes everything");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, labels, value);
    }
}
