//! What is asked of which images: `policy.json` as podman, skopeo and buildah read it (containers-policy.json(5)).
//!
//! The most particular scope of an image decides; all of its requirements have to be met. What is not understood is refused when the
//! file is read, and what cannot be checked here (GPG's signatures, certificates of Fulcio, Rekor) when an image would need it: no image is
//! ever used because a requirement was passed over.

use super::{
    key::{KEY_BYTES, PublicKey},
    payload::Claim,
};
use crate::error::Failure;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use slipway_oci::{Reference, file};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Largest policy, in bytes.
pub(super) const POLICY_BYTES: u64 = 4 << 20;

/// What a file asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
    /// Where it is.
    #[serde(skip)]
    pub(crate) place: PathBuf,
}

/// One requirement.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Requirement {
    /// Nothing.
    #[serde(rename = "insecureAcceptAnything")]
    Nothing {},
    /// No image is used.
    #[serde(rename = "reject")]
    Reject {},
    /// A signature of GPG.
    #[serde(rename = "signedBy")]
    Gpg(serde::de::IgnoredAny),
    /// A signature in cosign's form.
    #[serde(rename = "sigstoreSigned")]
    Sigstore(Box<Sigstore>),
}

/// Whose signature, and of what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Sigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<serde_json::Value>,
    pki: Option<serde_json::Value>,
    rekor_public_key_path: Option<serde_json::Value>,
    rekor_public_key_paths: Option<serde_json::Value>,
    rekor_public_key_data: Option<serde_json::Value>,
    rekor_public_key_datas: Option<serde_json::Value>,
    signed_identity: Identity,
}

/// What a signature has to call the image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Identity {
    #[serde(rename = "matchExact")]
    Exact,
    #[default]
    #[serde(rename = "matchRepoDigestOrExact")]
    RepositoryOfDigestOrExact,
    #[serde(rename = "matchRepository")]
    Repository,
    #[serde(rename = "exactReference")]
    This {
        #[serde(rename = "dockerReference")]
        reference: String,
    },
    #[serde(rename = "exactRepository")]
    ThisRepository {
        #[serde(rename = "dockerRepository")]
        repository: String,
    },
    #[serde(rename = "remapIdentity")]
    Remapped {
        prefix: String,
        #[serde(rename = "signedPrefix")]
        signed: String,
    },
}

impl Policy {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or says what is not understood.
    pub(crate) fn read(path: &Path) -> Result<Policy, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("the policy `{}` cannot be read: {error}", path.display())).with_hint(
                "no image is used under a policy that is not understood: containers-policy.json(5)",
            )
        };
        let bytes = file::read_capped(path, POLICY_BYTES).map_err(|error| failed(&error))?;
        Policy::parse(&bytes, path).map_err(|error| failed(&error))
    }

    /// Reads what a file was found to hold.
    ///
    /// # Errors
    /// When it says what is not understood.
    pub(super) fn of_bytes(bytes: &[u8], path: &Path) -> Result<Policy, Failure> {
        Policy::parse(bytes, path)
            .map_err(|error| Failure::new(format!("the policy `{}` cannot be read: {error}", path.display())))
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Policy, String> {
        let mut policy: Policy = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let scopes = policy.transports.iter().flat_map(|(transport, scopes)| {
            scopes.iter().map(move |(scope, asked)| (format!("`{transport}`, scope `{scope}`"), asked))
        });
        for (scope, asked) in scopes.chain([("`default`".to_owned(), &policy.default)]) {
            if asked.is_empty() {
                return Err(format!("{scope} asks for nothing: `insecureAcceptAnything` says so in words"));
            }
            for requirement in asked {
                if let Requirement::Sigstore(own) = requirement {
                    own.check().map_err(|words| format!("{scope}: {words}"))?;
                }
            }
        }
        policy.place = path.to_owned();
        Ok(policy)
    }

    /// What is asked of an image of a registry, and the scope that says so.
    pub(crate) fn of_image(&self, name: &Reference) -> (&[Requirement], String) {
        self.of("docker", &scopes(name))
    }

    /// What is asked of an image of another place: a folder or archive, by its path.
    pub(crate) fn of_place(&self, transport: &str, path: &Path) -> (&[Requirement], String) {
        let all = path.ancestors().map(|path| path.display().to_string()).collect::<Vec<_>>();
        self.of(transport, &all)
    }

    /// What is asked of what has no name.
    pub(crate) fn of_nameless(&self) -> (&[Requirement], String) {
        (&self.default, "`default`".to_owned())
    }

    fn of(&self, transport: &str, scopes: &[String]) -> (&[Requirement], String) {
        if let Some(all) = self.transports.get(transport) {
            for scope in scopes.iter().map(String::as_str).chain([""]) {
                if let Some(asked) = all.get(scope) {
                    return (asked, format!("`{transport}`, scope `{scope}`"));
                }
            }
        }
        self.of_nameless()
    }
}

