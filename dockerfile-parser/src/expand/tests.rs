//! Tables of every form of expansion.

use super::*;

fn lookup(name: &str) -> Option<String> {
    Some(
        match name {
            "v" => "value",
            "empty" => "",
            "path" => "/usr/local/lib/libx.so.1",
            "dots" => "a.b.c",
            "stars" => "a*b?c\\d",
            "lines" => "a\nb a",
            "two" => "80 443",
            "dollar" => "$v",
            "\u{e9}t\u{e9}" => "summer",
            _ => return None,
        }
        .to_owned(),
    )
}

fn expand(text: &str) -> Result<String, ExpandError> {
    Expander::new('\\').expand(text, &lookup).map(|expansion| expansion.value)
}

#[test]
fn substitutions() {
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$v", "value"),
        ("${v}", "value"),
        ("a$v.b", "avalue.b"),
        ("$v$v", "valuevalue"),
        ("$vx", ""),
        ("${v}x", "valuex"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "x"),
        ("$12x", "x"),
        ("$@$*$#$?$-$$$!", ""),
        ("$\u{e9}t\u{e9}", "summer"),
        ("$dollar", "$v"),
        // default
        ("${none:-w}", "w"),
        ("${none-w}", "w"),
        ("${empty:-w}", "w"),
        ("${empty-w}", ""),
        ("${v:-w}", "value"),
        ("${none:-}", ""),
        ("${none:-$v}", "value"),
        ("${none:-${empty:-${v}}}", "value"),
        ("${none:-\"a b\"}", "a b"),
        ("${none:-'$v}'}", "$v}"),
        ("${none:-a\\}b}", "a}b"),
        // alternative
        ("${v:+w}", "w"),
        ("${v+w}", "w"),
        ("${empty:+w}", ""),
        ("${empty+w}", "w"),
        ("${none:+w}", ""),
        ("${none+w}", ""),
        // required
        ("${v:?m}", "value"),
        ("${v?m}", "value"),
        ("${empty?m}", ""),
        // prefix and suffix
        ("${path#*/}", "usr/local/lib/libx.so.1"),
        ("${path##*/}", "libx.so.1"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path%%/*}", ""),
        ("${path%.*}", "/usr/local/lib/libx.so"),
        ("${path%%.*}", "/usr/local/lib/libx"),
        ("${path#/usr}", "/local/lib/libx.so.1"),
        ("${path#nope}", "/usr/local/lib/libx.so.1"),
        ("${dots#?.}", "b.c"),
        ("${dots#??}", "b.c"),
        ("${dots##*}", ""),
        ("${dots#*}", "a.b.c"),
        ("${dots%?}", "a.b."),
        ("${stars#a\\*}", "b?c\\d"),
        ("${stars%c\\\\d}", "a*b?"),
        ("${none#a}", ""),
        ("${v#$v}", ""),
        ("${v#[v]}", "value"),
        // replacement
        ("${dots/./-}", "a-b.c"),
        ("${dots//./-}", "a-b-c"),
        ("${dots//./}", "abc"),
        ("${dots/b/$v}", "a.value.c"),
        ("${dots/a*c/x}", "x"),
        ("${dots//?/x}", "xxxxx"),
        ("${path//\\//_}", "_usr_local_lib_libx.so.1"),
        ("${dots/nope/x}", "a.b.c"),
        ("${none/a/b}", ""),
        ("${lines//a*/x}", "x\nb x"),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn quotes_and_escapes() {
    for (text, expected) in [
        ("'$v'", "$v"),
        ("\"$v\"", "value"),
        ("'a\"b'", "a\"b"),
        ("\"a'b\"", "a'b"),
        ("a'b'\"c\"d", "abcd"),
        ("\\$v", "$v"),
        ("\\\\$v", "\\value"),
        ("\\a", "a"),
        ("\\'a", "'a"),
        ("a\\", "a"),
        ("'a\\'", "a\\"),
        ("\"\\$v\"", "$v"),
        ("\"a\\\"b\"", "a\"b"),
        ("\"a\\\\b\"", "a\\b"),
        ("\"a\\nb\"", "a\\nb"),
        ("\"a\\ b\"", "a\\ b"),
        ("a b", "a b"),
        ("''", ""),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("`$v", "$v"),
        ("a\\$v", "a\\value"),
        ("C:\\x\\`y", "C:\\x\\y"),
        ("\"`\"\\\"", "\"\\"),
        ("${none:-a`}b}", "a}b"),
        ("``", "`"),
    ] {
        let found = Expander::new('`').expand(text, &lookup).map(|expansion| expansion.value);
        assert_eq!(found.as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes() {
    for (text, expected) in [
        ("'a", ExpandError::UnclosedQuote("single")),
        ("\"a", ExpandError::UnclosedQuote("double")),
        ("\"a\\", ExpandError::UnclosedQuote("double")),
        ("${", ExpandError::MissingBrace),
        ("${v", ExpandError::MissingBrace),
        ("${v:", ExpandError::MissingBrace),
        ("${v:-w", ExpandError::MissingBrace),
        ("${}", ExpandError::BadSubstitution),
        ("${{v}}", ExpandError::BadSubstitution),
        ("${:-w}", ExpandError::BadSubstitution),
        ("${v:=w}", ExpandError::UnsupportedModifier { name: "v".into(), modifier: ":=".into() }),
        ("${v!w}", ExpandError::UnsupportedModifier { name: "v".into(), modifier: "!".into() }),
        ("${v:1:2}", ExpandError::UnsupportedModifier { name: "v".into(), modifier: ":1".into() }),
        ("${v/a}", ExpandError::MissingSlash { name: "v".into() }),
        ("${v/a/b", ExpandError::MissingBrace),
        ("${v#a\\b}", ExpandError::BadPattern { pattern: "a\\b".into() }),
        (
            "${none?}",
            ExpandError::Required { name: "none".into(), message: "is not allowed to be unset".into() },
        ),
        (
            "${empty:?}",
            ExpandError::Required { name: "empty".into(), message: "is not allowed to be empty".into() },
        ),
        ("${none:?set $v}", ExpandError::Required { name: "none".into(), message: "set value".into() }),
    ] {
        assert_eq!(expand(text), Err(expected), "{text}");
    }
}

#[test]
fn nesting_and_growth_are_bounded() {
    let nested = |depth: usize| format!("{}x{}", "${none:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expand(&nested(64)).as_deref(), Ok("x"));
    assert_eq!(expand(&nested(65)), Err(ExpandError::TooDeep(64)));
    assert_eq!(expand(&nested(100_000)), Err(ExpandError::TooDeep(64)));
    let big = "x".repeat(1 << 20);
    let grow = Expander::new('\\').expand(&"$a".repeat(20), &|_| Some(big.clone()));
    assert!(matches!(grow, Err(ExpandError::TooLong(_))));
    let grow = Expander::new('\\').expand("${a//x/$a}", &|_| Some(big.clone()));
    assert!(matches!(grow, Err(ExpandError::TooLong(_))));
}

#[test]
fn names_are_reported() {
    let expansion = Expander::new('\\').expand("$v ${none} ${other:-w} $v ${third%x}", &lookup).unwrap();
    assert_eq!(expansion.used, ["v", "none", "other", "third"]);
    assert_eq!(expansion.unset, ["none", "third"]);
}

#[test]
fn words_split_after_expansion() {
    for (text, expected) in [
        ("$two", vec!["80", "443"]),
        ("\"$two\"", vec!["80 443"]),
        ("a$two", vec!["a80", "443"]),
        (" a  b ", vec!["a", "b"]),
        ("a\\ b", vec!["a b"]),
        ("'a b'c", vec!["a bc"]),
        ("$empty", vec![]),
    ] {
        assert_eq!(Expander::new('\\').split(text, &lookup).unwrap().0, expected, "{text}");
    }
}

#[test]
fn heredoc_bodies_keep_quotes() {
    for (text, expected) in [
        ("\"$v\" '$v'\n", "\"value\" 'value'\n"),
        ("it's\n", "it's\n"),
        ("\\$v\n", "$v\n"),
        ("\\\\\n", "\\\n"),
        ("\\\n", "\n"),
        ("${none:-\"x\"}", "\"x\""),
    ] {
        let found = Expander::new('\\').expand_raw(text, &lookup).map(|expansion| expansion.value);
        assert_eq!(found.as_deref(), Ok(expected), "{text}");
    }
}
