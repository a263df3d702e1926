//! `slipway man`.

use crate::{error::Failure, manual, service::output};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use std::path::{Path, PathBuf};

/// Write manual pages into a folder, one a command.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder; it is made where it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Carries the command out.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("FOLDER: cannot make `{}`: {error}", folder.display())))?;
    for (name, page) in pages()? {
        let path: &Path = &folder.join(name);
        output::write("FOLDER", path, &page)?;
    }
    Ok(0)
}

/// The pages, each with its file's name.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut pages = Vec::new();
    for (place, command) in manual::all() {
        let name = format!("slipway {place}").trim().replace(' ', "-");
        pages.push((format!("{name}.1"), page(&name, &place, command)?));
    }
    Ok(pages)
}

fn page(name: &str, place: &str, command: clap::Command) -> Result<Vec<u8>, Failure> {
    let usage = command.get_bin_name().unwrap_or(name).to_owned();
    let man = Man::new(command.name(name.to_owned()).display_name(name.to_owned()).bin_name(usage))
        .source(concat!("slipway ", env!("CARGO_PKG_VERSION")))
        .manual("Slipway");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if place.is_empty() {
        commands(&mut page)?;
    }
    examples(place, &mut page)?;
    Ok(page)
}

/// The first page's list of the others, by purpose.
fn commands(page: &mut Vec<u8>) -> Result<(), Failure> {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (place, command) in manual::all().into_iter().filter(|(place, _)| !place.is_empty()) {
        roff.control("TP", []);
        roff.text([roman(format!("slipway-{}(1)", place.replace(' ', "-")))]);
        roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    Ok(roff.to_writer(page)?)
}

fn examples(place: &str, page: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(own) = manual::pages::of(place) else { return Ok(()) };
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (words, line) in &own.examples {
        if let Some(words) = words {
            roff.control("PP", []);
            roff.text([roman(*words)]);
        }
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([roman(*line)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    Ok(roff.to_writer(page)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_that_help_has() {
        let pages = pages().expect("pages");
        let all = manual::all();
        assert_eq!(pages.len(), all.len());
        for ((name, page), (place, command)) in pages.iter().zip(all) {
            // roff writes hyphens and points so that they stay what they are
            let text =
                String::from_utf8(page.clone()).expect("text").replace("\\*(Aq", "'").replace('\\', "");
            assert!(text.contains(".TH slipway"), "{name}");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long() {
                    assert!(text.contains(&format!("--{long}")), "{name}: --{long} in\n{text}");
                }
                if arg.get_id() == "help" {
                    // a page is the longer one of the two that its words speak of
                    continue;
                }
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains(help.trim()), "{name}: `{help}` in\n{text}");
                if let Some(variable) = arg.get_env() {
                    assert!(text.contains(variable.to_str().expect("name")), "{name}: {variable:?}");
                }
            }
            for (_, line) in manual::pages::of(&place).into_iter().flat_map(|page| &page.examples) {
                assert!(text.contains(&line.replace('\\', "")), "{name}: `{line}` in\n{text}");
            }
        }
        assert!(pages.iter().any(|(name, _)| name == "slipway.1"));
        assert!(pages.iter().any(|(name, _)| name == "slipway-context-ls.1"));
    }
}
