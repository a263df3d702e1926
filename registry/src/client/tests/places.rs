//! Mirrors, other places, what is blocked; and whose credentials go where.

use super::*;
use crate::client::{Credential, Mirror, Pulls, Route};

fn image(repository: &Reference, local: &Local, content: &[u8]) -> Vec<u8> {
    let (descriptor, bytes, blobs) = local.image(&[content]);
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    let push = Push { blobs: &blobs, children: &[], manifest };
    client().push(repository, &push, &Folder(&local.blobs), &()).expect("push");
    bytes
}

struct Folder<'a>(&'a Blobs);

impl BlobSource for Folder<'_> {
    fn open(&self, digest: &Digest) -> std::io::Result<Box<dyn BlobReader>> {
        Ok(Box::new(self.0.open_blob(digest).map_err(std::io::Error::other)?))
    }

    fn known_in(&self, _: &str, _: &Digest) -> Option<String> {
        None
    }
}

fn mirror(location: &str, pulls: Pulls) -> Mirror {
    Mirror { location: location.to_owned(), insecure: false, pulls }
}

fn routed(prefix: &str, location: Option<&str>, mirrors: Vec<Mirror>, blocked: bool) -> Client {
    let route = Route {
        prefix: prefix.to_owned(),
        location: location.map(str::to_owned),
        insecure: false,
        blocked,
        mirrors,
    };
    client_with(|config| config.routes.routes = vec![route])
}

/// Everything that a pull asks for.
fn pull(client: &Client, name: &str, notes: &Notes) -> Result<Vec<u8>, ClientError> {
    let reference: Reference = name.parse().expect("name");
    let (_, bytes) = client.manifest_shown(&reference, notes)?;
    let manifest: slipway_oci::spec::Manifest = serde_json::from_slice(&bytes).expect("manifest");
    let into = Local::new();
    let blobs: Vec<Descriptor> = std::iter::once(manifest.config).chain(manifest.layers).collect();
    client.fetch_blobs(&reference, &blobs, &into.blobs, notes)?;
    Ok(bytes)
}

#[test]
fn places_are_asked_in_order_and_a_mirror_s_failure_is_passed_over() {
    let (whole, part) = (Registry::start(), Registry::start());
    let (local, at_whole, at_part) = (Local::new(), whole.server.address(), part.server.address());
    let bytes = image(&whole.reference("deep/app:1"), &local, b"layer");
    let dead = "127.0.0.1:1";
    // a mirror that has the manifest and not its blobs
    let lying = Fake::start({
        let bytes = bytes.clone();
        move |asked, _| match asked.path.as_str() {
            "/v2/" => reply(200, &[], b""),
            path if path.contains("/manifests/") => {
                reply(200, &[("content-type", media_type::OCI_MANIFEST)], &bytes)
            }
            _ => reply(500, &[], b""),
        }
    });
    let lying_at = lying.address.to_string();
    let (whole_at, part_at) = (format!("{at_whole}/deep"), at_part.to_string());
    for (mirrors, location, passed) in [
        (vec![], Some(whole_at.as_str()), 0),
        (vec![mirror(&whole_at, Pulls::All)], None, 0),
        (vec![mirror(dead, Pulls::All), mirror(&whole_at, Pulls::All)], None, 1),
        (vec![mirror(&part_at, Pulls::All), mirror(dead, Pulls::All)], Some(&whole_at), 2),
        (vec![mirror(dead, Pulls::DigestOnly), mirror(&whole_at, Pulls::TagOnly)], None, 0),
        // two blobs are not there: each is had elsewhere
        (vec![mirror(&lying_at, Pulls::All)], Some(&whole_at), 1),
    ] {
        let notes = Notes::default();
        let client = routed("app.test", location, mirrors.clone(), false);
        let pulled = pull(&client, "app.test/app:1", &notes);
        assert_eq!(pulled.unwrap_or_else(|error| panic!("{mirrors:?}: {error}")), bytes, "{mirrors:?}");
        assert_eq!(notes.count("retry"), 0, "a mirror is asked once: {mirrors:?}");
        assert!(notes.count("passed over") >= passed, "{mirrors:?}: {:?}", notes.0);
        assert_eq!(notes.count("passed over") > 0, passed > 0, "{mirrors:?}: {:?}", notes.0);
    }
    // none has it: the registry's own word counts
    let (at, notes) = (format!("{at_part}/x"), Notes::default());
    let error =
        pull(&routed(&at, None, vec![mirror(dead, Pulls::All)], false), &format!("{at}/app:1"), &notes);
    assert!(matches!(&error, Err(ClientError::NotFound { .. })), "{error:?}");
    assert_eq!(notes.count("passed over 127.0.0.1:1/app"), 1);
}

