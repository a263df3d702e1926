//! Nearest names, for hints.

/// The candidate nearest to `word`, ignoring case, when it is near enough to be what was meant.
///
/// Near enough is a third of the longer word's characters, at least one; a swap of two neighbours counts as one edit,
/// and so does leaving out everything after the third character or later.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(MAX_WORD).collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.to_lowercase().chars().take(MAX_WORD).collect();
        let allowed = (word.len().max(other.len()) / 3).max(1);
        let is_beginning = word.len() >= 3 && other.starts_with(&word);
        let distance = edit_distance(&word, &other, true).min(if is_beginning { 1 } else { usize::MAX });
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Words longer than this are cut before comparing: nobody mistypes a name of that length.
const MAX_WORD: usize = 64;

/// Edits from one word to the other; with `swaps` a swap of neighbours counts once (optimal string alignment), without
/// it twice (Levenshtein).
pub(crate) fn edit_distance(a: &[char], b: &[char], swaps: bool) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1);
            if swaps && i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_only_what_is_near() {
        let names = ["FROM", "RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(nearest("FORM", names), Some("FROM"));
        assert_eq!(nearest("rum", names), Some("RUN"));
        assert_eq!(nearest("ENTRYPIONT", names), Some("ENTRYPOINT"));
        assert_eq!(nearest("ENTRY", names), Some("ENTRYPOINT"));
        assert_eq!(nearest("apt-get", names), None);
        assert_eq!(nearest("", names), None);
    }
}
