//! `slipway check --explain RULE`: the rule's page, which is in the program.

use crate::{error::Failure, show};
use slipway_dockerfile::lint::Rule;

macro_rules! pages {
    ($($code:literal)*) => {
        /// The pages of docs/checks, by code.
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../../../docs/checks/", $code, ".md")))),*];
    };
}

pages! {
    "ConsistentInstructionCasing"
    "CopyIgnoredFile"
    "DuplicateStageName"
    "ExposeInvalidFormat"
    "ExposeProtoCasing"
    "FromAsCasing"
    "FromPlatformFlagConstDisallowed"
    "InvalidBaseImagePlatform"
    "InvalidDefaultArgInFrom"
    "InvalidDefinitionDescription"
    "JSONArgsRecommended"
    "LegacyKeyValueFormat"
    "MaintainerDeprecated"
    "MultipleInstructionsDisallowed"
    "NoEmptyContinuation"
    "RedundantTargetPlatform"
    "ReservedStageName"
    "SW1001"
    "SW1002"
    "SW1003"
    "SW1004"
    "SW1005"
    "SW1006"
    "SW1007"
    "SW1011"
    "SW1012"
    "SW1021"
    "SW1022"
    "SW1031"
    "SW1032"
    "SW1033"
    "SW1041"
    "SW1042"
    "SW2001"
    "SW2002"
    "SW2003"
    "SW2004"
    "SW2005"
    "SW3001"
    "SW3002"
    "SW3003"
    "SW3004"
    "SW3005"
    "SW3006"
    "SW3007"
    "SW3008"
    "SW3009"
    "SW3010"
    "SW3011"
    "SecretsUsedInArgOrEnv"
    "StageNameCasing"
    "UndefinedArgInFrom"
    "UndefinedVar"
    "WorkdirRelativePath"
}

/// Prints the page of a rule, by its code or name.
pub(super) fn explain(word: &str) -> Result<u8, Failure> {
    let page = Rule::find(word).and_then(|rule| page(rule.code));
    let page = page.ok_or_else(|| {
        Failure::usage(format!("--explain: there is no rule `{word}`"))
            .with_hint("reports name rules by code, such as SW1002, and by name, such as AptRecommends")
    })?;
    show::say(page.trim_end())?;
    Ok(0)
}

fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_dockerfile::lint::RULES;

    #[test]
    fn every_rule_is_explained() {
        for rule in RULES {
            let page = page(rule.code).unwrap_or_else(|| panic!("no page for {}", rule.code));
            assert!(page.contains(rule.name), "{}", rule.code);
        }
        assert_eq!(PAGES.len(), RULES.len(), "no page without its rule");
    }
}