#[test]
fn pushes_go_to_the_name_itself_and_what_is_blocked_is_never_asked() {
    let fake = Fake::start(|_, _| reply(200, &[], b""));
    let registry = Registry::start();
    let (local, prefix) = (Local::new(), registry.server.address().to_string());
    let elsewhere = fake.address.to_string();
    let client = routed(&prefix, Some(&elsewhere), vec![mirror(&elsewhere, Pulls::All)], false);
    let (descriptor, bytes, blobs) = local.image(&[b"layer"]);
    let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
    let push = Push { blobs: &blobs, children: &[], manifest };
    client.push(&registry.reference("app:1"), &push, &Folder(&local.blobs), &()).expect("push");
    assert!(fake.asked().is_empty(), "{:?}", fake.asked());
    let blocked = routed(&elsewhere, None, vec![mirror(&prefix, Pulls::All)], true);
    let reference = fake.reference("app:1");
    let errors = [
        blocked.manifest(&reference).err(),
        blocked.resolve(&reference).err(),
        blocked.tags(&reference).err(),
        blocked.fetch_blobs(&reference, &blobs[..1], &Local::new().blobs, &()).err(),
        blocked.push(&reference, &push, &Folder(&local.blobs), &()).err(),
        blocked.delete_manifest(&reference).err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(ClientError::Blocked { .. })), "{error:?}");
    }
    assert!(fake.asked.lock().expect("notes").is_empty());
}

#[test]
fn a_mirror_gets_its_own_credentials_and_no_other() {
    let asks = |asked: &Asked, _: usize| match (asked.path.as_str(), asked.header("authorization")) {
        ("/v2/", _) => reply(200, &[], b""),
        (_, None) => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], b""),
        _ => reply(404, &[], b""),
    };
    let (mirror_one, main) = (Fake::start(asks), Fake::start(asks));
    let (mirror_at, main_at) = (mirror_one.address.to_string(), main.address.to_string());
    for known in [&main_at, &mirror_at] {
        let (known, asked) = (known.clone(), Arc::new(Mutex::new(Vec::new())));
        let notes = Arc::clone(&asked);
        let client = client_with(|config| {
            config.routes.routes = vec![Route {
                prefix: main_at.clone(),
                location: None,
                insecure: false,
                blocked: false,
                mirrors: vec![mirror(&mirror_at, Pulls::All)],
            }];
            let known = known.clone();
            config.credentials = Some(Arc::new(move |host: &str, _: &str| {
                notes.lock().expect("notes").push(host.to_owned());
                let basic = Credential::Basic { username: "u".into(), password: host.to_owned() };
                Ok((host == known).then_some(basic))
            }));
        });
        client.manifest(&main.reference("app:1")).expect_err("nobody has it");
        assert_eq!(*asked.lock().expect("notes"), [mirror_at.clone(), main_at.clone()]);
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("u:{known}"));
        for (fake, at) in [(&mirror_one, &mirror_at), (&main, &main_at)] {
            let mut all = fake.asked();
            fake.asked.lock().expect("notes").clear();
            all.retain(|asked| asked.header("authorization").is_some());
            let expected = format!("Basic {secret}");
            assert_eq!(all.is_empty(), **at != known, "{at} {all:?}");
            assert!(all.iter().all(|asked| asked.header("authorization") == Some(&expected)), "{at} {all:?}");
        }
    }
}
