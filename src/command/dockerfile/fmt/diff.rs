//! A line-by-line difference in the form of `diff -u`.

use similar::TextDiff;
use std::time::Duration;

/// Time for the shortest difference; past it a longer one is shown.
const SEARCH_TIME: Duration = Duration::from_millis(500);

/// What to do to `old` to get `new`, in hunks.
pub(super) fn unified(old: &str, new: &str) -> String {
    let lines = [lines(old), lines(new)];
    let mut configured = TextDiff::configure();
    let difference =
        configured.timeout(SEARCH_TIME).newline_terminated(true).diff_slices(&lines[0], &lines[1]);
    difference.unified_diff().to_string()
}

/// The lines with their ends, which may be all that differs. A carriage return ends no line of a recipe.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn differences() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        assert_eq!(unified("a\rb\n", "a\rc\n"), "@@ -1 +1 @@\n-a\rb\n+a\rc\n");
        let old: String = (0..30).map(|line| format!("{line}\n")).collect();
        let new = old.replace("5\n", "five\n").replace("\n20\n", "\ntwenty\n");
        assert_eq!(unified(&old, &new).matches("@@ -").count(), 2);
    }
}
