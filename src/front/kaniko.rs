//! kaniko's `executor`: its command line in slipway's words, as `slipway kaniko ...` or by the program's name `executor`.
//!
//! kaniko's habits are kept: an image is pushed to every `--destination` unless `--no-push` says otherwise, there is no cache but the
//! one in a registry that `--cache` asks for, the context is a flag with a scheme. What only chooses how kaniko works (it unpacks
//! over its own root and snapshots it) has nothing to choose here and is said once.

use crate::error::Failure;
use slipway_oci::Reference;
use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// What one of kaniko's flags is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A flag of `slipway build` with the same value.
    Is(&'static str),
    /// Read in [`Given`].
    Own,
    /// Nothing has to be done for it.
    Nothing,
    /// It chooses how kaniko works.
    Noted,
    /// It cannot be.
    Refused(&'static str),
}

/// A flag: its names, whether it takes a value, its meaning.
type Flag = (&'static [&'static str], bool, Meaning);

/// All of them, by what they are here; the last name is the one by which [`Given`] is asked.
const FLAGS: &[Flag] = {
    use Meaning::{Is, Noted, Nothing, Own, Refused};
    &[
        (&["build-arg"], true, Is("build-arg")),
        (&["label"], true, Is("label")),
        (&["target"], true, Is("target")),
        (&["secret"], true, Is("secret")),
        (&["custom-platform", "customPlatform"], true, Is("platform")),
        (&["insecure-registry", "skip-tls-verify-registry"], true, Is("insecure-registry")),
        (&["registry-mirror"], true, Is("registry-mirror")),
        (&["compression"], true, Is("compression")),
        (&["digest-file"], true, Is("digest-file")),
        (&["image-name-with-digest-file"], true, Is("image-name-with-digest-file")),
        (&["image-name-tag-with-digest-file"], true, Is("image-name-tag-with-digest-file")),
        (&["c", "context"], true, Own),
        (&["context-sub-path"], true, Own),
        (&["f", "dockerfile"], true, Own),
        (&["d", "destination"], true, Own),
        (&["tarPath", "tar-path"], true, Own),
        (&["oci-layout-path"], true, Own),
        (&["no-push"], false, Own),
        (&["cache"], false, Own),
        (&["cache-repo"], true, Own),
        (&["no-push-cache"], false, Own),
        (&["single-snapshot"], false, Own),
        (&["insecure", "skip-tls-verify"], false, Own),
        (
            &["insecure-pull", "skip-tls-verify-pull"],
            false,
            Refused("name the registry that is pulled from: --insecure-registry HOST[:PORT]"),
        ),
        (&["compression-level"], true, Own),
        (&["registry-certificate"], true, Own),
        (&["reproducible"], false, Nothing),
        (&["skip-unused-stages"], false, Nothing),
        (&["skip-push-permission-check"], false, Nothing),
        (&["cache-copy-layers"], false, Nothing),
        (&["cache-run-layers"], false, Nothing),
        (&["compressed-caching"], false, Nothing),
        (&["log-timestamp"], false, Nothing),
        (&["log-format"], true, Nothing),
        (&["v", "verbosity"], true, Nothing),
        (&["push-retry", "image-download-retry", "image-fs-extract-retry"], true, Nothing),
        (&["cleanup"], false, Noted),
        (&["force"], false, Noted),
        (&["force-build-metadata"], false, Noted),
        (&["use-new-run"], false, Noted),
        (&["ignore-var-run"], false, Noted),
        (&["ignore-path"], true, Noted),
        (&["snapshot-mode", "snapshotMode"], true, Noted),
        (&["kaniko-dir"], true, Noted),
        (&["cache-dir"], true, Noted),
        (&["cache-ttl"], true, Noted),
        (&["git"], true, Noted),
        (
            &["registry-client-cert"],
            true,
            Refused("keep it as /etc/docker/certs.d/HOST/client.cert and client.key"),
        ),
        (&["registry-map"], true, Refused("name the mirrors in registries.conf; see docs/registries.md")),
        (
            &["skip-default-registry-fallback"],
            false,
            Refused("the registry itself is asked where no mirror answers; leave the flag out"),
        ),
        (
            &["push-ignore-immutable-tag-errors"],
            false,
            Refused("a registry's refusal is a failure; leave the flag out and look at the exit status"),
        ),
    ]
};

/// Where kaniko looks for a context that nobody names.
const USUAL_CONTEXT: &str = "/workspace/";

/// What the line says, flag by flag.
#[derive(Default)]
struct Given {
    /// Words for `slipway build`.
    words: Vec<OsString>,
    noted: Vec<&'static str>,
    values: Vec<(&'static str, String)>,
}

impl Given {
    fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last().copied().filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.values.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True"))
    }

    fn push(&mut self, flag: &str, value: &str) {
        self.words.push(format!("--{flag}={value}").into());
    }
}

