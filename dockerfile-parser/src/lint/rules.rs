//! Every rule: its code, name, meaning and page.
//!
//! The first 22 are BuildKit's and keep its names, which are their codes too. Rules of Slipway's own have a code
//! `SWnnnn` beside the name: `SW1…` package managers, `SW2…` shell, `SW3…` instructions. A code never changes its
//! meaning. A `check` directive may use the code or the name.

/// Whether a rule is reported when nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Reported unless skipped.
    On,
    /// Reported only if `experimental=` names it.
    Experimental,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What reports and directives call it: BuildKit's name, or `SWnnnn`.
    pub code: &'static str,
    /// The name.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub description: &'static str,
    /// Whether it is reported unasked.
    pub standing: Standing,
    /// The last part of BuildKit's documentation page; empty for Slipway's own rules.
    page: &'static str,
}

impl Rule {
    /// Whether it is Slipway's own and none of BuildKit's.
    pub const fn is_own(&self) -> bool {
        self.page.is_empty()
    }

    /// Where the rule is explained: BuildKit's public page, or the page in this project's `docs/`.
    pub fn url(&self) -> String {
        if self.page.is_empty() {
            format!("docs/checks/{}.md", self.code)
        } else {
            format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page)
        }
    }

    /// Whether a directive's word means this rule; case does not count.
    pub fn is_called(&self, word: &str) -> bool {
        word.eq_ignore_ascii_case(self.code) || word.eq_ignore_ascii_case(self.name)
    }

    /// The rule of that code or name.
    pub fn find(word: &str) -> Option<&'static Rule> {
        RULES.iter().copied().find(|rule| rule.is_called(word))
    }
}

