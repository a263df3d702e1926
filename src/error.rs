//! Turns errors into words, hints and exit statuses. Nothing else does.

use crate::{remedy, service::output::OutputError, show};
use slipway_builder::{BuildError, ErrorAt, Full, GraphError, StepError};
use slipway_dockerfile::{Diagnostic, Span};
use slipway_oci::{
    blobs::BlobError,
    layer::LayerError,
    layout::LayoutError,
    lease::LeaseError,
    store::{OverQuota, StoreError},
    unpacking::TooMuch,
};
use slipway_registry::client::ClientError;
use std::path::Path;

/// Exit status of a failure that is the user's input or the machine's state.
const FAILED: u8 = 1;
/// Exit status of a usage error; clap's own.
pub(crate) const USAGE: u8 = 2;
/// Exit status of a container that could not be made, wrong use included; docker's.
pub(crate) const NOT_STARTED: u8 = 125;

/// What a command failed with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    /// Printed before the message, as it is.
    detail: Option<String>,
    status: u8,
}

/// A failure may be another error's cause; [`hint_for`] finds its hint there.
impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure in so many words.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, detail: None, status: FAILED }
    }

    /// A wrong use of the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { status: USAGE, ..Failure::new(message) }
    }

    /// An error with all its causes.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut failure = Failure::new(chain(error));
        failure.hint = hint_for(error);
        failure
    }

    /// Says first what it is about.
    pub(crate) fn about(mut self, what: impl std::fmt::Display) -> Failure {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same where nothing better is known.
    pub(crate) fn or_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    pub(crate) fn with_status(mut self, status: u8) -> Failure {
        self.status = status;
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Failure {
        self.detail = Some(detail.into());
        self
    }

    /// With all its words as `change` makes them.
    pub(crate) fn reworded(self, change: impl Fn(&str) -> String) -> Failure {
        let changed = |text: Option<String>| text.map(|text| change(&text));
        Failure {
            message: change(&self.message),
            hint: changed(self.hint),
            detail: changed(self.detail),
            ..self
        }
    }

    /// What went wrong, on one line.
    pub(crate) fn words(&self) -> String {
        self.message.clone()
    }

    /// What to do about it.
    #[cfg(test)]
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self) {
        if let Some(detail) = &self.detail {
            // rendered recipes have colours of their own where colours are wanted
            let detail = detail.trim_end();
            let clean =
                if show::colours() { show::text::coloured(detail) } else { show::text::plain(detail) };
            show::write_aside(&format!("{clean}\n"));
        }
        if !self.message.is_empty() {
            let (bold, end) = if show::colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
            show::write_aside(&format!("{bold}error{end}: {}\n", show::text::plain(&self.message)));
        }
        if let Some(hint) = &self.hint {
            show::note(format_args!("hint: {hint}"));
        }
    }
}

/// An error and its causes, each cause once, on one line: what a cause quotes from a file may be anything.
///
/// A full disk is called by its name before anything else, wherever it was noticed: what follows may sound like damage.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(over) = OverQuota::of(error) {
        let OverQuota { path, quota, used } = over;
        return show::text::line(&format!(
            "the store `{}` may take {} of the disk and has {}, of which nothing more can go by itself",
            path.display(),
            show::human(*quota),
            show::human(*used)
        ));
    }
    let words = slipway_oci::error::chain(error);
    const FULL: &str = "no space left on the device that holds";
    // a cause that was written out already says so itself
    let words = match full_place(error) {
        Some(place) if !words.contains(FULL) => format!("{FULL} {place}: {words}"),
        _ => words,
    };
    show::text::line(&words)
}

