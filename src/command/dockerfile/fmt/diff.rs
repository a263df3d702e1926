//! A line-by-line difference in the form of `diff -u`.

/// Equal lines shown around changes.
const AROUND: usize = 3;

/// Largest table of the comparison; past it the middle is shown as replaced in whole.
const MAX_CELLS: usize = 4_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Keep,
    Remove,
    Add,
}

/// What to do to `old` to get `new`, in hunks.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new) = (lines(old), lines(new));
    let changes = compare(&old, &new);
    let is_near = |at: usize| {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(changes.len()));
        changes[from..to].iter().any(|change| *change != Change::Keep)
    };
    let (mut out, mut hunk) = (String::new(), Hunk::default());
    let (mut a, mut b) = (0, 0);
    for (at, change) in changes.iter().enumerate() {
        if !is_near(at) {
            hunk.flush(&mut out);
        } else {
            hunk.begin(a, b);
            match change {
                Change::Keep => hunk.line(' ', old[a]),
                Change::Remove => hunk.line('-', old[a]),
                Change::Add => hunk.line('+', new[b]),
            }
        }
        a += usize::from(*change != Change::Add);
        b += usize::from(*change != Change::Remove);
    }
    hunk.flush(&mut out);
    out
}

/// The lines with their ends, which may be all that differs.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Changes that stand close together.
#[derive(Default)]
struct Hunk {
    text: String,
    starts: (usize, usize),
    counts: (usize, usize),
}

impl Hunk {
    fn begin(&mut self, a: usize, b: usize) {
        if self.text.is_empty() {
            self.starts = (a + 1, b + 1);
        }
    }

    fn line(&mut self, mark: char, line: &str) {
        self.counts.0 += usize::from(mark != '+');
        self.counts.1 += usize::from(mark != '-');
        self.text.push(mark);
        self.text.push_str(line.strip_suffix('\n').unwrap_or(line));
        self.text.push('\n');
        if !line.ends_with('\n') {
            self.text.push_str("\\ No newline at end of file\n");
        }
    }

    fn flush(&mut self, out: &mut String) {
        let hunk = std::mem::take(self);
        if !hunk.text.is_empty() {
            let ((a, b), (c, d)) = (hunk.starts, hunk.counts);
            *out += &format!("@@ -{a},{c} +{b},{d} @@\n{}", hunk.text);
        }
    }
}

/// The longest common subsequence, as changes.
fn compare(old: &[&str], new: &[&str]) -> Vec<Change> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = (&old[start..], &new[start..]);
    let end = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&rest.0[..rest.0.len() - end], &rest.1[..rest.1.len() - end]);
    let mut changes = vec![Change::Keep; start];
    if a.len().saturating_mul(b.len()) > MAX_CELLS {
        changes.extend(std::iter::repeat_n(Change::Remove, a.len()));
        changes.extend(std::iter::repeat_n(Change::Add, b.len()));
    } else {
        middle(a, b, &mut changes);
    }
    changes.extend(std::iter::repeat_n(Change::Keep, end));
    changes
}

fn middle(a: &[&str], b: &[&str], changes: &mut Vec<Change>) {
    let width = b.len() + 1;
    let mut longest = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            changes.push(Change::Keep);
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1])
        {
            changes.push(Change::Remove);
            i += 1;
        } else {
            changes.push(Change::Add);
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn differences() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("a", "a\n"), "@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n");
        let old: String = (0..30).map(|line| format!("{line}\n")).collect();
        let new = old.replace("5\n", "five\n").replace("\n20\n", "\ntwenty\n");
        assert_eq!(unified(&old, &new).matches("@@ -").count(), 2);
    }
}
