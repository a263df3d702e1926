//! `slipway sign`.

use crate::{
    app::{App, Global},
    error::Failure,
    nearby,
    remote::{self, Remote},
    service::{input, password},
    show,
    trust::{
        collect::{self, Signatures},
        key::{KEY_BYTES, PrivateKey},
        payload,
    },
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    spec::{Manifest, Parsed, to_json},
};
use slipway_registry::client::{ClientError, Condition, ManifestBytes, Push};
use std::path::{Path, PathBuf};

/// How often signatures are written again that somebody else has written meanwhile.
const TRIES: usize = 5;

/// Sign images in their registry, as cosign does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The private key: cosign's, or PKCS #8; `env://NAME` takes it from a variable
    #[arg(long, value_name = "FILE", required = true)]
    key: PathBuf,
    /// Sign the images of an index too
    #[arg(short, long)]
    recursive: bool,
    /// Of an image for several platforms, sign the one for this platform alone
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "recursive")]
    platform: Option<Platform>,
    /// What the image is called in the signature [default: its repository]
    #[arg(long, value_name = "NAME", alias = "sign-container-identity")]
    identity: Option<String>,
    /// Attach the signature to the image instead of writing the tag `sha256-HEX.sig`
    #[arg(long)]
    attach: bool,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

/// Reads a file with a key, or the variable that is named in its place.
pub(super) fn key_text(path: &Path) -> Result<String, Failure> {
    if let Some(name) = path.to_str().and_then(|text| text.strip_prefix("env://")) {
        return std::env::var(name)
            .map_err(|_| Failure::new(format!("--key: the variable `{name}` is not set")));
    }
    if path.to_str().is_some_and(|text| text.contains("://")) {
        let words = format!("--key: keys of `{}` are not used", path.display());
        return Err(Failure::usage(words).with_hint("give a file, or env://NAME"));
    }
    let bytes = input::read("--key", path, KEY_BYTES)?;
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("--key: `{}` is no text", path.display())))
}

/// The password of a key: cosign's variable, or typed.
fn key_password() -> Result<String, Failure> {
    match std::env::var("COSIGN_PASSWORD") {
        Ok(password) => Ok(password),
        Err(_) => {
            let hint = "COSIGN_PASSWORD gives it to scripts";
            password::ask("Password of the private key: ").map_err(|failure| failure.with_hint(hint))
        }
    }
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let text = key_text(&arguments.key)?;
    let key = PrivateKey::read(&text, key_password)
        .map_err(|failure| failure.about(format!("--key `{}`", arguments.key.display())))?;
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let signer = Signer { app: &app, remote: &remote, key: &key, arguments };
    for image in &arguments.images {
        let name = remote.meant(&image.clone().or_latest());
        let top = remote.resolve(&name, arguments.platform.as_ref())?;
        let mut all = vec![top.clone()];
        if arguments.recursive {
            let fetched = remote.manifest(&name.with_digest(top.digest.clone()))?;
            if let Parsed::Index(index) = fetched.parsed()?.1 {
                all.extend(index.manifests);
            }
        }
        for subject in &all {
            signer.sign(&name, subject)?;
        }
        show::say(format!("{}@{}", name.familiar_name(), top.digest))?;
    }
    Ok(0)
}

struct Signer<'a> {
    app: &'a App,
    remote: &'a Remote,
    key: &'a PrivateKey,
    arguments: &'a Arguments,
}

impl Signer<'_> {
    fn sign(&self, name: &Reference, subject: &Descriptor) -> Result<(), Failure> {
        let identity = self.arguments.identity.clone().unwrap_or_else(|| name.name());
        let payload = payload::payload(&identity, &subject.digest);
        let signature = self.key.sign(&payload)?;
        self.app.store.blobs().put(&payload)?;
        let layer = payload::layer(&payload, &signature);
        if self.arguments.attach {
            let plain =
                Descriptor::new(subject.media_type.clone(), subject.digest.clone(), subject.size_bytes);
            let (manifest, config) = payload::manifest(vec![layer], Some(plain));
            return self.send(name, &manifest, &config, None).map(drop);
        }
        for _ in 0..TRIES {
            let (there, condition) = self.there(name, &subject.digest)?;
            // who has signed the same before has said it
            let own = [self.key.public()];
            let known = Signatures::in_registry(&self.remote.client, &self.app.store, name, &subject.digest)?;
            if known.good(&subject.digest, &own).iter().any(|(one, ..)| one.bytes == payload) {
                return Ok(());
            }
            let layers: Vec<Descriptor> = there.into_iter().chain([layer.clone()]).collect();
            let (manifest, config) = payload::manifest(layers, None);
            if self.send(name, &manifest, &config, Some((&subject.digest, &condition)))? {
                return Ok(());
            }
        }
        Err(Failure::new(format!(
            "the signatures of `{}` were written by others {TRIES} times meanwhile",
            name.familiar()
        )))
    }

    /// The signatures that the tag has, and what it has to be when it is moved.
    fn there(&self, name: &Reference, digest: &Digest) -> Result<(Vec<Descriptor>, Condition), Failure> {
        let fetched = match self.remote.client.manifest(&collect::tagged(name, digest)) {
            Ok(fetched) => fetched,
            Err(ClientError::NotFound { .. }) => return Ok((Vec::new(), Condition::Absent)),
            Err(error) => return Err(nearby::unsent(name, &error)),
        };
        let (descriptor, bytes) = fetched;
        let parsed =
            Parsed::from_bytes(&bytes, Some(&descriptor.media_type)).map_err(|error| Failure::of(&error))?;
        match parsed {
            Parsed::Manifest(manifest) => Ok((manifest.layers, Condition::Is(descriptor.digest))),
            Parsed::Index(_) => {
                let words = format!("the tag `{}` has no signatures, but an index", collect::tag(digest));
                Err(Failure::new(words).with_hint("--attach writes no tag"))
            }
        }
    }

    /// Sends a manifest of signatures; whether the tag was as it had to be.
    fn send(
        &self,
        name: &Reference,
        manifest: &Manifest,
        config: &[u8],
        tag: Option<(&Digest, &Condition)>,
    ) -> Result<bool, Failure> {
        let blobs = self.app.store.blobs();
        blobs.put(config)?;
        let bytes = to_json(manifest);
        let media = manifest.media_type.clone().unwrap_or_default();
        let descriptor = Descriptor::of(media, &bytes);
        let needed: Vec<Descriptor> = manifest.layers.iter().chain([&manifest.config]).cloned().collect();
        let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
        let push = Push { blobs: &needed, children: &[], manifest };
        let target = remote::by_digest(name, &descriptor.digest);
        let client = &self.remote.client;
        client.push(&target, &push, blobs, &()).map_err(|error| nearby::unsent(name, &error))?;
        let Some((digest, condition)) = tag else { return Ok(true) };
        match client.put_manifest(&collect::tagged(name, digest), manifest, Some(condition)) {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Some(412) => Ok(false),
            Err(error) => Err(nearby::unsent(name, &error)),
        }
    }
}
