//! A line an event, in the manner of BuildKit's plain progress: `#number` marks the lines of one step.

use super::seconds;
use slipway_builder::{Event, Outcome, Progress, StepId};
use std::{
    collections::HashMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Instant,
};

#[derive(Default)]
pub(super) struct Plain {
    started: Mutex<HashMap<StepId, Instant>>,
}

impl Plain {
    fn line(&self, text: &str) {
        // a closed standard error must not stop the build
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { .. } | Event::Paused { .. } | Event::Resumed { .. } => {}
            Event::Resolving { reference } => self.line(&format!("resolving {reference}")),
            Event::Started { step, stage, number, total, text } => {
                started.insert(step, Instant::now());
                self.line(&format!("#{step} [{stage} {number}/{total}] {text}"));
            }
            Event::Output { step, bytes, .. } => {
                let time = started.get(&step).map_or(0.0, |began| began.elapsed().as_secs_f64());
                let text = String::from_utf8_lossy(bytes);
                self.line(&format!("#{step} {time:.3} {}", text.trim_end_matches(['\n', '\r'])));
            }
            Event::Finished { step, outcome, took, reason } => self.line(&match outcome {
                Outcome::Cached => format!("#{step} CACHED"),
                Outcome::Done => format!("#{step} DONE {}", seconds(took)),
                Outcome::Failed => format!("#{step} FAILED: {reason}"),
                Outcome::Cancelled => format!("#{step} CANCELED"),
            }),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Exporting => self.line("exporting the image"),
        }
    }
}