macro_rules! rules {
    ($($constant:ident = $code:literal $name:literal $standing:ident $page:literal, $description:literal;)*) => {
        $(#[doc = $description] pub(super) static $constant: Rule = Rule {
            code: $code, name: $name, description: $description, standing: Standing::$standing, page: $page,
        };)*
        /// Every rule, BuildKit's first.
        pub static RULES: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    STAGE_NAME_CASING = "StageNameCasing" "StageNameCasing" On "stage-name-casing", "Stage names should be lowercase";
    FROM_AS_CASING = "FromAsCasing" "FromAsCasing" On "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword";
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation" "NoEmptyContinuation" On "no-empty-continuation", "Empty continuation lines will become errors in a future release";
    CONSISTENT_INSTRUCTION_CASING = "ConsistentInstructionCasing" "ConsistentInstructionCasing" On "consistent-instruction-casing", "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DUPLICATE_STAGE_NAME = "DuplicateStageName" "DuplicateStageName" On "duplicate-stage-name", "Stage names should be unique";
    RESERVED_STAGE_NAME = "ReservedStageName" "ReservedStageName" On "reserved-stage-name", "Reserved words should not be used as stage names";
    JSON_ARGS_RECOMMENDED = "JSONArgsRecommended" "JSONArgsRecommended" On "json-args-recommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MAINTAINER_DEPRECATED = "MaintainerDeprecated" "MaintainerDeprecated" On "maintainer-deprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom" "UndefinedArgInFrom" On "undefined-arg-in-from", "FROM command must use declared ARGs";
    WORKDIR_RELATIVE_PATH = "WorkdirRelativePath" "WorkdirRelativePath" On "workdir-relative-path", "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UNDEFINED_VAR = "UndefinedVar" "UndefinedVar" On "undefined-var", "Variables should be defined before their use";
    MULTIPLE_INSTRUCTIONS_DISALLOWED = "MultipleInstructionsDisallowed" "MultipleInstructionsDisallowed" On "multiple-instructions-disallowed", "Multiple instructions of the same type should not be used in the same stage";
    LEGACY_KEY_VALUE_FORMAT = "LegacyKeyValueFormat" "LegacyKeyValueFormat" On "legacy-key-value-format", "Legacy key/value format with whitespace separator should not be used";
    INVALID_BASE_IMAGE_PLATFORM = "InvalidBaseImagePlatform" "InvalidBaseImagePlatform" On "invalid-base-image-platform", "Base image platform does not match expected target platform";
    REDUNDANT_TARGET_PLATFORM = "RedundantTargetPlatform" "RedundantTargetPlatform" On "redundant-target-platform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SECRETS_USED_IN_ARG_OR_ENV = "SecretsUsedInArgOrEnv" "SecretsUsedInArgOrEnv" On "secrets-used-in-arg-or-env", "Sensitive data should not be used in the ARG or ENV commands";
    INVALID_DEFAULT_ARG_IN_FROM = "InvalidDefaultArgInFrom" "InvalidDefaultArgInFrom" On "invalid-default-arg-in-from", "Default value for global ARG results in an empty or invalid base image name";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED = "FromPlatformFlagConstDisallowed" "FromPlatformFlagConstDisallowed" On "from-platform-flag-const-disallowed", "FROM --platform flag should not use a constant value";
    COPY_IGNORED_FILE = "CopyIgnoredFile" "CopyIgnoredFile" On "copy-ignored-file", "Attempting to Copy file that is excluded by .dockerignore";
    INVALID_DEFINITION_DESCRIPTION = "InvalidDefinitionDescription" "InvalidDefinitionDescription" Experimental "invalid-definition-description", "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    EXPOSE_PROTO_CASING = "ExposeProtoCasing" "ExposeProtoCasing" On "expose-proto-casing", "Protocol in EXPOSE instruction should be lowercase";
    EXPOSE_INVALID_FORMAT = "ExposeInvalidFormat" "ExposeInvalidFormat" On "expose-invalid-format", "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";

    APT_WITHOUT_YES = "SW1001" "AptWithoutYes" On "", "apt-get must not ask: nobody can answer in a build";
    APT_RECOMMENDS = "SW1002" "AptRecommends" On "", "Recommended packages that nobody asked for should not be installed";
    APT_LISTS_KEPT = "SW1003" "AptListsKept" On "", "Package lists should not stay in a layer";
    UPDATE_ALONE = "SW1004" "UpdateAlone" On "", "Package lists should be updated in the RUN that installs from them";
    SYSTEM_UPGRADE = "SW1005" "SystemUpgrade" On "", "The base image should be renewed instead of upgrading all its packages";
    APT_NOT_FOR_SCRIPTS = "SW1006" "AptNotForScripts" On "", "apt is for people at terminals; apt-get keeps its interface stable";
    APT_UNPINNED = "SW1007" "AptUnpinned" On "", "apt packages should be installed in a stated version";
    APK_CACHE_KEPT = "SW1011" "ApkCacheKept" On "", "apk should not leave its index in a layer";
    APK_UNPINNED = "SW1012" "ApkUnpinned" On "", "apk packages should be installed in a stated version";
    PIP_CACHE_KEPT = "SW1021" "PipCacheKept" On "", "pip should not leave its cache in a layer";
    PIP_UNPINNED = "SW1022" "PipUnpinned" On "", "pip packages should be installed in a stated version";
    NPM_INSTALL_NOT_CI = "SW1031" "NpmInstallNotCi" On "", "npm ci installs exactly what the lock file says; npm install may not";
    NPM_UNPINNED = "SW1032" "NpmUnpinned" On "", "npm packages should be installed in a stated version";
    NPM_CACHE_KEPT = "SW1033" "NpmCacheKept" On "", "npm should not leave its cache in a layer";
    DNF_WITHOUT_YES = "SW1041" "DnfWithoutYes" On "", "yum and dnf must not ask: nobody can answer in a build";
    DNF_CACHE_KEPT = "SW1042" "DnfCacheKept" On "", "yum and dnf should not leave their cache in a layer";
    CD_DOES_NOT_LAST = "SW2001" "CdDoesNotLast" On "", "cd at the end of a RUN has no effect on what follows";
    PIPE_WITHOUT_PIPEFAIL = "SW2002" "PipeWithoutPipefail" On "", "A pipe hides the failure of all its commands but the last unless pipefail is set";
    PIPED_TO_SHELL = "SW2003" "PipedToShell" On "", "What is downloaded should be verified before it is run";
    SUDO_IN_RUN = "SW2004" "SudoInRun" On "", "USER changes the user of a RUN; sudo does not belong in images";
    HEREDOC_WITHOUT_ERREXIT = "SW2005" "HeredocWithoutErrexit" On "", "A script in a heredoc goes on after a failure unless it says set -e";
    ADD_INSTEAD_OF_COPY = "SW3001" "AddInsteadOfCopy" On "", "COPY should be used where the magic of ADD is not needed";
    SECRET_FILE_COPIED = "SW3002" "SecretFileCopied" On "", "Files that hold secrets should not be copied into a layer";
    SECRET_IN_LAYER = "SW3003" "SecretInLayer" On "", "Secrets should not be written into a layer or the image's history";
    CHOWN_DOUBLES_LAYER = "SW3004" "ChownDoublesLayer" On "", "Owner and mode should be set by COPY: changing them later stores the files twice";
    BASE_NOT_PINNED = "SW3005" "BaseNotPinned" On "", "Images should be named with a version or a digest";
    NO_USER = "SW3006" "NoUser" Experimental "", "The image should name a user other than root";
    LOOKS_LIKE_JSON = "SW3007" "LooksLikeJson" On "", "What looks like a JSON array should be one";
    EMPTY_FLAG = "SW3008" "EmptyFlag" On "", "A flag with an empty value has no effect";
    LATE_DIRECTIVE = "SW3009" "LateDirective" On "", "Parser directives count only at the top of the file";
    EMPTY_COMMAND = "SW3010" "EmptyCommand" On "", "CMD, ENTRYPOINT and RUN should name a command";
    REFUSED_TRIGGER = "SW3011" "RefusedTrigger" On "", "A trigger of ONBUILD should be an instruction that a build takes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_and_pages_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in RULES {
            assert!(seen.insert(rule.url()), "{}", rule.code);
            assert!(std::ptr::eq(*rule, Rule::find(rule.code).unwrap()));
            assert!(std::ptr::eq(*rule, Rule::find(&rule.name.to_lowercase()).unwrap()));
        }
        assert_eq!(RULES.iter().filter(|rule| !rule.code.starts_with("SW")).count(), 22);
    }

    #[test]
    fn every_rule_has_a_page() {
        for rule in RULES {
            let page = format!("{}/../docs/checks/{}.md", env!("CARGO_MANIFEST_DIR"), rule.code);
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.starts_with("# ") && text.contains(rule.name), "{page}");
        }
    }
}
