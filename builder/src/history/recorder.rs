//! Writes a build's record while it runs, from the events that progress sees.

use super::{
    BaseRecord, BuildRecord, CommandRecord, Ended, History, LayerRecord, State, StepLog, StepOutcome,
    StepRecord,
    mask::Masks,
    record::{Line, VERSION},
};
use crate::{BuildError, BuildOutput, BuildRequest, Event, Fact, Progress, StepError, StepId, limits, why};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Passes events on, and writes down what has to be known of them later. Nothing is written before a step is carried out or
/// fails.
pub(crate) struct Recorder<'a> {
    inner: &'a dyn Progress,
    history: History,
    masks: Masks,
    began: Instant,
    state: Mutex<Recording>,
    explain: bool,
    /// The builds before this one, read when they are first asked for.
    earlier: OnceLock<Vec<BuildRecord>>,
}

struct Recording {
    build: BuildRecord,
    steps: BTreeMap<StepId, StepRecord>,
    kept: Kept,
}

/// What of the build is on the disk.
enum Kept {
    /// Nothing yet.
    Nothing,
    /// The record, open and locked, in this folder.
    Open(File, PathBuf),
    /// Nothing will be: writing has failed, or it is not wanted.
    Broken,
}

impl<'a> Recorder<'a> {
    /// The recorder of a build that begins now.
    pub(crate) fn new(
        inner: &'a dyn Progress,
        history: History,
        request: &BuildRequest,
        names: Vec<String>,
    ) -> Recorder<'a> {
        let masks = Masks::of(request);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shown = |text: &str| cut(&masks.text(text));
        // one that a secret was in is not kept: with a mask in it, it would be another line
        let is_clean = request.line.0.iter().all(|word| masks.text(word) == *word);
        let line = if is_clean { request.line.0.clone() } else { Vec::new() };
        let build = BuildRecord {
            version: VERSION,
            began_ms: micros(now) / 1000,
            recipe: shown(&request.recipe_name),
            context: request.context_name.as_deref().map(shown),
            target: request.target.as_deref().map(shown),
            platform: request.platform.to_string(),
            arguments: request.build_args.keys().map(|name| cut(name)).collect(),
            secrets: request.secrets.keys().map(|name| cut(name)).collect(),
            names,
            no_cache: request.no_cache,
            advice: request.advice.clone(),
            line,
            folder_of_line: request.line.1.clone(),
            ..BuildRecord::default()
        };
        let kept = if request.is_forgotten { Kept::Broken } else { Kept::Nothing };
        let state = Mutex::new(Recording { build, steps: BTreeMap::new(), kept });
        let (explain, earlier) = (request.explain, OnceLock::new());
        Recorder { inner, history, masks, began: Instant::now(), state, explain, earlier }
    }

    fn state(&self) -> MutexGuard<'_, Recording> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a step whose command is about to run.
    pub(crate) fn log(&self, step: StepId) -> StepLog {
        let mut state = self.state();
        self.begin(&mut state);
        let path = match &state.kept {
            Kept::Open(_, folder) => Some(folder.join(format!("{}.log", step + 1))),
            _ => None,
        };
        StepLog::new(path, self.masks.clone())
    }

    /// Ends a step's log; answers where it is.
    pub(crate) fn logged(&self, step: StepId, log: StepLog) -> Option<PathBuf> {
        let (path, written, kept) = log.finish();
        if let Some(record) = self.state().steps.get_mut(&step) {
            (record.output_bytes, record.log_bytes) = (written, kept);
        }
        path
    }

    /// The build's id, where anything is kept of it.
    pub(crate) fn id(&self) -> Option<String> {
        let state = self.state();
        matches!(state.kept, Kept::Open(..)).then(|| state.build.id.clone())
    }

    /// Writes down how the build ended, and hands the whole record to who wants it.
    pub(crate) fn end(
        &self,
        result: &Result<BuildOutput, BuildError>,
        record: Option<&Mutex<Option<BuildRecord>>>,
    ) {
        let mut state = self.state();
        let (outcome, image, error) = match result {
            Ok(output) => (State::Built, Some(output.image.manifest.digest.clone()), None),
            Err(error) => {
                let cancelled = match error {
                    BuildError::Cancelled => true,
                    BuildError::Step(at) => matches!(at.error, StepError::Cancelled),
                    _ => false,
                };
                let words = match error {
                    BuildError::Step(at) => slipway_oci::error::chain(&at.error),
                    other => slipway_oci::error::chain(other),
                };
                (if cancelled { State::Cancelled } else { State::Failed }, None, Some(self.shown(&words)))
            }
        };
        let took_us = micros(self.began.elapsed());
        if let Some(slot) = record {
            let steps = state.steps.values().cloned().collect();
            let end = Some(Ended { state: outcome, took_us, image: image.clone(), error: error.clone() });
            *slot.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(BuildRecord { steps, end, ..state.build.clone() });
        }
        if matches!(state.kept, Kept::Nothing) {
            return;
        }
        let mut lines: Vec<Line> =
            state.steps.values().map(|step| Line::Step(Box::new(step.clone()))).collect();
        lines.push(Line::End(Ended { state: outcome, took_us, image, error }));
        state.write(&lines);
        drop(state);
        // who cannot tidy leaves it to the next build
        let _ = self.history.tidy();
    }

    /// Makes the record, where there is none: once something is carried out.
    fn begin(&self, state: &mut Recording) {
        if !matches!(state.kept, Kept::Nothing) {
            return;
        }
        match self.history.create(&mut state.build) {
            Ok((file, folder)) => {
                state.kept = Kept::Open(file, folder);
                let mut lines = vec![Line::Build(Box::new(state.build.clone()))];
                let ended = state.steps.values().filter(|step| step.outcome.is_some());
                lines.extend(ended.map(|step| Line::Step(Box::new(step.clone()))));
                state.write(&lines);
            }
            Err(_) => state.kept = Kept::Broken,
        }
    }

    fn shown(&self, text: &str) -> String {
        cut(&self.masks.text(text))
    }

    fn note(&self, event: &Event<'_>) {
        match *event {
            Event::Started { step, stage, number, total, line, text } => {
                let record = StepRecord {
                    number: step + 1,
                    stage: cut(stage),
                    place: number,
                    total,
                    line,
                    text: self.shown(text),
                    began_us: micros(self.began.elapsed()),
                    ..StepRecord::default()
                };
                self.state().steps.insert(step, record);
            }
            Event::Known { step, ref fact } => self.fact(step, fact),
            Event::Finished { step, outcome, took, reason } => {
                let mut state = self.state();
                let outcome = StepOutcome::from(outcome);
                if outcome == StepOutcome::Failed {
                    self.begin(&mut state);
                }
                let Some(record) = state.steps.get_mut(&step) else { return };
                record.outcome = Some(outcome);
                record.ended_us = micros(self.began.elapsed());
                record.took_us = micros(took);
                record.reason = self.shown(reason);
                let line = Line::Step(Box::new(record.clone()));
                state.write(&[line]);
            }
            _ => {}
        }
    }

    /// Tells why a step was carried out, before it is told to have ended.
    fn explain(&self, event: &Event<'_>) {
        let Event::Finished { step, reason, .. } = *event else { return };
        let (build, mut record) = {
            let state = self.state();
            let Some(record) = state.steps.get(&step).filter(|record| record.ran) else { return };
            let steps = state.steps.values().cloned().collect();
            (BuildRecord { steps, ..state.build.clone() }, record.clone())
        };
        reason.clone_into(&mut record.reason);
        let earlier = self.earlier.get_or_init(|| self.history.before(&build).unwrap_or_default());
        self.inner.event(Event::Explained { why: &why::why(&self.history, earlier, &build, &record) });
    }

    fn fact(&self, step: StepId, fact: &Fact<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(record) = state.steps.get_mut(&step) else { return };
        match *fact {
            Fact::Key { key, description, json_bytes } => {
                record.key = Some(key.clone());
                record.description =
                    (json_bytes <= limits::RECORD_DESCRIPTION_BYTES).then(|| description.clone());
            }
            Fact::Base { name, chain } => {
                record.base = Some(BaseRecord { name: cut(name), chain: chain.to_owned() });
            }
            Fact::Making => {
                record.ran = true;
                // a build that is killed in it has it too
                let line = Line::Step(Box::new(record.clone()));
                self.begin(state);
                state.write(&[line]);
            }
            Fact::Selected { listing } => {
                let Kept::Open(_, folder) = &state.kept else { return };
                let path = folder.join(format!("{}.files", step + 1));
                record.has_files =
                    listing.len() <= limits::LISTING_BYTES && write_new(&path, listing).is_ok();
            }
            Fact::Layer(form) => {
                let (diff_id, blob) = (form.diff_id.clone(), &form.descriptor);
                let (digest, size_bytes) = (blob.digest.clone(), blob.size_bytes);
                record.layer = Some(LayerRecord { diff_id, digest, size_bytes });
            }
            Fact::Command { status, used, above_bytes } => {
                let used = used.unwrap_or_default();
                record.command = Some(CommandRecord {
                    status,
                    user_us: micros(used.user),
                    system_us: micros(used.system),
                    largest_bytes: Some(used.largest_bytes).filter(|bytes| *bytes > above_bytes),
                });
            }
        }
    }
}

impl Recording {
    fn write(&mut self, lines: &[Line]) {
        let Kept::Open(file, _) = &mut self.kept else { return };
        let mut text = String::new();
        for line in lines {
            let Ok(json) = serde_json::to_string(line) else { continue };
            text.push_str(&json);
            text.push('\n');
        }
        if file.write_all(text.as_bytes()).is_err() {
            self.kept = Kept::Broken;
        }
    }
}

impl Progress for Recorder<'_> {
    fn event(&self, event: Event<'_>) {
        // what commands write goes to logs, and passes by here often
        if !matches!(event, Event::Output { .. } | Event::Unfinished { .. }) {
            if self.explain {
                self.explain(&event);
            }
            self.note(&event);
        }
        self.inner.event(event);
    }
}

fn write_new(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A text of bounded length.
fn cut(text: &str) -> String {
    match text.char_indices().nth(limits::RECORD_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
