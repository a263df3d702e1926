//! A JSON object an event, one a line, for programs.

use super::{Ending, Moved, Show};
use crate::show::live;
use slipway_builder::{Event, Outcome, Progress, Stream};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two objects on the bytes of one transfer.
const TELL: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Json {
    /// When a transfer was last told of.
    told: Mutex<HashMap<String, Instant>>,
}

fn write(value: &serde_json::Value) {
    live::print(&format!("{value}\n"));
}

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        let value = match event {
            // a record is of whole lines
            Event::Unfinished { .. } | Event::Known { .. } => return,
            Event::Planned { steps } => serde_json::json!({"event": "planned", "steps": steps}),
            Event::Resolving { reference } => {
                serde_json::json!({"event": "resolving", "reference": reference})
            }
            Event::Started { step, stage, number, total, line, text } => serde_json::json!({
                "event": "started", "step": step, "stage": stage, "number": number, "total": total, "line": line, "text": text,
            }),
            Event::Output { step, stream, bytes } => serde_json::json!({
                "event": "output", "step": step,
                "stream": if stream == Stream::Stdout { "stdout" } else { "stderr" },
                "text": String::from_utf8_lossy(bytes),
            }),
            Event::Paused { step, reason } => {
                serde_json::json!({"event": "paused", "step": step, "reason": reason})
            }
            Event::Resumed { step, reason, took } => serde_json::json!({
                "event": "resumed", "step": step, "reason": reason,
                "milliseconds": took.as_secs_f64() * 1000.0,
            }),
            Event::Finished { step, outcome, took, reason } => serde_json::json!({
                "event": "finished", "step": step,
                "outcome": match outcome {
                    Outcome::Cached => "cached",
                    Outcome::Done => "done",
                    Outcome::Failed => "failed",
                    Outcome::Cancelled => "cancelled",
                },
                "milliseconds": took.as_secs_f64() * 1000.0, "reason": reason,
            }),
            Event::Explained { why } => serde_json::json!({
                "event": "explained", "step": why.step.saturating_sub(1), "earlier": why.earlier, "causes": why.causes,
            }),
            Event::Warning { message } => serde_json::json!({"event": "warning", "message": message}),
            Event::Exporting => serde_json::json!({"event": "exporting"}),
        };
        write(&value);
    }
}

impl Show for Json {
    fn begin(&self, title: &str, parts: usize) {
        write(&serde_json::json!({"event": "begun", "title": title, "parts": parts}));
    }

    fn moved(&self, doing: &'static str, event: &Moved<'_>) {
        let value = match event {
            Moved::Started { name, size_bytes } => serde_json::json!({
                "event": "transfer", "doing": doing, "blob": name, "state": "started", "size_bytes": size_bytes,
            }),
            Moved::Advanced { name, done_bytes } => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if told.get(*name).is_some_and(|last| now.duration_since(*last) < TELL) {
                    return;
                }
                told.insert((*name).to_owned(), now);
                serde_json::json!({
                    "event": "transfer", "doing": doing, "blob": name, "state": "advanced", "done_bytes": done_bytes,
                })
            }
            Moved::Finished { name } => {
                self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(*name);
                serde_json::json!({"event": "transfer", "doing": doing, "blob": name, "state": "finished"})
            }
            Moved::Present { name } => {
                serde_json::json!({"event": "transfer", "doing": doing, "blob": name, "state": "present"})
            }
            Moved::Mounted { name, from } => serde_json::json!({
                "event": "transfer", "doing": doing, "blob": name, "state": "mounted", "from": from,
            }),
            Moved::Retrying { words } => serde_json::json!({"event": "warning", "message": words}),
        };
        write(&value);
    }

    fn end(&self, _: Ending) {}
}