/// The words of a line and what the caller should know, in slipway's own: a line of kaniko's translated, another as it is.
/// `argv` begins with the program's name; `exists` looks for a file.
pub(super) fn translated(
    argv: Vec<OsString>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<(Vec<OsString>, Vec<String>), Failure> {
    let mut words = argv.into_iter();
    let program = words.next().unwrap_or_default();
    let rest: Vec<OsString> = words.collect();
    let is_executor = Path::new(&program).file_name() == Some(OsStr::new("executor"));
    let first = rest.first().and_then(|word| word.to_str());
    let own = match (is_executor, first) {
        (_, Some("kaniko")) => &rest[1..],
        // whoever links slipway under kaniko's name may want slipway's commands too
        (true, Some(word)) if !word.starts_with('-') => return Ok((rest, Vec::new())),
        (true, _) => &rest[..],
        (false, _) => return Ok((rest, Vec::new())),
    };
    match own.first().and_then(|word| word.to_str()) {
        Some("version") => return Ok((vec!["version".into()], Vec::new())),
        Some("-h" | "--help" | "help") => return Ok((vec!["build".into(), "--help".into()], Vec::new())),
        _ => {}
    }
    let mut given = read(own)?;
    let notes = match given.noted.as_slice() {
        [] => Vec::new(),
        noted => vec![format!(
            "`{}` do{} nothing here: slipway builds beside its own root, and takes no snapshots",
            noted.join("`, `"),
            if noted.len() == 1 { "es" } else { "" }
        )],
    };
    let context = translate(&mut given, exists)?;
    let mut all = vec![OsString::from("build")];
    all.append(&mut given.words);
    all.extend([OsString::from("--"), context.into()]);
    Ok((all, notes))
}

/// Reads flags as pflag does: `--a=b`, `--a b`, `-ab`, `-a b`, and booleans alone.
fn read(words: &[OsString]) -> Result<Given, Failure> {
    let mut given = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let shown = word.display();
        let text = word.to_str().ok_or_else(|| Failure::usage(format!("`{shown}` is not UTF-8")))?;
        let (name, mut value) = match (text.strip_prefix("--"), text.strip_prefix('-')) {
            (Some(long), _) => match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            },
            (None, Some(short)) if !short.is_empty() => {
                let (name, rest) = short.split_at(short.chars().next().map_or(0, char::len_utf8));
                let rest = rest.strip_prefix('=').unwrap_or(rest);
                (name, (!rest.is_empty()).then(|| rest.to_owned()))
            }
            _ => {
                let words = format!("kaniko's line has no word of its own: `{text}`");
                return Err(Failure::usage(words).with_hint("the context is --context dir://FOLDER"));
            }
        };
        let is_short = !text.starts_with("--");
        let found = FLAGS.iter().find(|(names, ..)| names.contains(&name) && (name.len() == 1) == is_short);
        let Some((names, takes, meaning)) = found else {
            let words = format!("`{text}` is no flag of kaniko's");
            return Err(Failure::usage(words).with_hint("`slipway help build` shows what slipway has"));
        };
        if value.is_none() && *takes {
            let next = words.next().and_then(|word| word.to_str());
            value = Some(next.ok_or_else(|| Failure::usage(format!("`{text}` needs a value")))?.to_owned());
        }
        let value = value.unwrap_or_else(|| "true".to_owned());
        match meaning {
            Meaning::Is(flag) => given.push(flag, &value),
            Meaning::Own => given.values.push((names.last().expect("a flag has a name"), value)),
            Meaning::Nothing => {}
            Meaning::Noted => given.noted.push(names[0]),
            Meaning::Refused(_) if value == "false" => {}
            Meaning::Refused(hint) => {
                return Err(Failure::usage(format!("`slipway kaniko` has no `{text}`")).with_hint(*hint));
            }
        }
    }
    given.noted.dedup();
    Ok(given)
}

/// What the flags that belong together mean; answers the context.
fn translate(given: &mut Given, exists: &dyn Fn(&Path) -> bool) -> Result<String, Failure> {
    let destinations: Vec<String> = given.all("destination").iter().map(|name| (*name).to_owned()).collect();
    let no_push = given.is_on("no-push");
    if destinations.is_empty() && !no_push {
        return Err(Failure::usage("`slipway kaniko` needs --destination, or --no-push"));
    }
    for name in &destinations {
        given.push("tag", name);
    }
    outputs(given, no_push);
    registries(given, &destinations)?;
    if given.is_on("cache") {
        caches(given, &destinations)?;
    }
    if given.is_on("single-snapshot") {
        given.words.push("--squash".into());
    }
    // kaniko's own default says nothing
    if let Some(level) = given.last("compression-level").filter(|level| *level != "-1").map(str::to_owned) {
        given.push("compression-level", &level);
    }
    let (context, is_folder) = context(given)?;
    if let Some(recipe) = given.last("dockerfile").map(str::to_owned) {
        let path = Path::new(&recipe);
        let is_there = path.is_absolute() || recipe.contains("://") || !is_folder || exists(path);
        let recipe = if is_there { recipe } else { format!("{}/{recipe}", context.trim_end_matches('/')) };
        given.push("file", &recipe);
    }
    Ok(context)
}

