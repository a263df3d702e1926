use super::*;

fn parse(text: &str) -> Result<RunMount, MountError> {
    RunMount::parse(text, &mut |text| Ok(text.replace("$x", "VALUE")))
}

#[test]
fn bind_mounts() {
    let bind = |target: &str, source: &str, from: Option<&str>, read_write| {
        RunMount::Bind(BindMount {
            target: target.into(),
            source: source.into(),
            from: from.map(Into::into),
            read_write,
        })
    };
    for (text, expected) in [
        ("target=/a", bind("/a", "/", None, false)),
        ("type=bind,dst=/a,src=b", bind("/a", "b", None, false)),
        ("TYPE=BIND,Destination=/a,source=b,from=base,rw", bind("/a", "b", Some("base"), true)),
        ("target=/a,readwrite=true", bind("/a", "/", None, true)),
        ("target=/a,rw=false", bind("/a", "/", None, false)),
        ("target=/a,ro=0", bind("/a", "/", None, true)),
        ("target=$x,source=$x", bind("VALUE", "VALUE", None, false)),
        ("\"target=/a,b\",id=ignored", bind("/a,b", "/", None, false)),
        ("\"target=/a\"\"b\"", bind("/a\"b", "/", None, false)),
    ] {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn cache_mounts() {
    let RunMount::Cache(cache) = parse("type=cache,target=/a/../b/").unwrap() else { panic!() };
    assert_eq!(
        (cache.id.as_str(), cache.target.as_str(), cache.sharing),
        ("/b", "/a/../b/", Sharing::Shared)
    );
    assert_eq!((cache.mode, cache.uid, cache.gid, cache.read_only), (0o755, 0, 0, false));
    let text = "type=cache,id=x,target=b,sharing=LOCKED,from=seed,source=/s,mode=0700,uid=1,gid=2,ro";
    let RunMount::Cache(cache) = parse(text).unwrap() else { panic!() };
    assert_eq!(
        (cache.id.as_str(), cache.sharing, cache.from.as_deref()),
        ("x", Sharing::Locked, Some("seed"))
    );
    assert_eq!((cache.mode, cache.uid, cache.gid, cache.read_only), (0o700, 1, 2, true));
}

#[test]
fn secret_ssh_and_tmpfs_mounts() {
    let secret = |text| match parse(text) {
        Ok(RunMount::Secret(secret)) => (secret.id, secret.target, secret.env, secret.required, secret.mode),
        other => panic!("{text}: {other:?}"),
    };
    let target = |text: &str| Some(text.to_owned());
    assert_eq!(secret("type=secret,id=a"), ("a".into(), target("/run/secrets/a"), None, false, 0o400));
    assert_eq!(
        secret("type=secret,source=d/a,required"),
        ("d/a".into(), target("/run/secrets/a"), None, true, 0o400)
    );
    assert_eq!(
        secret("required=true,type=secret,target=/x/y"),
        ("y".into(), target("/x/y"), None, true, 0o400)
    );
    assert_eq!(secret("type=secret,id=a,env=A,mode=0444"), ("a".into(), None, target("A"), false, 0o444));
    assert_eq!(secret("type=secret,id=a,env=A,dst=f"), ("a".into(), target("f"), target("A"), false, 0o400));

    let RunMount::Ssh(ssh) = parse("type=ssh").unwrap() else { panic!() };
    assert_eq!((ssh.id.as_str(), ssh.target, ssh.mode, ssh.required), ("default", None, 0o600, false));

    for (size, bytes) in [("100", 100), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2 kb", 2048)] {
        let tmpfs = TmpfsMount { target: "/t".into(), size_bytes: Some(bytes) };
        assert_eq!(parse(&format!("type=tmpfs,target=/t,size={size}")), Ok(RunMount::Tmpfs(tmpfs)), "{size}");
    }
}

#[test]
fn mistakes() {
    for (text, message, hint) in [
        ("", "mount has no options", None),
        ("a\"b", "mount has a quote in the wrong place", Some("put the quotes")),
        ("traget=/a", "unknown mount key `traget`", Some("did you mean `target`?")),
        ("type=cahce,target=/a", "unknown mount type `cahce`", Some("did you mean `cache`?")),
        ("type=bind,type=cache", "mount has two types", None),
        ("target", "mount key `target` needs a value", Some("write `target=…`")),
        ("target=/a,from=$x", "mount key `from` cannot hold a variable", Some("define a stage")),
        ("target=/", "mount target cannot be `/`", None),
        ("target=/a/..", "mount target cannot be `/`", None),
        (
            "target=/a,sharing=shared",
            "mount key `sharing` is not for type `bind`",
            Some("`sharing` is for type cache"),
        ),
        ("target=/a,mode=755", "mount key `mode` is not for type `bind`", None),
        ("target=/a,required", "mount key `required` is not for type `bind`", None),
        ("type=cache,target=/a,size=1m", "mount key `size` is not for type `cache`", None),
        ("type=cache,target=/a,sharing=x", "invalid value `x` for mount key `sharing`", None),
        ("type=cache,target=/a,mode=9", "invalid value `9` for mount key `mode`", None),
        ("type=cache,target=/a,uid=root", "invalid value `root` for mount key `uid`", None),
        ("type=tmpfs,target=/a,size=big", "invalid value `big` for mount key `size`", None),
        ("type=secret", "secret mount needs an id or a target", None),
        ("type=secret,id=a,source=b", "secret mount has both id and source", None),
        ("type=secret,id=a,from=b", "mount key `from` is not for type `secret`", None),
        ("target=/a,ro=maybe", "invalid value `maybe` for mount key `ro`", None),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
        if let Some(hint) = hint {
            assert!(error.hint().is_some_and(|found| found.contains(hint)), "{text}: {:?}", error.hint());
        }
    }
}

#[test]
fn stages_are_known_before_values() {
    assert_eq!(RunMount::from_of("target=$t,from=base").unwrap().as_deref(), Some("base"));
    assert!(RunMount::check("target=${t},from=base").is_ok());
    assert!(RunMount::check("target=${t},from=$base").is_err());
    assert!(RunMount::check("trget=${t}").is_err());
}
