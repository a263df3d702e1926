//! A JSON object an event, one a line, for programs.

use slipway_builder::{Event, Outcome, Progress, Stream};
use std::io::Write;

pub(super) struct Json;

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        let value = match event {
            Event::Planned { steps } => serde_json::json!({"event": "planned", "steps": steps}),
            Event::Resolving { reference } => {
                serde_json::json!({"event": "resolving", "reference": reference})
            }
            Event::Started { step, stage, number, total, text } => serde_json::json!({
                "event": "started", "step": step, "stage": stage, "number": number, "total": total, "text": text,
            }),
            Event::Output { step, stream, bytes } => serde_json::json!({
                "event": "output", "step": step,
                "stream": if stream == Stream::Stdout { "stdout" } else { "stderr" },
                "text": String::from_utf8_lossy(bytes),
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
            Event::Paused { step, reason } => {
                serde_json::json!({"event": "paused", "step": step, "reason": reason})
            }
            Event::Resumed { step, reason, took } => serde_json::json!({
                "event": "resumed", "step": step, "reason": reason,
                "milliseconds": took.as_secs_f64() * 1000.0,
            }),
            Event::Warning { message } => serde_json::json!({"event": "warning", "message": message}),
            Event::Exporting => serde_json::json!({"event": "exporting"}),
        };
        // a closed standard error must not stop the build
        let _ = writeln!(std::io::stderr().lock(), "{value}");
    }
}