/// What lies on a disk that is full, if that is what the error says.
fn full_place(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if !slipway_oci::file::is_full(error) {
        return None;
    }
    let place = causes(error).find_map(|cause| {
        if let Some(LayoutError::Io("write", _)) = cause.downcast_ref::<LayoutError>()
            && output_of(error).is_none()
        {
            return Some("the output".to_owned());
        }
        place_in(cause).map(|path| format!("`{}`", path.display()))
    });
    // layers, archives on their way in and the database lie in the store
    let store = || {
        let found = crate::app::opened_store();
        found.map_or_else(|| "the store".to_owned(), |root| format!("the store `{}`", root.display()))
    };
    Some(place.unwrap_or_else(store))
}

/// The path that an error names itself, or by an error that it stands for without being its cause.
fn place_in<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Path> {
    let in_blob = |error: &'a BlobError| match error {
        BlobError::Io { path, .. } => Some(path.as_path()),
        _ => None,
    };
    let in_layer = |error: &'a LayerError| match error {
        LayerError::Blob(error) => in_blob(error),
        _ => None,
    };
    let in_store = |error: &'a StoreError| match error {
        StoreError::Io { path, .. } | StoreError::NoRoom { path, .. } => Some(path.as_path()),
        StoreError::Blob(error) => in_blob(error),
        StoreError::Layer(error) => in_layer(error),
        _ => None,
    };
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return in_store(error);
    }
    if let Some(LayoutError::Store(error)) = cause.downcast_ref::<LayoutError>() {
        return in_store(error);
    }
    if let Some(LeaseError::Io { path, .. }) = cause.downcast_ref::<LeaseError>() {
        return Some(path);
    }
    let layer = cause.downcast_ref::<LayerError>().and_then(in_layer);
    let blob = cause.downcast_ref::<BlobError>().and_then(in_blob);
    layer.or(blob).or_else(|| cause.downcast_ref::<OutputError>().map(OutputError::path))
}

/// An error and its causes; those too that an I/O error carries, which hides them from `source`.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match carried {
            Some(carried) => Some(carried as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

/// The output of the caller's that could not be written.
fn output_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a OutputError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// How to make room in the store.
const ROOM: &str = "`slipway prune` gives back what builds have kept, `slipway rmi` what images take";

/// What may be why a command failed.
fn no_room(full: &Full) -> String {
    match full {
        Full::Disk(store) => format!("no space left on the device that holds `{}`: {ROOM}", store.display()),
        Full::Quota(store) => format!(
            "the store `{}` may take no more of the disk (--store-quota), and nothing that builds have kept can go: {ROOM}; or allow it more",
            store.display()
        ),
        Full::Memory => {
            "no space left in the memory that holds what a step changes, for no overlay can write into the \
                         store's file system: name a store elsewhere with --root, or let the step write less"
                .to_owned()
        }
    }
}

fn hint_for(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if OverQuota::of(error).is_some() {
        return Some(format!("{ROOM}; --store-quota allows more"));
    }
    if slipway_oci::file::is_full(error) {
        let written = causes(error)
            .any(|cause| matches!(cause.downcast_ref::<LayoutError>(), Some(LayoutError::Io("write", _))));
        return Some(match written || output_of(error).is_some() {
            true => "free some there, or name another place".to_owned(),
            false => ROOM.to_owned(),
        });
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(hint) = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone()) {
            return Some(hint);
        }
        if TooMuch::of(error).is_some() {
            return Some(
                "if that much is meant, say so: --max-unpacked SIZE, or SLIPWAY_MAX_UNPACKED".into(),
            );
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem => Some("choose another folder with --root".into()),
                _ => None,
            };
        }
        if let Some(StoreError::NoContainer(_)) = error.downcast_ref::<StoreError>() {
            return Some("`slipway ps -a` lists what is there".to_owned());
        }
        if let Some(StoreError::NoImage(_)) = error.downcast_ref::<StoreError>() {
            return Some("`slipway images` lists what is there, `slipway pull` fetches more".into());
        }
        if let Some(hint) = error.downcast_ref::<ClientError>().and_then(registry_hint) {
            return Some(hint);
        }
        if let Some(ClientError::ForeignRealm { host, realm }) = error.downcast_ref::<ClientError>() {
            let service = realm.split("://").nth(1).and_then(|rest| rest.split('/').next());
            let service = service.unwrap_or("HOST");
            return Some(format!(
                "if `{service}` really is where `{host}` checks passwords, say so: --token-service {host}={service}"
            ));
        }
        cause = error.source();
    }
    None
}