/// The scopes of an image, the most particular first.
fn scopes(name: &Reference) -> Vec<String> {
    let repository = name.name();
    let mut all = Vec::new();
    if let Some(digest) = name.digest() {
        all.push(format!("{repository}@{digest}"));
    } else {
        all.push(format!("{repository}:{}", name.tag().unwrap_or("latest")));
    }
    let mut here = repository.as_str();
    all.push(here.to_owned());
    while let Some((above, _)) = here.rsplit_once('/') {
        here = above;
        all.push(here.to_owned());
    }
    // `*.example.com` is for the hosts below, without a port
    let host = here.split(':').next().unwrap_or_default();
    let mut rest = host;
    while let Some((_, above)) = rest.split_once('.') {
        all.push(format!("*.{above}"));
        rest = above;
    }
    all
}

impl Sigstore {
    fn check(&self) -> Result<(), String> {
        let given = [
            self.key_path.is_some(),
            self.key_paths.is_some(),
            self.key_data.is_some(),
            self.key_datas.is_some(),
        ];
        let others = self.fulcio.is_some() || self.pki.is_some();
        match given.iter().filter(|given| **given).count() {
            0 if !others => Err("`sigstoreSigned` names no key".to_owned()),
            0 | 1 => Ok(()),
            _ => Err("`sigstoreSigned` names keys in several ways: one is taken".to_owned()),
        }
    }

    /// The keys, read.
    ///
    /// # Errors
    /// When one cannot be read, or something is asked for that is not checked here.
    pub(crate) fn keys(&self) -> Result<Vec<PublicKey>, Failure> {
        let rekor = [
            &self.rekor_public_key_path,
            &self.rekor_public_key_paths,
            &self.rekor_public_key_data,
            &self.rekor_public_key_datas,
        ];
        for (word, is_asked) in [
            ("certificates of Fulcio", self.fulcio.is_some()),
            ("certificates of a PKI", self.pki.is_some()),
            ("entries of Rekor", rekor.iter().any(|asked| asked.is_some())),
        ] {
            if is_asked {
                return Err(Failure::new(format!("{word} are asked for, which are not checked by slipway")));
            }
        }
        let mut keys = Vec::new();
        for path in self.key_path.iter().chain(self.key_paths.iter().flatten()) {
            let name = path.display().to_string();
            let text = file::read_capped(path, KEY_BYTES)
                .map_err(|error| Failure::new(format!("the key `{name}` cannot be read: {error}")))?;
            keys.push(PublicKey::read(&String::from_utf8_lossy(&text), &name)?);
        }
        for data in self.key_data.iter().chain(self.key_datas.iter().flatten()) {
            let text = STANDARD.decode(data).map_err(|_| Failure::new("`keyData` is not in base64"))?;
            keys.push(PublicKey::read(&String::from_utf8_lossy(&text), "the policy's keyData")?);
        }
        Ok(keys)
    }

    /// Whether a signature that says this is of the image under this name.
    pub(crate) fn is_of(&self, claim: &Claim, name: &Reference) -> bool {
        let Some(Ok(said)) = claim.reference.as_ref().map(|text| normal(text)) else { return false };
        let exact = |wanted: &Reference| {
            said.name() == wanted.name() && said.tag().is_some() && said.tag() == wanted.tag()
        };
        match &self.signed_identity {
            Identity::Exact => exact(name),
            Identity::RepositoryOfDigestOrExact if name.tag().is_none() => said.name() == name.name(),
            Identity::RepositoryOfDigestOrExact => exact(name),
            Identity::Repository => said.name() == name.name(),
            Identity::This { reference } => normal(reference).is_ok_and(|wanted| exact(&wanted)),
            Identity::ThisRepository { repository } => {
                normal(repository).is_ok_and(|wanted| said.name() == wanted.name())
            }
            Identity::Remapped { prefix, signed } => {
                let mapped = name.to_string().strip_prefix(prefix.as_str()).and_then(|rest| {
                    let ends = rest.is_empty() || rest.starts_with(['/', ':', '@']) || prefix.is_empty();
                    ends.then(|| normal(&format!("{signed}{rest}")).ok()).flatten()
                });
                let wanted = mapped.unwrap_or_else(|| name.clone());
                if wanted.tag().is_none() { said.name() == wanted.name() } else { exact(&wanted) }
            }
        }
    }
}

