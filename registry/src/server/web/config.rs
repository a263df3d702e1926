//! How containers are run from an image.

use super::image::pairs;
use maud::{Markup, html};
use slipway_oci::spec::ImageConfig;

/// An argument list as one types it.
fn words_of(arguments: &[String]) -> String {
    serde_json::to_string(arguments).expect("texts are JSON")
}

/// What a configuration says, a name and a value each; for a comparison too.
pub(super) fn lines(config: &ImageConfig) -> Vec<(String, String)> {
    let run = &config.config;
    let mut lines = vec![("Platform".to_owned(), config.platform.to_string())];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push((name.to_owned(), value));
        }
    };
    add("Created", config.created.clone());
    add("Author", config.author.clone());
    add("Entrypoint", run.entrypoint.as_deref().map(words_of));
    add("Command", run.cmd.as_deref().map(words_of));
    add("User", run.user.clone());
    add("Working directory", run.working_dir.clone());
    let keys = |map: &Option<std::collections::BTreeMap<String, serde_json::Value>>| {
        map.as_ref().map(|map| map.keys().take(200).cloned().collect::<Vec<_>>().join(", "))
    };
    add("Ports", keys(&run.exposed_ports));
    add("Volumes", keys(&run.volumes));
    add("Stop signal", run.stop_signal.clone());
    add("Shell", run.shell.as_deref().map(words_of));
    add("Health check", run.healthcheck.as_ref().map(|check| words_of(&check.test)));
    add("Triggers", Some(run.on_build.join("\n")));
    lines
}

/// Variables, a name and a value each.
pub(super) fn variables(config: &ImageConfig) -> Vec<(String, String)> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    config.config.env.iter().map(split).collect()
}

/// The section of a page.
pub(super) fn show(config: &ImageConfig) -> Markup {
    let (lines, variables) = (lines(config), variables(config));
    fn texts(all: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
        all.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    html! {
        section { h2 { "Configuration" } (pairs(texts(&lines))) }
        @if !variables.is_empty() { section { h2 { "Environment" } (pairs(texts(&variables))) } }
        @if let Some(labels) = config.config.labels.as_ref().filter(|labels| !labels.is_empty()) {
            section { h2 { "Labels" } (pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))) }
        }
        @if config.rootfs.diff_ids.is_empty() { p.note { "It has no layers." } }
    }
}