/// A registry's name as a login takes it; Docker Hub's is none.
fn hub_or(host: &str) -> &str {
    if host.ends_with("docker.io") { "docker.io" } else { host }
}

/// What to do about a registry that cannot be spoken to.
fn registry_hint(error: &ClientError) -> Option<String> {
    let hub = |host: &str| host.ends_with("docker.io");
    match error {
        ClientError::Lookup { host, .. } | ClientError::Connect { host, .. } if hub(host) => Some(
            "name another registry (`HOST/NAME`), or bring the image here with `slipway load` or `slipway import`".into(),
        ),
        ClientError::Lookup { host, .. } => {
            Some(format!("check the name `{host}`, /etc/resolv.conf and, behind a proxy, HTTPS_PROXY"))
        }
                ClientError::Connect { host, .. } => {
            Some(format!("see whether `{host}` runs, on that port, and whether a proxy stands between (`slipway info`)"))
        }
        ClientError::Untrusted { host, issuer: false, .. } => Some(format!(
            "the registry needs another certificate; one that you know all the same: --insecure-registry {host}"
        )),
        ClientError::Untrusted { host, .. } => Some(format!(
            "trust its issuer with --tls-ca or /etc/containers/certs.d/{host}/ca.crt, or, for a registry that you know, --insecure-registry {host}"
        )),
        ClientError::Denied { host, credentials: false, .. } => Some(format!(
            "log in first: `slipway login {0}`; what `docker login` and `podman login` keep is read too",
            hub_or(host)
        )),
        ClientError::Denied { credentials: true, .. } => {
            Some("they are those of docker's config.json or podman's auth.json; see whether they are still good, and whether they may do this there".into())
        }
        ClientError::Foreign { .. } => Some("--foreign-layers fetches it from there".into()),
        ClientError::LoginRefused { .. } => Some("see whether name and password are those of this registry".into()),
        ClientError::NoDevices { host } => {
            Some(format!("log in by name and password, or a token: `slipway login -u NAME {host}`"))
        }
        ClientError::DeviceRefused { .. } => Some("begin again, and type the new code".into()),
        ClientError::NoAuthorities => {
            Some("install `ca-certificates`, or name a file with --tls-ca or SSL_CERT_FILE".into())
        }
        ClientError::Handshake { host, .. } => {
            Some(format!("if it speaks plain HTTP, say so: --insecure-registry {host}"))
        }
        _ => None,
    }
}

macro_rules! plain_failures {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::of(&error)
            }
        }
    )*};
}

plain_failures!(
    StoreError,
    LayoutError,
    slipway_oci::reference::ReferenceError,
    slipway_oci::platform::PlatformError,
    slipway_oci::layer::LayerError,
    slipway_oci::layer::TreeError,
    slipway_oci::blobs::BlobError,
    slipway_runtime::identity::IdentityError,
    slipway_builder::SourceError,
    crate::service::input::InputError,
    crate::service::output::OutputError,
    std::io::Error,
);

impl From<slipway_runtime::Error> for Failure {
    fn from(error: slipway_runtime::Error) -> Failure {
        Failure::of(&error).with_status(u8::try_from(error.exit_status()).unwrap_or(125))
    }
}

impl From<slipway_runtime::levels::UsernsError> for Failure {
    fn from(error: slipway_runtime::levels::UsernsError) -> Failure {
        let hint = error.hint();
        let failure = Failure::of(&error);
        hint.map_or_else(|| Failure::of(&error), |hint| failure.with_hint(hint))
    }
}

