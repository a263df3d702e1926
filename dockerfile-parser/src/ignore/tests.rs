use super::*;

#[test]
fn rules() {
    for (file, path, ignored) in [
        ("a", "a", true),
        ("a", "a/b/c", true),
        ("a", "b/a", false),
        ("/a", "a", true),
        ("./a/", "a/x", true),
        ("a/../b", "b", true),
        ("  a\t", "a", true),
        ("# a", "# a", false),
        (" # a", "# a", true),
        ("\u{feff}a", "a", true),
        ("a\r\nb\r\n", "b", true),
        ("*", "a/b", true),
        ("*", "", false),
        (".", "a", false),
        ("*.md\n!README.md", "README.md", false),
        ("*.md\n!README.md", "x.md", true),
        ("!README.md\n*.md", "README.md", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("*\n!src", "src/a.rs", false),
        ("*\n!src\nsrc/*.bak", "src/a.bak", true),
        ("*/temp*", "a/temp1", true),
        ("*/temp*", "a/b/temp1", false),
        ("*/*/temp*", "a/b/temp1", true),
        ("temp?", "tempa", true),
        ("temp?", "temp/x", false),
        ("**/*.go", "a.go", true),
        ("**/*.go", "x/y/a.go", true),
        ("**/node_modules", "a/node_modules/b/c.js", true),
        ("**", "a/b", true),
        ("**\n!a/b", "a/b", false),
        ("a\n! a/b", "a/b", false),
        ("a/**", "a", false),
        ("a/**", "a/b", true),
        ("dir\n!dir/keep\ndir", "dir/keep", true),
        ("[ab]", "a", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("", "a", false),
        ("../a", "a", false),
        (".git", ".gitignore", false),
    ] {
        assert_eq!(IgnoreFile::parse(file).unwrap().matches(path, false), ignored, "{file:?} {path:?}");
    }
}

#[test]
fn paths_may_be_written_in_several_ways() {
    let ignore = IgnoreFile::parse("a/b").unwrap();
    for path in ["a/b", "/a/b", "./a/b", "a/b/", ".//a/b"] {
        assert!(ignore.matches(path, true), "{path}");
    }
}

#[test]
fn pruning() {
    for (file, dir, below) in [
        ("a", "b", true),
        ("a", "a", false),
        ("a\n!a/b", "a", true),
        ("a\n!a/b", "a/c", false),
        ("!a/b\na", "a", false),
        ("*\n!src/**/*.rs", "src", true),
        ("*\n!src/**/*.rs", "target", false),
        ("*\n!**/*.rs", "target", true),
        ("*\n!a/*/c", "a/b", true),
        ("*\n!a/*/c", "a/b/d", false),
        ("*", "", true),
        ("a\n!a", "a", true),
    ] {
        assert_eq!(IgnoreFile::parse(file).unwrap().may_reinclude_below(dir), below, "{file:?} {dir}");
    }
}

#[test]
fn mistakes() {
    assert_eq!(IgnoreFile::parse("a\n!\n"), Err(IgnoreError::Bare { line: 2 }));
    let error = IgnoreFile::parse("a\n\n[b").unwrap_err();
    assert_eq!(error.to_string(), "line 3: malformed pattern `[b`");
}

#[test]
fn lists_have_no_comments() {
    assert!(IgnoreFile::from_patterns(["#a"]).unwrap().matches("#a", false));
}

#[test]
fn pruning_never_hides_what_is_visible() {
    let files = ["*\n!a/b/*.x", "a\n!a/**/k", "**/t\n!t/a/**", "*/b\n!**/c"];
    let names = ["a", "b", "t", "c", "k", "q.x"];
    for file in files {
        let ignore = IgnoreFile::parse(file).unwrap();
        for first in names {
            for second in names {
                for third in names {
                    let path = format!("{first}/{second}/{third}");
                    if !ignore.matches(&path, false) {
                        assert!(ignore.may_reinclude_below(first), "{file:?} {path}");
                        assert!(ignore.may_reinclude_below(&format!("{first}/{second}")), "{file:?} {path}");
                    }
                }
            }
        }
    }
}
