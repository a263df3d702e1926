//! What is wrong, where, and how to mend it.
//!
//! Codes are stable: `E01xx` syntax, `E02xx` flags, `E03xx` arguments, `E04xx` stages, `W05xx` warnings of the
//! parser. A code never changes its meaning; new mistakes get new codes.

mod render;

use crate::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The recipe still builds.
    Warning,
    /// The recipe does not build.
    Error,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something more to know, perhaps about another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The sentence.
    pub message: String,
    /// The place it is about.
    pub span: Option<Span>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code, such as `E0104`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line: lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// More to know.
    pub notes: Vec<Note>,
    /// How to mend it.
    pub hint: Option<String>,
    /// What would have been right.
    pub expected: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span,
            notes: Vec::new(),
            hint: None,
            expected: None,
        }
    }

    /// A warning.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds `did you mean …?` when a name near `word` exists.
    #[must_use]
    pub fn with_nearest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match crate::nearest(word, candidates) {
            Some(name) => self.with_hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Adds what would have been right.
    #[must_use]
    pub fn with_expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds something more to know.
    #[must_use]
    pub fn with_note(mut self, message: impl Into<String>, span: Option<Span>) -> Self {
        self.notes.push(Note { message: message.into(), span });
        self
    }

    /// What would be an error of an instruction, as a warning of the ONBUILD trigger that it is.
    #[must_use]
    pub(crate) fn of_trigger(self) -> Self {
        let message = format!("the trigger will be refused when it fires: {}", self.message);
        Self { code: code::REFUSED_TRIGGER, severity: Severity::Warning, message, ..self }
    }

    /// Whether the recipe does not build because of this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Defines the codes, so that each stands with its meaning exactly once.
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        /// The codes by name.
        pub(crate) mod code {
            $(#[doc = $meaning] pub(crate) const $name: &str = $code;)*
        }
        /// Every code with its meaning, for documentation and tests.
        pub const CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    EMPTY_FILE = "E0101", "the file has no instructions";
    LINE_TOO_LONG = "E0102", "a line is longer than 65535 bytes";
    EMPTY_STATEMENT = "E0103", "a continuation leads to no instruction";
    UNKNOWN_INSTRUCTION = "E0104", "the keyword is no instruction";
    DUPLICATE_DIRECTIVE = "E0105", "a parser directive is given twice";
    BAD_ESCAPE_DIRECTIVE = "E0106", "the escape directive is neither backslash nor backtick";
    BAD_CHECK_DIRECTIVE = "E0107", "the check directive cannot be read";
    UNTERMINATED_HEREDOC = "E0108", "a heredoc's terminator is missing";
    NOT_ALL_STRINGS = "E0109", "a JSON array holds something else than strings";
    PAIR_WITHOUT_VALUE = "E0110", "ENV or LABEL has a key and no value";
    PAIR_WITHOUT_EQUALS = "E0111", "a word of ENV or LABEL has no `=`";
    NOT_ONE_TRIGGER = "E0112", "an ONBUILD trigger is not exactly one instruction";

    UNKNOWN_FLAG = "E0201", "the instruction has no such flag";
    REPEATED_FLAG = "E0202", "a flag is given twice";
    FLAG_WITHOUT_VALUE = "E0203", "a flag needs a value";
    FLAG_NOT_BOOLEAN = "E0204", "a flag's value is neither true nor false";
    BAD_FLAG_VALUE = "E0205", "a flag's value is not one of the allowed ones";
    BAD_DURATION = "E0206", "a flag's value is no duration";
    BAD_MOUNT = "E0207", "a mount cannot be read";
    VARIABLE_NOT_ALLOWED = "E0208", "variables are not expanded here";

    MISSING_ARGUMENTS = "E0301", "the instruction lacks arguments";
    TOO_MANY_ARGUMENTS = "E0302", "the instruction has too many arguments";
    SHELL_NOT_JSON = "E0303", "SHELL is not a JSON array";
    BLANK_NAME = "E0304", "a name is empty";
    HEREDOC_DESTINATION = "E0305", "a heredoc cannot be the destination";
    HEALTHCHECK_TYPE = "E0306", "HEALTHCHECK is neither CMD nor NONE";
    ONBUILD_NOT_ALLOWED = "E0307", "this instruction cannot be a trigger";
    EMPTY_VOLUME = "E0308", "a volume is an empty string";
    LOST_HEREDOC = "E0309", "a heredoc has no body";

    BEFORE_FROM = "E0401", "an instruction other than ARG stands before the first FROM";
    BAD_STAGE_NAME = "E0402", "a stage name has a wrong form";
    BAD_FROM = "E0403", "FROM has neither one nor three arguments";
    NO_STAGE = "E0404", "the file has no FROM";

    EMPTY_CONTINUATION = "W0501", "a blank line stands inside a continued instruction";
    LOOKS_LIKE_JSON = "W0502", "the text looks like a JSON array and is not one";
    EMPTY_COMMAND = "W0503", "the instruction has no command";
    EMPTY_FLAG_VALUE = "W0504", "a flag's value is empty and so has no effect";
    LATE_DIRECTIVE = "W0505", "a parser directive stands too late to count";
    REFUSED_TRIGGER = "W0506", "an ONBUILD trigger is one that no build will take";
}
