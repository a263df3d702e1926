//! Where an image comes from, in SLSA's words (slsa.dev, "Provenance" v1).
//!
//! The shape of `externalParameters` and of what is added to `metadata` is BuildKit's (`docs/attestations/slsa-definitions.md`), with
//! this builder's name before what it adds; the steps are those of this builder's history in the place of LLB. The smallest form has no
//! build argument, label, secret's name or step, and neither form a path of the machine. Values of secrets and what URLs say of a user
//! are masked wherever they stand.

use super::Material;
use crate::{
    BuildRequest, NetworkMode, Operation,
    history::{BuildRecord, Masks, StepRecord},
};
use serde_json::{Map, Value, json};
use slipway_oci::{Platform, spec::rfc3339};
use std::path::Path;

/// The type of SLSA's provenance.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// Says how the parameters are to be read: as docs/trust.md has it.
pub const BUILD_TYPE: &str = "urn:slipway:build:1";
/// Who builds where nobody says.
const BUILDER: &str = "urn:slipway:builder";
/// What stands in the place of what is nobody's business.
const MASK: &str = "***";
/// Names of parameters of URLs whose values let somebody in.
const CREDENTIALS: [&str; 8] =
    ["token", "sig", "signature", "password", "secret", "credential", "auth", "key"];

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Sources, and nothing that could be somebody's secret.
    #[default]
    Min,
    /// All of it: arguments, steps, the recipe.
    Max,
}

/// A commit and the repository that it is of, which nobody has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vcs {
    /// The repository.
    pub source: Option<String>,
    /// The commit.
    pub revision: String,
}

/// What provenance is made of.
#[derive(Clone, Debug)]
pub struct Provenance<'a> {
    /// How much is told.
    pub mode: Mode,
    /// Who built, as a URI.
    pub builder_id: Option<&'a str>,
    /// Whether the caller says that the same comes out each time.
    pub reproducible: bool,
    /// This program's version.
    pub version: &'a str,
    /// What was asked for.
    pub request: &'a BuildRequest,
    /// What was done.
    pub record: &'a BuildRecord,
    /// What was taken from elsewhere.
    pub materials: &'a [Material],
    /// The repository of the context, if it was checked out: its URL and commit.
    pub source: Option<(&'a str, &'a str)>,
    /// The repository that the context's folder is in.
    pub vcs: Option<&'a Vcs>,
    /// When it began and ended, in seconds since 1970.
    pub times: (i64, i64),
    /// What the build is called in the history; nothing where times are given: the same twice is the same.
    pub invocation: Option<&'a str>,
}