fn outputs(given: &mut Given, no_push: bool) {
    let quoted = |kind: &str, path: &str| format!("type={kind},\"dest={}\"", path.replace('"', "\"\""));
    let tar = given.last("tar-path").map(|path| quoted("docker", path));
    let layout = given.last("oci-layout-path").map(|path| format!("{},tar=false", quoted("oci", path)));
    for output in tar.into_iter().chain(layout) {
        given.push("output", &output);
    }
    if !no_push {
        given.words.push("--push".into());
    }
}

/// Registries that need no certificate: those that are pushed to.
fn registries(given: &mut Given, destinations: &[String]) -> Result<(), Failure> {
    if given.is_on("skip-tls-verify") {
        let mut hosts = Vec::new();
        for name in destinations {
            hosts.push(parsed(name)?.registry().to_owned());
        }
        hosts.dedup();
        for host in hosts {
            given.push("insecure-registry", &host);
        }
    }
    if let Some(certificate) = given.last("registry-certificate") {
        let path = certificate.split_once('=').map_or(certificate, |(_, path)| path).to_owned();
        given.push("tls-ca", &path);
    }
    Ok(())
}

/// kaniko's cache is a repository, by default below the first destination's. A cache that cannot be written is a warning to it.
fn caches(given: &mut Given, destinations: &[String]) -> Result<(), Failure> {
    let repository = match (given.last("cache-repo"), destinations.first()) {
        (Some(repository), _) => repository.to_owned(),
        (None, Some(name)) => format!("{}/cache", parsed(name)?.familiar_name()),
        (None, None) => {
            return Err(Failure::usage("--cache needs --cache-repo where there is no --destination"));
        }
    };
    let (from, to) = match repository.strip_prefix("oci:") {
        Some(folder) => (format!("type=local,src={folder}"), format!("type=local,dest={folder}")),
        None => (format!("type=registry,ref={repository}"), format!("type=registry,ref={repository}")),
    };
    given.push("cache-from", &from);
    if !given.is_on("no-push-cache") {
        given.push("cache-to", &format!("{to},mode=max,ignore-error=true"));
    }
    Ok(())
}

fn parsed(name: &str) -> Result<Reference, Failure> {
    let parsed: Result<Reference, _> = name.parse();
    parsed.map_err(|error| Failure::usage(format!("--destination: {error}")))
}

