//! What looks like a secret: names of variables, names of files, and the texts themselves.

/// Words that make a variable's name that of a secret (BuildKit's list).
const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Words that say the opposite.
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// Whether a variable's name is that of a secret: one of its words, at underscores, is in the list.
pub(super) fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

/// Files that hold secrets whatever the folder.
const SECRET_FILES: [&str; 13] = [
    ".env",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".netrc",
    ".pgpass",
    ".git-credentials",
    ".vault-token",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".dockercfg",
];

/// Folders that hold secrets.
const SECRET_FOLDERS: [&str; 4] = [".ssh", ".aws", ".gnupg", ".azure"];

/// Paths that hold secrets only in their folder.
const SECRET_PATHS: [&str; 3] =
    [".docker/config.json", ".kube/config", "gcloud/application_default_credentials.json"];

/// Endings of `.env` files that hold no secrets.
const SAMPLES: [&str; 7] = ["example", "sample", "template", "dist", "defaults", "schema", "ci"];

/// Whether a path names a file that holds secrets as a rule.
pub(super) fn is_secret_file(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let base = path.rsplit('/').next().unwrap_or(path);
    let is_env = base.strip_prefix(".env.").is_some_and(|rest| {
        !rest.is_empty()
            && !rest.split('.').any(|part| SAMPLES.contains(&part))
            && !rest.contains(['*', '$', '?'])
    });
    is_env
        || SECRET_FILES.contains(&base)
        || path.split('/').any(|part| SECRET_FOLDERS.contains(&part))
        || SECRET_PATHS.iter().any(|known| path == *known || path.ends_with(&format!("/{known}")))
}

/// Beginnings of tokens, how many characters follow, and which service they open.
const TOKENS: [(&str, usize, &str); 13] = [
    ("ghp_", 36, "GitHub"),
    ("gho_", 36, "GitHub"),
    ("ghs_", 36, "GitHub"),
    ("github_pat_", 40, "GitHub"),
    ("glpat-", 20, "GitLab"),
    ("npm_", 36, "npm"),
    ("pypi-AgEIcHlwaS5vcmc", 30, "PyPI"),
    ("AKIA", 16, "AWS"),
    ("ASIA", 16, "AWS"),
    ("xoxb-", 20, "Slack"),
    ("xoxp-", 20, "Slack"),
    ("sk_live_", 20, "Stripe"),
    ("dckr_pat_", 20, "Docker Hub"),
];

/// The first token or private key that stands in `text`: where, and what it is.
pub(super) fn find_token(text: &str) -> Option<(std::ops::Range<usize>, String)> {
    if let Some(at) = text.find("-----BEGIN ")
        && text[at..].lines().next().is_some_and(|line| line.contains("PRIVATE KEY-----"))
    {
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        return Some((at..end, "private key".to_owned()));
    }
    let is_word = |ch: char| ch.is_ascii_alphanumeric() || ch == '_';
    for (start, length, service) in TOKENS {
        for (at, _) in text.match_indices(start) {
            let body = &text[at + start.len()..];
            let found = body.find(|ch: char| !is_word(ch) && ch != '-').unwrap_or(body.len());
            let begins = !text[..at].ends_with(is_word);
            let exact = !service.eq("AWS") || found == length;
            if begins && exact && found >= length && body[..found].bytes().any(|byte| byte.is_ascii_digit()) {
                return Some((at..at + start.len() + found, format!("{service} token")));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in
            ["SECRET_PASSPHRASE", "SUPER_Secret", "password", "git_key", "super_duper_secret_token", "auth"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PUBLIC_KEY", "public_token", "sunflower", "KEYBOARD", "PASSWORD_FILE", "TOKEN_VERSION"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn files() {
        for path in [
            ".env",
            "app/.env.production",
            "id_rsa",
            ".ssh/",
            "a/.aws/credentials",
            ".npmrc",
            "x/.kube/config",
        ] {
            assert!(is_secret_file(path), "{path}");
        }
        for path in [".env.example", "id_rsa.pub", "env", ".envrc", "config.json", ".env.local.sample", "src"]
        {
            assert!(!is_secret_file(path), "{path}");
        }
    }

    #[test]
    fn tokens() {
        assert!(find_token(&format!("echo ghp_{}", "a1".repeat(18))).is_some());
        assert!(find_token("x AKIAIOSFODNN7EXAMPL1 y").is_some());
        assert!(find_token("-----BEGIN RSA PRIVATE KEY-----\nabc").is_some());
        for text in
            ["ghp_short", "npm_config_cache", "-----BEGIN CERTIFICATE-----", "AKIA", "MAKIAAAAAAAAAAAAAAAA1"]
        {
            assert!(find_token(text).is_none(), "{text}");
        }
    }
}