/// A build's failure, with the recipe's lines.
/// `output_shown` says that what a failed command wrote is on the screen already.
pub(crate) fn of_build(error: &BuildError, recipe: &str, name: &str, output_shown: bool) -> Failure {
    let color = show::colours();
    match error {
        BuildError::Recipe(diagnostics) => of_diagnostics(diagnostics, recipe, name),
        BuildError::Graph(GraphError { message, hint, origin }) => {
            let Some(origin) = origin else {
                let failure = Failure::new(message.clone());
                return match hint.clone() {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                };
            };
            let mut diagnostic = Diagnostic::error("E0601", first_line(origin.span, recipe), message.clone());
            diagnostic.hint.clone_from(hint);
            Failure::new("the recipe cannot be built").with_detail(diagnostic.render(recipe, name, color))
        }
        BuildError::Step(at) => of_step(at, recipe, name, output_shown),
        BuildError::Cancelled => Failure::new("the build was interrupted").with_status(130),
        other => Failure::of(other),
    }
}

/// How RUN steps of another machine's images come to run.
const WITH_NAMESPACES: &str = "leave `--isolation=chroot` out; in a container let its runtime allow namespaces (docker: \
                               `--security-opt seccomp=unconfined`), or leave it out of the recipe";
const DEVICES: &str = "give the container CAP_MKNOD, which docker's default has (podman: `--cap-add=MKNOD`), and the store a \
                       file system that is not mounted `nodev`";
const EMULATE: &str = "`apt-get install qemu-user-static binfmt-support`, once and as root, lets it; or let the stage be this machine's, \
                       `FROM --platform=$BUILDPLATFORM`, and COPY what it makes";

/// The mistakes of a recipe.
pub(crate) fn of_diagnostics(diagnostics: &[Diagnostic], recipe: &str, name: &str) -> Failure {
    let color = show::colours();
    let errors: Vec<&Diagnostic> = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    let shown: Vec<String> =
        errors.iter().take(5).map(|diagnostic| diagnostic.render(recipe, name, color)).collect();
    let count = match errors.len() {
        1 => "1 mistake".to_owned(),
        many => format!("{many} mistakes"),
    };
    Failure::new(format!("`{name}` has {count}")).with_detail(shown.join("\n"))
}

