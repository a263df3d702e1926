//! Query strings.

use super::error::ApiError;
use crate::limits;
use std::str::FromStr;

/// The decoded parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Result<Query, ApiError> {
        let text = text.unwrap_or_default();
        if text.len() > limits::QUERY_BYTES {
            return Err(ApiError::QueryLong);
        }
        Ok(Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The number of entries asked for with `n`: clamped where it is large (clients ask for millions), refused where
    /// it is no number.
    pub(super) fn page(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("n") else { return Ok(limits::PAGE_ENTRIES_DEFAULT) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::PageNumber(text.chars().take(40).collect()));
        }
        // digits alone can only fail by being too many
        Ok(usize::from_str(text).unwrap_or(usize::MAX).min(limits::PAGE_ENTRIES))
    }
}

/// A `Link` header's value that names the next page.
pub(super) fn next_link(path: &str, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("<{path}?{query}>; rel=\"next\"")
}
