//! UNSET: the standard instruction that comes nearest to dropping what a base image set.

use super::{BAD_UNSET, NO_STANDARD_FORM};
use crate::{Diagnostic, Node};

/// What can be named after UNSET, and what it becomes.
pub(super) enum Form {
    /// Names follow, and each is set to nothing by this instruction.
    Each(&'static str),
    /// This stands in its place.
    Fixed(&'static str),
    /// There is no standard form, for this reason.
    None(&'static str),
}

/// Every kind with its form.
pub(super) const KINDS: &[(&str, Form)] = &[
    ("env", Form::Each("ENV")),
    ("label", Form::Each("LABEL")),
    ("entrypoint", Form::Fixed("ENTRYPOINT []")),
    ("cmd", Form::Fixed("CMD []")),
    ("user", Form::Fixed("USER root")),
    ("workdir", Form::Fixed("WORKDIR /")),
    ("healthcheck", Form::Fixed("HEALTHCHECK NONE")),
    ("stopsignal", Form::Fixed("STOPSIGNAL SIGTERM")),
    ("shell", Form::Fixed("SHELL [\"/bin/sh\", \"-c\"]")),
    ("volume", Form::None("VOLUME can only add to a base image's volumes")),
    ("expose", Form::None("EXPOSE can only add to a base image's ports")),
    (
        "onbuild",
        Form::None(
            "a base image's triggers run before any instruction of this stage, and are not inherited further",
        ),
    ),
];

/// The standard text of an UNSET.
pub(super) fn lower(node: &Node) -> Result<String, Diagnostic> {
    let mut words = node.original.split_whitespace().skip(1);
    let names: Vec<_> = KINDS.iter().map(|kind| kind.0).collect();
    let Some(kind) = words.next() else {
        let message = "UNSET needs the kind of thing to unset";
        return Err(Diagnostic::error(BAD_UNSET, node.keyword_span, message)
            .with_expected(format!("one of {}", names.join(", "))));
    };
    let Some((name, form)) = KINDS.iter().find(|known| known.0.eq_ignore_ascii_case(kind)) else {
        return Err(Diagnostic::error(BAD_UNSET, node.span, format!("UNSET knows no `{kind}`"))
            .with_nearest(kind, names.iter().copied())
            .with_expected(format!("one of {}", names.join(", "))));
    };
    let rest: Vec<_> = words.collect();
    match form {
        Form::Each(keyword) => each(node, keyword, name, &rest),
        Form::Fixed(text) if rest.is_empty() => Ok((*text).to_owned()),
        Form::Fixed(_) => {
            Err(Diagnostic::error(BAD_UNSET, node.span, format!("UNSET {name} takes no names")))
        }
        Form::None(reason) => Err(Diagnostic::error(
            NO_STANDARD_FORM,
            node.span,
            format!("no standard instruction can unset {name}"),
        )
        .with_note(*reason, None)
        .with_hint("build from a base image without it, or copy its files into `FROM scratch`")),
    }
}

fn each(node: &Node, keyword: &str, kind: &str, names: &[&str]) -> Result<String, Diagnostic> {
    let is_name = |name: &&str| name.chars().all(|ch| ch.is_ascii_alphanumeric() || "_-./".contains(ch));
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(Diagnostic::error(BAD_UNSET, node.span, format!("`{bad}` is no name"))
            .with_expected("letters, digits, `_`, `-`, `.` and `/`"));
    }
    if names.is_empty() {
        return Err(Diagnostic::error(BAD_UNSET, node.span, format!("UNSET {kind} needs a name")));
    }
    Ok(format!("{keyword} {}=", names.join("= ")))
}
