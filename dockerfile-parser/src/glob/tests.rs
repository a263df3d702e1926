use super::*;

#[test]
fn go_patterns() {
    for (pattern, path, expected) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "abc", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "-", true),
        ("a**b", "axb", true),
        ("**", "a/b", false),
        ("file[x]", "filex", true),
    ] {
        assert_eq!(matches(pattern, path), Ok(expected), "{pattern} {path}");
    }
    for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "a[", "[", "[^", "[^bc", "\\", "[\\", "[a-b-c]", "a[]"] {
        assert!(Glob::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn deep_patterns() {
    for (pattern, path, expected) in [
        ("**", "a", true),
        ("**", "a/b/c", true),
        ("**/", "a/b", true),
        ("**/a", "a", true),
        ("**/a", "x/y/a", true),
        ("**/a", "xa", false),
        ("**/*.pyc", "x/y/a.pyc", true),
        ("**/*.pyc", "a.py", false),
        ("a/**", "a", false),
        ("a/**", "a/b/c", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "ab", false),
        ("**/a/**", "x/a/y", true),
        ("**/a/**", "a/y", true),
        ("**foo", "xfoo", true),
        ("**foo", "a/xfoo", true),
        ("a**b", "ab", true),
        ("a**b", "ax/b", true),
        ("a**b", "axb", false),
        ("*a**/b", "aab", true),
        ("a/*/b", "a/x/b", true),
        ("a/*/b", "a/x/y/b", false),
        ("**/a[0-9]", "x/a1", true),
        ("**/x/*.c", "a/x/y.c", true),
        ("**/x/*.c", "x/y.c", true),
    ] {
        assert_eq!(Glob::deep(pattern).unwrap().matches(path), expected, "{pattern} {path}");
    }
}

#[test]
fn parents_and_what_lies_below() {
    for (pattern, path, expected) in [
        ("a", "a/b", true),
        ("a", "ab", false),
        ("a/b", "a", false),
        ("**/b", "a/b/c", true),
        ("*/b", "a/b/c/d", true),
        ("*.d", "x.d/y", true),
        ("a/*", "a/b/c", true),
    ] {
        assert_eq!(Glob::deep(pattern).unwrap().matches_or_parent(path), expected, "{pattern} {path}");
    }
    for (pattern, dir, expected) in [
        ("a/b", "a", true),
        ("a/b", "a/b", false),
        ("a/b", "ab", false),
        ("a/*/c", "a/b", true),
        ("a/*/c", "a/b/c", false),
        ("*/c", "a", true),
        ("*.md", "docs", false),
        ("**/*.md", "docs", true),
        ("a/**/c", "a/b/d", true),
        ("a/**/c", "b", false),
    ] {
        assert_eq!(Glob::deep(pattern).unwrap().may_match_below(dir), expected, "{pattern} {dir}");
    }
}

#[test]
fn hostile_patterns_are_quick() {
    let pattern = "a*".repeat(200) + "b";
    assert!(!Glob::new(&pattern).unwrap().matches(&"a".repeat(4000)));
    let deep = "**/a/".repeat(100) + "b";
    assert!(!Glob::deep(&deep).unwrap().matches(&"a/".repeat(1000)));
}

#[test]
fn cleaning() {
    for (path, expected) in [
        ("", "."),
        ("a//b/./c/..", "a/b"),
        ("../a", "../a"),
        ("a/../../b", "../b"),
        ("/../a", "/a"),
        ("/", "/"),
        ("a/..", "."),
        ("./a/", "a"),
    ] {
        assert_eq!(clean(path), expected, "{path}");
    }
}