/// A name in a signature, with the Hub as it is called here.
fn normal(text: &str) -> Result<Reference, slipway_oci::reference::ReferenceError> {
    text.strip_prefix("index.").filter(|rest| rest.starts_with("docker.io/")).unwrap_or(text).parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_oci::Digest;

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text.as_bytes(), Path::new("policy.json"))
    }

    #[test]
    fn the_most_particular_scope_decides() {
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let scopes = [
            "a.example:5000/team/app:1",
            "a.example:5000/team/app",
            "a.example:5000/team",
            "a.example:5000",
            "*.example",
            "",
        ];
        let name: Reference = "a.example:5000/team/app:1".parse().expect("name");
        for (at, scope) in scopes.iter().enumerate() {
            let rest = scopes[at..]
                .iter()
                .map(|scope| format!("\"{scope}\":{accept}"))
                .collect::<Vec<_>>()
                .join(",");
            let policy =
                format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{rest}}}}}}}"#);
            assert_eq!(
                parse(&policy).expect("policy").of_image(&name).1,
                format!("`docker`, scope `{scope}`")
            );
        }
        let policy = parse(r#"{"default":[{"type":"reject"}]}"#).expect("policy");
        assert!(matches!(policy.of_image(&name).0, [Requirement::Reject {}]));
    }

    #[test]
    fn what_is_not_understood_is_no_policy() {
        for (text, words) in [
            ("{}", "missing field `default`"),
            (r#"{"default":[]}"#, "asks for nothing"),
            (r#"{"default":[{"type":"other"}]}"#, "unknown variant `other`"),
            (r#"{"default":[{"type":"reject"}],"more":1}"#, "unknown field `more`"),
            (r#"{"default":[{"type":"sigstoreSigned"}]}"#, "names no key"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","keyData":"b"}]}"#, "several ways"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","x":1}]}"#, "unknown field `x`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let policy =
            parse(r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","rekorPublicKeyPath":"b"}]}"#);
        let policy = policy.expect("it is one");
        let Requirement::Sigstore(own) = &policy.default[0] else { panic!("sigstore") };
        assert!(own.keys().err().is_some_and(|failure| failure.words().contains("Rekor")));
        assert!(parse(r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x"}]}"#).is_ok());
    }

    #[test]
    fn a_signature_is_of_what_it_names() {
        let by_digest = format!("r.io/a/b@{}", Digest::sha256(b""));
        for (identity, said, name, is_of) in [
            (r#"{"type":"matchRepoDigestOrExact"}"#, "r.io/a/b", "r.io/a/b:1", false),
            (r#"{"type":"matchRepoDigestOrExact"}"#, "r.io/a/b:1", "r.io/a/b:1", true),
            (r#"{"type":"matchRepoDigestOrExact"}"#, "r.io/a/b", &by_digest, true),
            (r#"{"type":"matchExact"}"#, "r.io/a/b", &by_digest, false),
            (r#"{"type":"matchRepository"}"#, "r.io/a/b", "r.io/a/b:1", true),
            (r#"{"type":"matchRepository"}"#, "r.io/a/c", "r.io/a/b:1", false),
            (r#"{"type":"matchRepository"}"#, "index.docker.io/library/b", "b:1", true),
            (r#"{"type":"exactRepository","dockerRepository":"o.io/x"}"#, "o.io/x", "r.io/a/b:1", true),
            (r#"{"type":"exactReference","dockerReference":"o.io/x:2"}"#, "o.io/x:2", "r.io/a/b:1", true),
            (r#"{"type":"exactReference","dockerReference":"o.io/x:2"}"#, "o.io/x", "r.io/a/b:1", false),
            (
                r#"{"type":"remapIdentity","prefix":"r.io/a","signedPrefix":"o.io"}"#,
                "o.io/b:1",
                "r.io/a/b:1",
                true,
            ),
            (
                r#"{"type":"remapIdentity","prefix":"r.io/a","signedPrefix":"o.io"}"#,
                "o.io/b:1",
                "r.io/ab:1",
                false,
            ),
        ] {
            let own = format!(r#"{{"keyPath":"k","signedIdentity":{identity}}}"#);
            let own: Sigstore = serde_json::from_str(&own).expect(identity);
            let claim = Claim { digest: Digest::sha256(b""), reference: Some(said.to_owned()) };
            assert_eq!(own.is_of(&claim, &name.parse().expect(name)), is_of, "{identity} {said} {name}");
            assert!(!own.is_of(&Claim { reference: None, ..claim }, &name.parse().expect(name)));
        }
    }
}