/// The context in slipway's words, and whether it is a folder.
fn context(given: &Given) -> Result<(String, bool), Failure> {
    let text = given.last("context").unwrap_or(USUAL_CONTEXT);
    let below = given.last("context-sub-path").map(|below| below.trim_matches('/'));
    let (scheme, rest) = text.split_once("://").unwrap_or(("dir", text));
    match scheme {
        "dir" => {
            let folder = match below {
                Some(below) => format!("{}/{below}", rest.trim_end_matches('/')),
                None => rest.to_owned(),
            };
            Ok((folder, true))
        }
        "tar" if below.is_none() => {
            Ok((if rest == "stdin" { "-".to_owned() } else { rest.to_owned() }, false))
        }
        "git" | "https" | "http" => {
            let scheme = if scheme == "git" { "https" } else { scheme };
            // kaniko: URL#REF#COMMIT, and the commit is what counts
            let mut parts = rest.split('#');
            let address = parts.next().unwrap_or_default();
            let reference = parts.next_back().unwrap_or_default();
            let reference = ["refs/heads/", "refs/tags/"]
                .iter()
                .find_map(|kind| reference.strip_prefix(kind))
                .unwrap_or(reference);
            let is_archive = scheme != "git" && text.starts_with("http") && !address.ends_with(".git");
            let fragment = match (reference, below) {
                ("", None) => String::new(),
                (reference, None) => format!("#{reference}"),
                (reference, Some(below)) => format!("#{reference}:{below}"),
            };
            // a repository is known by its name's end
            let end = if is_archive || address.ends_with(".git") { "" } else { ".git" };
            Ok((format!("{scheme}://{address}{end}{fragment}"), false))
        }
        "tar" => Err(Failure::usage("--context-sub-path: of an archive all is taken; leave it out")),
        other => Err(Failure::usage(format!("--context: nothing is fetched from `{other}://`"))
            .with_hint("fetch it first, and name it: tar://FILE, tar://stdin or dir://FOLDER")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<String, String> {
        let argv = text.split(' ').map(OsString::from).collect();
        let exists = |path: &Path| path == Path::new("here/Dockerfile");
        let (words, notes) = translated(argv, &exists).map_err(|failure| failure.words())?;
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Ok([words.join(" ")].into_iter().chain(notes).collect::<Vec<_>>().join(" # "))
    }

    #[test]
    fn lines_mean_what_kaniko_does() {
        for (text, expected) in [
            ("executor -c . -d r.test/x:1", "build --tag=r.test/x:1 --push -- ."),
            (
                "/kaniko/executor --context=dir:///w --destination=a/x --destination b/y",
                "build --tag=a/x --tag=b/y --push -- /w",
            ),
            ("slipway kaniko --no-push", "build -- /workspace/"),
            ("slipway kaniko --no-push --context tar://stdin -f Dockerfile", "build --file=Dockerfile -- -"),
            ("executor --no-push -c tar://a.tar.gz", "build -- a.tar.gz"),
            ("executor --no-push -c w -f sub/Dockerfile", "build --file=w/sub/Dockerfile -- w"),
            ("executor --no-push -c w -f here/Dockerfile", "build --file=here/Dockerfile -- w"),
            ("executor --no-push -c w --context-sub-path=a/b", "build -- w/a/b"),
            (
                "executor --no-push -c git://github.com/a/b#refs/heads/main",
                "build -- https://github.com/a/b.git#main",
            ),
            (
                "executor --no-push -c git://h/a.git#refs/heads/main#c0ffee --context-sub-path d",
                "build -- https://h/a.git#c0ffee:d",
            ),
            ("executor --no-push -c https://h/context.tar.gz", "build -- https://h/context.tar.gz"),
            (
                "executor -c . --no-push --tar-path=o.tar -d x",
                "build --tag=x --output=type=docker,\"dest=o.tar\" -- .",
            ),
            (
                "executor -c . --oci-layout-path=o -d x",
                "build --tag=x --output=type=oci,\"dest=o\",tar=false --push -- .",
            ),
            (
                "executor -c . -d r.test/a/x:1 --cache=true",
                "build --tag=r.test/a/x:1 --push --cache-from=type=registry,ref=r.test/a/x/cache \
                 --cache-to=type=registry,ref=r.test/a/x/cache,mode=max,ignore-error=true -- .",
            ),
            (
                "executor -c . -d x --cache --cache-repo=oci:/c --no-push-cache",
                "build --tag=x --push --cache-from=type=local,src=/c -- .",
            ),
            (
                "executor -c . -d r.test:5000/x --insecure --digest-file=d --build-arg=A=b --target t --single-snapshot",
                "build --digest-file=d --build-arg=A=b --target=t --tag=r.test:5000/x --push \
                 --insecure-registry=r.test:5000 --squash -- .",
            ),
            (
                "executor -c . -d x --cache=false --no-push=false --compression-level=-1",
                "build --tag=x --push -- .",
            ),
            (
                "executor -c . -d x --registry-certificate=r=/ca.crt",
                "build --tag=x --push --tls-ca=/ca.crt -- .",
            ),
            (
                "executor -c . -d x --force --cleanup --snapshot-mode=redo -v=debug --reproducible",
                "build --tag=x --push -- . # `force`, `cleanup`, `snapshot-mode` do nothing here: slipway builds beside its own \
                 root, and takes no snapshots",
            ),
            ("executor version", "version"),
            ("executor build -t x .", "build -t x ."),
            ("slipway build -t x .", "build -t x ."),
        ] {
            assert_eq!(line(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, words) in [
            ("executor -c .", "--destination, or --no-push"),
            ("executor -d", "needs a value"),
            ("executor -d x -c s3://bucket/x", "`s3://`"),
            ("executor -d x --what", "no flag of kaniko's"),
            ("executor -d x --registry-map=a=b", "has no `--registry-map=a=b`"),
            ("executor --no-push --cache", "--cache-repo"),
            ("executor -d X:y --insecure", "--destination"),
            ("slipway kaniko .", "no word of its own"),
        ] {
            let found = line(text).expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
    }

    #[test]
    fn every_flag_of_kaniko_s_is_known() {
        let list =
            include_str!("flags.txt").lines().find(|line| line.starts_with("executor:")).expect("kaniko's");
        let mut count = 0;
        for flag in list.split_whitespace().skip(1) {
            let takes = flag.ends_with('=');
            for name in flag.trim_end_matches("[=]").trim_end_matches('=').split(',') {
                let name = name.trim_start_matches('-');
                let found = FLAGS.iter().find(|(names, ..)| names.contains(&name));
                assert!(found.is_some_and(|(_, own, _)| *own == takes), "{name}");
                count += 1;
            }
        }
        assert!(count > 60, "{count}");
    }
}