fn of_step(at: &ErrorAt, recipe: &str, name: &str, output_shown: bool) -> Failure {
    let color = show::colours();
    let message = chain(&at.error);
    let mut hint = hint_for(&at.error);
    let mut detail = String::new();
    let mut log_note = None;
    match &at.error {
        StepError::NotFound { hint: Some(near), .. } => hint = Some(near.clone()),
        StepError::Foreign { .. } => hint = Some(EMULATE.to_owned()),
        StepError::Bare { .. } => hint = Some(WITH_NAMESPACES.to_owned()),
        StepError::BareDevices { .. } => hint = Some(DEVICES.to_owned()),
        StepError::Command { tail, log, full, .. } => {
            hint = hint.or_else(|| full.as_ref().map(no_room));
            let advice = slipway_runtime::ids::advice();
            hint = hint.or_else(|| remedy::of(tail, slipway_runtime::levels::expected(), advice.as_deref()));
            if !output_shown {
                detail.push_str(&show::text::settled(&String::from_utf8_lossy(tail)));
            }
            log_note = log.as_ref().map(|log| {
                let (path, build, step) = (log.path.display(), &log.build, log.step);
                format!("its whole output is in `{path}` (`slipway builds logs {build} {step}`)")
            });
        }
        _ => {}
    }
    let words = match &at.origin {
        Some(origin) => {
            let mut diagnostic = Diagnostic::error("E0602", first_line(origin.span, recipe), message);
            diagnostic.hint = hint.take();
            if let Some(note) = log_note.take() {
                diagnostic = diagnostic.with_note(note, None);
            }
            if !detail.is_empty() && !detail.ends_with('\n') {
                detail.push('\n');
            }
            detail.push_str(&diagnostic.render(recipe, name, color));
            let (step, total) = step_number(recipe, origin.start_line).unwrap_or_default();
            format!("step {step}/{total} of stage `{}` failed at {name}:{}", at.stage, origin.start_line)
        }
        None => format!("{message} (in stage `{}`)", at.stage),
    };
    let failure = Failure::new(words).with_detail(detail);
    match hint.or(log_note) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// Which instruction of its stage the one at `line` is, and how many there are, FROM counted.
fn step_number(recipe: &str, line: u32) -> Option<(usize, usize)> {
    let recipe = slipway_dockerfile::parse_recipe(recipe).ok()?;
    recipe.stages.iter().find_map(|stage| {
        let total = stage.instructions.len() + 1;
        let within = stage.instructions.iter().position(|located| located.origin.start_line == line);
        let own = (stage.origin.start_line == line).then_some(1);
        own.or(within.map(|at| at + 2)).map(|step| (step, total))
    })
}

/// The span of an instruction's first line: what follows is in the recipe for all to see.
fn first_line(span: Span, recipe: &str) -> Span {
    let text = recipe.get(span.start..span.end).unwrap_or_default();
    let length = text.lines().next().map_or(0, str::len);
    Span { end: span.start + length, ..span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_full_disk_is_called_by_its_name_and_place() {
        let (full, quota) = (libc::ENOSPC, libc::EDQUOT);
        let os = io::Error::from_raw_os_error;
        let blob =
            |errno| BlobError::Io { operation: "write", path: "/s/tmp/blob".into(), source: os(errno) };
        let in_layer = |errno| slipway_oci::layer::LayerError::Archive(io::Error::other(blob(errno)));
        let cases: Vec<(Box<dyn std::error::Error>, &str, bool)> = vec![
            (
                Box::new(StoreError::Io { operation: "create", path: "/s/tmp".into(), source: os(full) }),
                "`/s/tmp`",
                true,
            ),
            (Box::new(StoreError::Blob(blob(full))), "`/s/tmp/blob`", true),
            (Box::new(StoreError::Blob(blob(quota))), "`/s/tmp/blob`", true),
            (Box::new(in_layer(full)), "`/s/tmp/blob`", true),
            (
                Box::new(LayoutError::Store(StoreError::Io {
                    operation: "write",
                    path: "/s/tmp/0".into(),
                    source: os(full),
                })),
                "`/s/tmp/0`",
                true,
            ),
            (
                Box::new(LayoutError::Io("keep a layer of", io::Error::other(blob(full)))),
                "`/s/tmp/blob`",
                true,
            ),
            (
                Box::new(StoreError::NoRoom {
                    layer: slipway_oci::Digest::sha256(b""),
                    path: "/s/tmp/layer".into(),
                    source: Box::new(slipway_oci::layer::LayerError::Io {
                        operation: "write",
                        path: "f".into(),
                        source: os(full),
                    }),
                }),
                "`/s/tmp/layer`",
                true,
            ),
            (Box::new(LayoutError::Io("write", os(full))), "the output", false),
            (Box::new(os(full)), "the store", true),
        ];
        for (error, place, prune) in cases {
            let failure = Failure::of(error.as_ref());
            let begins = format!("no space left on the device that holds {place}: ");
            assert!(failure.words().starts_with(&begins), "{}", failure.words());
            assert_eq!(failure.hint.as_ref().is_some_and(|hint| hint.contains("slipway prune")), prune);
            // told again by who only has the words
            let again = Failure::of(&slipway_builder::SourceError::new(failure));
            assert_eq!(again.words().matches("no space left on the device that holds").count(), 1);
        }
        let other = Failure::of(&StoreError::Blob(blob(libc::EIO)));
        assert!(!other.words().contains("no space left"), "{}", other.words());
    }
}
