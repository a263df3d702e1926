//! `build` with several targets: a build for each, side by side, of one recipe and context.

use super::{Arguments, Desk, Parsed, Prepared, Purpose, listen};
use crate::{
    app::{App, Global},
    command::builder::{
        debug,
        together::{Waiting, build_all},
    },
    error::Failure,
    progress::{self, Ending},
    request::{build::targets, cache::Place, output::Kind},
    service::output::Output,
};
use slipway_builder::Cancel;
use std::path::PathBuf;

/// What a line asks for.
pub(super) enum Lines {
    /// One image.
    One(Box<Arguments>),
    /// One of each target.
    Several(Several),
}

/// More than one target of one line.
pub(super) struct Several {
    lines: Vec<(String, Arguments)>,
    /// Where it is written what came of each.
    metadata: Option<PathBuf>,
}

/// Reads the targets of a line.
///
/// # Errors
/// When what it asks for is meant for one of several, and it does not say for which.
pub(super) fn lines(arguments: Arguments) -> Result<Lines, Failure> {
    let mut targets = targets(&arguments.targets)?;
    if targets.len() < 2 {
        let (stage, names) = targets.pop().unzip();
        let tags = [arguments.tags.clone(), names.unwrap_or_default()].concat();
        return Ok(Lines::One(Box::new(Arguments {
            targets: stage.into_iter().collect(),
            tags,
            ..arguments
        })));
    }
    check(&arguments)?;
    let line = |(stage, tags): (String, Vec<_>)| {
        let line = Arguments { targets: vec![stage.clone()], tags, metadata_file: None, ..arguments.clone() };
        // what only has a meaning with a name is done for those that have one
        let push = line.push && !line.tags.is_empty();
        (stage, Arguments { push, ..line })
    };
    let lines: Vec<_> = targets.into_iter().map(line).collect();
    if arguments.push && lines.iter().all(|(_, line)| !line.push) {
        let words = "--push needs a name: none of the targets has one";
        return Err(Failure::usage(words).with_hint("write --target STAGE=NAME"));
    }
    Ok(Lines::Several(Several { lines, metadata: arguments.metadata_file }))
}

/// What several targets cannot have in common.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let refuse = |words: &str, hint: &str| Err(Failure::usage(words.to_owned()).with_hint(hint.to_owned()));
    if !arguments.tags.is_empty() {
        return refuse(
            "--tag names one image, and there are several targets",
            "write --target STAGE=NAME[:TAG]",
        );
    }
    if arguments.context == "-" || arguments.file.as_deref().is_some_and(|file| file.as_os_str() == "-") {
        let hint = "name a folder and a file, or build one target at a time";
        return refuse("several targets cannot all read standard input", hint);
    }
    let once = [
        ("--iidfile", arguments.iidfile.is_some()),
        ("--digest-file", arguments.digest_file.is_some()),
        ("--image-name-with-digest-file", arguments.image_name_with_digest_file.is_some()),
        ("--image-name-tag-with-digest-file", arguments.image_name_tag_with_digest_file.is_some()),
        ("--trace", arguments.trace.is_some()),
    ];
    if let Some((flag, _)) = once.iter().find(|(_, given)| *given) {
        let words = format!("{flag} is written once, and there are several targets");
        return refuse(&words, "--metadata-file has what came of each; or build one target at a time");
    }
    let parsed = Parsed::of(&Arguments { push: false, ..arguments.clone() })?;
    if parsed.outputs.iter().any(|output| !matches!(output.kind, Kind::Image { .. } | Kind::Nothing)) {
        let hint = "leave --output out, or let a bake file give each target its own";
        return refuse("one result of --output cannot be that of several targets", hint);
    }
    if parsed.outputs.iter().any(|output| !output.names.is_empty()) {
        return refuse(
            "--output names one image, and there are several targets",
            "write --target STAGE=NAME[:TAG]",
        );
    }
    if parsed.to.iter().any(|to| to.place != Place::Inline) {
        let hint = "let a bake file give each target its own";
        return refuse("one place of --cache-to cannot be that of several targets", hint);
    }
    Ok(())
}

impl Several {
    /// Builds them.
    pub(super) fn build(self, global: &Global, purpose: Purpose<'_>) -> Result<u8, Failure> {
        let metadata = self.metadata.map(|path| Output::prepare("--metadata-file", &path)).transpose()?;
        let (_, first) = &self.lines[0];
        let style = debug::style(first.progress, first.quiet, purpose.shell.is_some());
        let app = App::open_for_containers(global)?;
        let progress = progress::of(style);
        let desk = Desk { purpose, ..Desk::new(&app, global, style, &*progress) };
        let (mut jobs, mut status) = (Vec::new(), 0);
        for (name, line) in self.lines {
            let parsed = Parsed::of(&line)?;
            parsed.check_agents()?;
            match desk.prepare(Some(name.clone()), &line, parsed)? {
                Prepared::Checked(found) => status = status.max(found),
                Prepared::Job(job) => jobs.push(Waiting { name, needs: Vec::new(), job: *job }),
            }
        }
        if jobs.is_empty() {
            return Ok(status);
        }
        let cancel = Cancel::new()?;
        let over = listen(&cancel, app.store.root())?;
        let built = build_all(&desk, jobs, &cancel, &over);
        progress.end(if built.is_ok() { Ending::Finished } else { Ending::Failed });
        let built = built?;
        if let Some(file) = metadata {
            file.finish_with(
                format!("{:#}\n", serde_json::Value::Object(built.into_iter().collect())).as_bytes(),
            )?;
        }
        app.store.maintain()?;
        Ok(status)
    }
}