impl Provenance<'_> {
    /// The predicate.
    pub fn predicate(&self) -> Value {
        let mut predicate = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "configSource": self.config_source(), "request": self.parameters() },
                "internalParameters": self.internal(),
                "resolvedDependencies": self.dependencies(),
            },
            "runDetails": {
                "builder": {
                    "id": self.builder_id.unwrap_or(BUILDER),
                    "version": { "slipway": self.version },
                },
                "metadata": self.metadata(),
            },
        });
        mask(&mut predicate, &Masks::of(self.request));
        predicate
    }

    fn is_max(&self) -> bool {
        self.mode == Mode::Max
    }

    fn config_source(&self) -> Value {
        let mut source = Map::new();
        if let Some((url, commit)) = self.source {
            source.insert("uri".to_owned(), url.into());
            source.insert("digest".to_owned(), json!({ "sha1": commit }));
        }
        source.insert("path".to_owned(), recipe_path(self.request).into());
        source.into()
    }

    fn parameters(&self) -> Value {
        let request = self.request;
        let mut args = Map::new();
        if let Some(target) = &request.target {
            args.insert("target".to_owned(), target.as_str().into());
        }
        args.insert("platform".to_owned(), request.platform.to_string().into());
        if self.is_max() {
            let all = request.build_args.iter().map(|(name, value)| (format!("build-arg:{name}"), value));
            let all = all.chain(request.labels.iter().map(|(name, value)| (format!("label:{name}"), value)));
            args.extend(all.map(|(name, value)| (name, value.as_str().into())));
            if request.no_cache {
                args.insert("no-cache".to_owned(), "".into());
            }
        }
        let locals: Vec<Value> = match (self.source, &request.context) {
            (None, Some(_)) => ["context", "dockerfile"].map(|name| json!({ "name": name })).to_vec(),
            _ => Vec::new(),
        };
        let mut parameters = json!({ "frontend": "dockerfile.v0", "args": args, "locals": locals });
        if self.is_max() {
            let ids =
                |names: Vec<&String>| names.into_iter().map(|id| json!({ "id": id })).collect::<Value>();
            parameters["secrets"] = ids(request.secrets.keys().collect());
            parameters["ssh"] = ids(request.ssh.keys().collect());
        }
        parameters
    }

    fn internal(&self) -> Value {
        let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
        if self.is_max() {
            let steps: Vec<Value> = self.record.steps.iter().map(step).collect();
            internal["buildConfig"] = json!({ "steps": steps });
        }
        internal
    }

    fn dependencies(&self) -> Value {
        let one = |material: &Material| match material {
            Material::Image { uri, digest } | Material::Url { url: uri, digest } => {
                json!({ "uri": uri, "digest": { digest.algorithm().name(): digest.hex() } })
            }
            Material::Git { url, commit } => json!({ "uri": url, "digest": { "sha1": commit } }),
        };
        let own = self.source.map(|(url, commit)| json!({ "uri": url, "digest": { "sha1": commit } }));
        own.into_iter().chain(self.materials.iter().map(one)).collect()
    }

    fn metadata(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(id) = self.invocation {
            metadata.insert("invocationId".to_owned(), id.into());
        }
        metadata.insert("startedOn".to_owned(), rfc3339::format(self.times.0).into());
        metadata.insert("finishedOn".to_owned(), rfc3339::format(self.times.1).into());
        // files of a folder are named by nothing; a command may fetch what it likes
        let from_folders = self.request.context.is_some() && self.source.is_none();
        metadata.insert(
            "slipway_completeness".to_owned(),
            json!({
                "request": self.is_max(),
                "resolvedDependencies": !from_folders && self.is_hermetic(),
            }),
        );
        metadata.insert("slipway_hermetic".to_owned(), self.is_hermetic().into());
        metadata.insert("slipway_reproducible".to_owned(), self.reproducible.into());
        let mut own = Map::new();
        if let Some(vcs) = self.vcs {
            let mut said = Map::new();
            said.extend(vcs.source.as_ref().map(|source| ("source".to_owned(), source.as_str().into())));
            said.insert("revision".to_owned(), vcs.revision.as_str().into());
            own.insert("vcs".to_owned(), said.into());
        }
        if self.is_max() {
            own.insert(
                "source".to_owned(),
                json!({ "path": recipe_path(self.request), "text": self.request.recipe }),
            );
        }
        if !own.is_empty() {
            metadata.insert("slipway_metadata".to_owned(), own.into());
        }
        metadata.into()
    }

    /// Whether no command could reach the network.
    fn is_hermetic(&self) -> bool {
        self.record.steps.iter().all(|step| match step.description.as_ref().map(|it| &it.operation) {
            Some(Operation::Run(run)) => run.network == "none",
            Some(_) => true,
            None => {
                !step.text.trim_start().to_ascii_uppercase().starts_with("RUN")
                    || self.request.network == NetworkMode::None
            }
        })
    }
}

/// A step as one of the build's configuration.
fn step(record: &StepRecord) -> Value {
    let mut step = json!({
        "id": format!("step{}", record.number),
        "stage": record.stage,
        "line": record.line,
        "text": record.text,
    });
    if let Some(description) = &record.description {
        step["operation"] = serde_json::to_value(description).unwrap_or_default();
    }
    if let Some(key) = &record.key {
        step["key"] = key.to_string().into();
    }
    if let Some(layer) = &record.layer {
        step["layer"] = json!({
            "digest": layer.digest, "size": layer.size_bytes, "diffId": layer.diff_id,
        });
    }
    step
}

/// The recipe within its context; of one that lies elsewhere its name alone.
fn recipe_path(request: &BuildRequest) -> String {
    let path = Path::new(&request.recipe_name);
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let within = request.context.as_ref().and_then(|context| {
        let (context, path) = (absolute(context), absolute(path));
        Some(path.strip_prefix(context).ok()?.to_owned())
    });
    let name = || path.file_name().map_or_else(|| path.as_os_str().to_owned(), ToOwned::to_owned);
    within.unwrap_or_else(|| name().into()).to_string_lossy().into_owned()
}

/// Masks all texts of a document, its keys excepted.
fn mask(value: &mut Value, masks: &Masks) {
    match value {
        Value::String(text) => *text = without_users(&masks.text(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, masks)),
        Value::Object(map) => map.values_mut().for_each(|value| mask(value, masks)),
        _ => {}
    }
}

/// A text without what its URLs say of users, and without values of parameters that let somebody in.
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        let host_end = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (host, path) = url.split_at(host_end);
        match host.rsplit_once('@') {
            // `ssh://git@host`: a name alone is no secret
            Some((user, host)) if user.contains(':') || path.is_empty() => {
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            _ => out.push_str(host),
        }
        out.push_str(&without_parameters(path));
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn without_parameters(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let (query, fragment) = query.split_once('#').map_or((query, None), |(query, rest)| (query, Some(rest)));
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if CREDENTIALS.iter().any(|word| name.to_ascii_lowercase().contains(word)) => {
            format!("{name}={MASK}")
        }
        _ => pair.to_owned(),
    });
    let masked: Vec<String> = masked.collect();
    let fragment = fragment.map(|rest| format!("#{rest}")).unwrap_or_default();
    format!("{path}?{}{fragment}", masked.join("&"))
}

#[cfg(test)]
mod tests;
