//! `If-Match` and `If-None-Match` of requests that change something: compare and swap for tags.
//!
//! Entity tags are digests in quotes, as every reply about a manifest has them. The storage compares, inside the transaction
//! that makes the change, so that of two writers one wins.

use super::{
    access::{Action, Visitor},
    error::ApiError,
    storage::{Condition, Entities, StorageError},
};
use axum::http::{HeaderMap, HeaderName, header};
use slipway_oci::Digest;

/// What the headers ask for. What cannot be read is refused: a condition that was overlooked would be a lost update.
pub(super) fn read(headers: &HeaderMap) -> Result<Condition, ApiError> {
    Ok(Condition {
        is: entities(headers, header::IF_MATCH)?,
        is_not: entities(headers, header::IF_NONE_MATCH)?,
    })
}

/// A header's entities (RFC 9110, section 13.1.1). Weak ones are taken as they are: bytes with one digest are the same.
fn entities(headers: &HeaderMap, name: HeaderName) -> Result<Option<Entities>, ApiError> {
    if !headers.contains_key(&name) {
        return Ok(None);
    }
    let wrong = |text: &str| ApiError::Precondition(text.chars().take(160).collect());
    let mut digests = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| wrong("what is no ASCII"))?;
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                return Ok(Some(Entities::Any));
            }
            let entry = entry.strip_prefix("W/").unwrap_or(entry);
            let quoted = entry.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let digest: Option<Digest> = quoted.and_then(|inner| inner.parse().ok());
            digests.push(digest.ok_or_else(|| wrong(entry))?);
        }
    }
    if digests.is_empty() { Err(wrong("")) } else { Ok(Some(Entities::These(digests))) }
}

/// What is there is told to those alone who may pull it.
pub(super) fn veiled(error: ApiError, visitor: &Visitor, repository: &str) -> ApiError {
    match error {
        ApiError::Storage(StorageError::Moved { what, .. }) if !visitor.may(Action::Pull, repository) => {
            StorageError::Moved { what, current: None }.into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of(values: &[&str]) -> Result<Option<Entities>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_str(value).expect("a value"));
        }
        entities(&headers, header::IF_MATCH)
    }

    #[test]
    fn entity_tags_are_digests_in_quotes() {
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let these = |digests: &[&Digest]| Entities::These(digests.iter().map(|one| (*one).clone()).collect());
        for (values, expected) in [
            (vec![], None),
            (vec!["*".to_owned()], Some(Entities::Any)),
            (vec![format!("\"{one}\"")], Some(these(&[&one]))),
            (vec![format!("W/\"{one}\"")], Some(these(&[&one]))),
            (vec![format!(" \"{one}\" , \"{two}\" ")], Some(these(&[&one, &two]))),
            (vec![format!("\"{one}\""), format!("\"{two}\"")], Some(these(&[&one, &two]))),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(of(&values).expect("entities"), expected, "{values:?}");
        }
        for wrong in ["", ",", "x", "\"x\"", &one.to_string(), "\"sha256:00\"", "\"", "\"*\"", "**"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
