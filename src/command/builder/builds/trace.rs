//! A build as a trace in Chrome's format, which Perfetto and `chrome://tracing` read: a row a stage, a bar a step.
//!
//! The format is the "JSON Object Format" of the Trace Event Format: complete events (`X`) with microseconds, names of rows by
//! metadata events (`M`).

use crate::{
    app::Global,
    error::Failure,
    service::output::Output,
    show::{say, text},
};
use serde_json::{Value, json};
use slipway_builder::history::{BuildRecord, StepRecord};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file that is written [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// An id or its beginning, `^N` for the one N before the last, or an image's name [default: the last]
    #[arg(value_name = "BUILD")]
    build: Option<String>,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let output = arguments.output.as_ref().map(|path| Output::prepare("--output", path)).transpose()?;
    let build = super::history(global)?.find(arguments.build.as_deref())?;
    let trace = of(&build).to_string();
    match output {
        Some(output) => output.finish_with(format!("{trace}\n").as_bytes())?,
        None => say(trace)?,
    }
    Ok(0)
}

/// The trace of builds under way, for a file.
pub(in crate::command::builder) struct Trace {
    file: Mutex<Option<Output>>,
    is_wanted: bool,
    /// Where the record of the build under way comes.
    slot: Mutex<Option<BuildRecord>>,
    records: Mutex<Vec<BuildRecord>>,
}

impl Trace {
    /// One for the file at `path`, which is found not to be one before anything is built; none without, unless the records are
    /// `asked` for.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::command::builder) fn prepare(path: Option<&Path>, asked: bool) -> Result<Trace, Failure> {
        let file = path.map(|path| Output::prepare("--trace", path)).transpose()?;
        Ok(Trace {
            is_wanted: file.is_some() || asked,
            file: Mutex::new(file),
            slot: Mutex::default(),
            records: Mutex::default(),
        })
    }

    /// Where a build's record goes.
    pub(in crate::command::builder) fn slot(&self) -> Option<&Mutex<Option<BuildRecord>>> {
        self.is_wanted.then_some(&self.slot)
    }

    /// Takes the record of a build that has ended.
    pub(in crate::command::builder) fn take(&self) {
        let record = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.records.lock().unwrap_or_else(PoisonError::into_inner).extend(record);
    }

    /// The records that were taken, a build each.
    pub(in crate::command::builder) fn records(&self) -> Vec<BuildRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the file; nothing where no build came so far as to have steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::command::builder) fn write(&self) -> Result<(), Failure> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        match file.filter(|_| !records.is_empty()) {
            Some(file) => Ok(file.finish_with(format!("{}\n", of_all(&records)).as_bytes())?),
            None => Ok(()),
        }
    }
}

/// The traces of several builds as one: a process each.
fn of_all(builds: &[BuildRecord]) -> Value {
    let mut all = Value::Null;
    for (number, build) in builds.iter().enumerate() {
        let mut one = of(build);
        for event in one["traceEvents"].as_array_mut().into_iter().flatten() {
            event["pid"] = json!(number + 1);
        }
        match all.get_mut("traceEvents").and_then(Value::as_array_mut) {
            Some(events) => events.append(one["traceEvents"].as_array_mut().unwrap_or(&mut Vec::new())),
            None => all = one,
        }
    }
    all
}

/// The trace of a build.
pub(in crate::command::builder) fn of(build: &BuildRecord) -> Value {
    let mut stages: Vec<&str> = Vec::new();
    let mut events = vec![
        json!({"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": super::name(build)}}),
    ];
    for step in &build.steps {
        let row = match stages.iter().position(|stage| *stage == step.stage) {
            Some(row) => row,
            None => {
                stages.push(&step.stage);
                let name = text::line(&format!("stage {}", step.stage));
                let row = stages.len();
                events.push(
                    json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": row, "args": {"name": name}}),
                );
                row - 1
            }
        };
        events.push(event(step, row + 1));
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events, "otherData": {"build": build.id, "state": build.state()}})
}

fn event(step: &StepRecord, row: usize) -> Value {
    json!({
        "ph": "X",
        "name": text::line(&step.text),
        "cat": step.outcome.map_or("unended", |outcome| outcome.word()),
        "ts": step.began_us,
        "dur": step.ended_us.saturating_sub(step.began_us),
        "pid": 1,
        "tid": row,
        "args": {
            "step": step.number,
            "line": step.line,
            "reason": text::line(&step.reason),
            "own_us": step.took_us,
            "layer_bytes": step.layer.as_ref().map(|layer| layer.size_bytes),
            "user_us": step.command.as_ref().map(|command| command.user_us),
            "system_us": step.command.as_ref().map(|command| command.system_us),
            "status": step.command.as_ref().map(|command| command.status),
            "output_bytes": step.output_bytes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_stage_and_a_bar_a_step() {
        let step = |number, stage: &str, began_us| StepRecord {
            number,
            stage: stage.to_owned(),
            text: format!("RUN {number}\u{1b}[2J"),
            began_us,
            ended_us: began_us + 7,
            ..StepRecord::default()
        };
        let steps = vec![step(1, "one", 0), step(2, "two", 3), step(3, "one", 9)];
        let trace = of(&BuildRecord { steps, ..BuildRecord::default() });
        let events = trace["traceEvents"].as_array().expect("events");
        let bars: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        let rows: Vec<_> = bars.iter().map(|bar| bar["tid"].as_u64().expect("row")).collect();
        assert_eq!(rows, [1, 2, 1]);
        assert_eq!((&bars[2]["ts"], &bars[2]["dur"]), (&9.into(), &7.into()));
        assert!(!bars[0]["name"].as_str().expect("name").contains('\u{1b}'));
        assert_eq!(events.len(), 6);
    }
}
