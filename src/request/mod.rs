//! Requests from flags: pure functions from what was given to plain data. They open nothing and print nothing, and take
//! the environment as a function, so that a test, or another front than the command line, can call them.

pub(crate) mod annotation;
pub(crate) mod attest;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod proxies;
pub(crate) mod prune;
pub(crate) mod records;
pub(crate) mod serve;
pub(crate) mod size;

use crate::error::Failure;
use std::collections::BTreeMap;

/// The environment: a variable's value.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `NAME=VALUE`, or `NAME` to take the environment's; the last of one name counts. One that is nowhere set is left out.
pub(crate) fn build_arguments(given: &[String], variables: Variables<'_>) -> BTreeMap<String, String> {
    let one = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), variables(text)?)),
    };
    given.iter().filter_map(one).collect()
}

/// `NAME=VALUE` of `--label`; without a value it is empty.
pub(crate) fn labels(given: &[String]) -> BTreeMap<String, String> {
    let one = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    given.iter().map(one).collect()
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` of `--add-host`, in the order that was given.
///
/// # Errors
/// When one is neither, or the address is none.
pub(crate) fn hosts(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let one = |text: &String| {
        let (name, address) = text.split_once(['=', ':']).unwrap_or((text, ""));
        let address = match address.trim_start_matches('[').trim_end_matches(']') {
            // docker's name for the host as containers see it: they share its network here
            "host-gateway" => "127.0.0.1",
            address => address,
        };
        if name.is_empty() || address.parse::<std::net::IpAddr>().is_err() {
            return Err(Failure::usage(format!("--add-host: `{text}` is not NAME:ADDRESS")));
        }
        Ok((name.to_owned(), address.to_owned()))
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn pairs_are_read_as_docker_reads_them() {
        let variables: Variables<'_> = &|name| (name == "SET").then(|| "from outside".to_owned());
        let found = build_arguments(&given(&["A=1", "A=2=3", "SET", "UNSET", "EMPTY="]), variables);
        let expected = [("A", "2=3"), ("EMPTY", ""), ("SET", "from outside")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let found = labels(&given(&["a=b,c=d", "bare", "a=last"]));
        assert_eq!(found, [("a", "last"), ("bare", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn hosts_have_names_and_addresses() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", "10.0.0.1"),
            ("db=10.0.0.1", "db", "10.0.0.1"),
            ("six:::1", "six", "::1"),
            ("six:[fe80::1]", "six", "fe80::1"),
            ("six=[::1]", "six", "::1"),
            ("host.docker.internal:host-gateway", "host.docker.internal", "127.0.0.1"),
        ] {
            let found = hosts(&given(&[text])).unwrap();
            assert_eq!(found, [(name.to_owned(), address.to_owned())], "{text}");
        }
        for text in ["", "db", ":10.0.0.1", "db:", "db:moon", "10.0.0.1", "db:10.0.0.1:80"] {
            let words = hosts(&given(&[text])).unwrap_err().words();
            assert!(words.contains(&format!("`{text}`")), "{words}");
        }
    }
}
