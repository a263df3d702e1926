//! What this machine's files say about registries: podman's `registries.conf`, docker's `daemon.json`, `certs.d`.
//!
//! The order in which they count is in docs/registries.md and, with what holds, in `slipway info`.

use crate::{
    app::{Global, home},
    credentials,
    error::Failure,
    service::input,
    show,
};
use slipway_oci::{Reference, file, reference::DEFAULT_REGISTRY};
use slipway_registry::{
    client::{Authorities, ClientConfig, Mirror, Proxies, Pulls, RegistriesConf, Routes},
    limits::AUTHORITIES_BYTES,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Most bytes of a file of settings that are read.
const FILE_BYTES: u64 = 1 << 20;
/// Most files of a folder of settings that are read.
const FILES: usize = 1000;

/// Names another file in the place of all `registries.conf`; podman's variable.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";
/// What to do about a file that cannot be used.
pub(crate) const MEND: &str = "mend the file, or name another one with CONTAINERS_REGISTRIES_CONF";
/// Where podman's files are beside the caller's own, the later counting more where both are read.
const FOLDERS: [&str; 2] = ["/usr/share/containers", "/etc/containers"];

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Registries {
    /// podman's files, in the order in which they were read.
    pub(crate) files: Vec<PathBuf>,
    conf: RegistriesConf,
    daemon: Daemon,
    insecure: Vec<String>,
}

/// The caller's folder of configurations (XDG base directory specification).
pub(crate) fn config_home() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| home().map(|home| home.join(".config")))
}

/// Where docker and podman keep certificates for single registries, the caller's own before the machine's
/// (containers-certs.d(5); docker's documentation, also for its rootless form).
pub(crate) fn certificate_folders() -> Vec<PathBuf> {
    let config = config_home();
    let own =
        config.iter().flat_map(|config| [config.join("containers/certs.d"), config.join("docker/certs.d")]);
    own.chain(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()]).collect()
}

impl Registries {
    /// Reads what this machine has.
    pub(crate) fn read(global: &Global) -> Result<Registries, Failure> {
        let own = config_home();
        let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (conf, files) = read_conf(named.as_deref(), own.as_deref().map(|own| own.join("containers")))?;
        let daemons = own.map(|own| own.join("docker/daemon.json")).into_iter();
        let daemons = daemons.chain([PathBuf::from("/etc/docker/daemon.json")]);
        let mut daemon = daemons.fold(Daemon::default(), |all, path| all.with(read_daemon(&path)));
        // the caller's go before the machine's
        let named =
            global.registry_mirror.iter().map(|host| named_mirror(host)).collect::<Result<Vec<_>, _>>()?;
        daemon.mirrors.splice(0..0, named);
        Ok(Registries { files, conf, daemon, insecure: global.insecure_registry.clone() })
    }

    /// Hosts that may have a bad certificate or none: the caller's, then those of docker's daemon.
    pub(crate) fn insecure(&self) -> Vec<String> {
        self.insecure.iter().chain(&self.daemon.insecure).cloned().collect()
    }

    /// How registries are asked.
    ///
    /// # Errors
    /// When a file of credentials or certificates cannot be used, in words.
    pub(crate) fn client_config(&self, global: &Global) -> Result<ClientConfig, String> {
        Ok(ClientConfig {
            insecure: self.insecure(),
            routes: self.routes(),
            credentials: Some(credentials::read(global)?),
            authorities: authorities(global)?,
            certificate_folders: certificate_folders(),
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            foreign_layers: global.foreign_layers,
            token_services: global.token_service.clone(),
            warned: Some(Arc::new(|host, words| show::note(format_args!("warning: `{host}` says: {words}")))),
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ClientConfig::default()
        })
    }

    /// Where names are asked for.
    pub(crate) fn routes(&self) -> Routes {
        Routes { routes: self.conf.routes.clone(), hub_mirrors: self.daemon.mirrors.clone() }
    }

    /// What a name stands for, the first that is there: itself where it names a registry, else its alias, else in each of
    /// the registries to search, else docker's default.
    pub(crate) fn meant(&self, reference: &Reference) -> Vec<Reference> {
        if !reference.is_short() {
            return vec![reference.clone()];
        }
        let name = reference.familiar_name();
        let with = |name: &str| {
            let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
            let digest = reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
            format!("{name}{tag}{digest}").parse::<Reference>().ok()
        };
        let alias = self.conf.aliases.get(&name).filter(|target| !target.is_empty());
        if let Some(target) = alias.and_then(|target| with(target)) {
            return vec![target];
        }
        let search = self.conf.search.as_deref().unwrap_or_default();
        let found: Vec<Reference> =
            search.iter().filter_map(|registry| with(&format!("{registry}/{name}"))).collect();
        if found.is_empty() { vec![reference.clone()] } else { found }
    }

    /// What `slipway info` says, in the order in which it counts.
    pub(crate) fn described(&self) -> serde_json::Value {
        let routes = self.conf.routes.iter().map(|route| {
            let mirrors: Vec<&str> = route.mirrors.iter().map(|mirror| mirror.location.as_str()).collect();
            serde_json::json!({
                "Prefix": route.prefix,
                "Location": route.location,
                "Insecure": route.insecure,
                "Blocked": route.blocked,
                "Mirrors": mirrors,
            })
        });
        let search = self.conf.search.clone().filter(|search| !search.is_empty());
        let hub: Vec<&str> = self.daemon.mirrors.iter().map(|mirror| mirror.location.as_str()).collect();
        serde_json::json!({
            "Files": self.files,
            "Search": search.unwrap_or_else(|| vec![DEFAULT_REGISTRY.to_owned()]),
            "Aliases": self.conf.aliases.len(),
            "Rules": routes.collect::<Vec<_>>(),
            "HubMirrors": hub,
        })
    }
}

/// The authorities of `--tls-ca`.
pub(crate) fn authorities(global: &Global) -> Result<Option<Authorities>, String> {
    let Some(path) = &global.tls_ca else { return Ok(None) };
    let pem = input::read("--tls-ca", path, AUTHORITIES_BYTES).map_err(|error| error.to_string())?;
    let read = Authorities::from_pem(path, &pem);
    read.map(Some).map_err(|error| format!("--tls-ca: {}", crate::error::chain(&error)))
}

/// podman's files: the first `registries.conf` of the caller's, /etc and /usr/share (or the one that the variable names), then
/// the `registries.conf.d` of all three, the caller's last (containers-registries.conf(5), containers-registries.conf.d(5)).
fn read_conf(named: Option<&Path>, own: Option<PathBuf>) -> Result<(RegistriesConf, Vec<PathBuf>), Failure> {
    let folders: Vec<PathBuf> = FOLDERS.map(PathBuf::from).into_iter().chain(own).collect();
    let main = match named {
        Some(path) => Some(path.to_owned()),
        None => folders.iter().rev().map(|folder| folder.join("registries.conf")).find(|path| path.exists()),
    };
    let mut files: Vec<PathBuf> = main.into_iter().collect();
    // whoever names a file means it alone: what a test or a script says is not changed by the machine it runs on
    for folder in folders.iter().filter(|_| named.is_none()) {
        let Ok(entries) = std::fs::read_dir(folder.join("registries.conf.d")) else { continue };
        let paths = entries.take(FILES).flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|own| own == "conf")).collect();
        paths.sort();
        files.extend(paths);
    }
    let mut all = RegistriesConf::default();
    for path in &files {
        all = all.with(read_one(path, named.is_some()).map_err(|failure| failure.with_hint(MEND))?);
    }
    Ok((all, files))
}

fn read_one(path: &Path, named: bool) -> Result<RegistriesConf, Failure> {
    let shown = path.display();
    let bytes = match named {
        true => input::read(VARIABLE, path, FILE_BYTES)?,
        false => file::read_capped(path, FILE_BYTES).map_err(|error| {
            Failure::new(format!("cannot read the registries' settings `{shown}`: {error}"))
        })?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("the registries' settings `{shown}` are not UTF-8")))?;
    RegistriesConf::parse(&text)
        .map_err(|error| Failure::new(format!("the registries' settings `{shown}` cannot be used: {error}")))
}

/// What docker's daemon is told about registries.
#[derive(Debug, Default, PartialEq)]
struct Daemon {
    insecure: Vec<String>,
    mirrors: Vec<Mirror>,
}

impl Daemon {
    fn with(mut self, later: Daemon) -> Daemon {
        self.insecure.extend(later.insecure);
        self.mirrors.extend(later.mirrors);
        self
    }
}

/// A `daemon.json`. Most machines have none, and whoever may not read it is not meant by it.
/// A mirror of the Hub's by its host, with a scheme or without.
fn named_mirror(text: &str) -> Result<Mirror, Failure> {
    let (scheme, host) = text.split_once("://").unwrap_or(("https", text));
    let host = host.trim_end_matches('/');
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(Failure::usage(format!("--registry-mirror: `{text}` is not HOST[:PORT]")));
    }
    Ok(Mirror { location: host.to_owned(), insecure: scheme == "http", pulls: Pulls::All })
}

fn read_daemon(path: &Path) -> Daemon {
    let Ok(bytes) = file::read_capped(path, FILE_BYTES) else { return Daemon::default() };
    daemon_in(&bytes).unwrap_or_else(|error| {
        show::note(format_args!("warning: `{}` is passed over: {error}", path.display()));
        Daemon::default()
    })
}

fn daemon_in(bytes: &[u8]) -> Result<Daemon, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(default, rename_all = "kebab-case")]
    #[derive(Default)]
    struct Json {
        insecure_registries: Vec<String>,
        registry_mirrors: Vec<String>,
    }
    let json: Json = serde_json::from_slice(bytes)?;
    let mirrors = json.registry_mirrors.iter().map(|mirror| {
        // docker takes a scheme and a host, and no path
        let (scheme, host) = mirror.split_once("://").unwrap_or(("", mirror));
        let host = host.trim_end_matches('/');
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '#', '@']) {
            let words = format!("the mirror `{mirror}` is not https://HOST[:PORT]");
            return Err(serde::de::Error::custom(words));
        }
        Ok(Mirror { location: host.to_owned(), insecure: scheme == "http", pulls: Pulls::All })
    });
    // docker takes a scheme with a warning, and so do people
    let bare = |entry: &String| entry.trim_start_matches("https://").trim_start_matches("http://").to_owned();
    Ok(Daemon {
        mirrors: mirrors.collect::<Result<_, _>>()?,
        insecure: json.insecure_registries.iter().map(bare).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_daemon_names_insecure_registries_and_mirrors() {
        let mirror =
            |location: &str, insecure| Mirror { location: location.into(), insecure, pulls: Pulls::All };
        for (text, expected) in [
            (
                r#"{"insecure-registries":["r.test:5000","10.0.0.0/8","http://x.test"],"debug":true}"#,
                Some((vec!["r.test:5000", "10.0.0.0/8", "x.test"], vec![])),
            ),
            (
                r#"{"registry-mirrors":["https://m.test/","http://127.0.0.1:5000"]}"#,
                Some((vec![], vec![mirror("m.test", false), mirror("127.0.0.1:5000", true)])),
            ),
            ("{}", Some((vec![], vec![]))),
            (r#"{"insecure-registries":"r.test"}"#, None),
            (r#"{"registry-mirrors":["m.test"]}"#, None),
            (r#"{"registry-mirrors":["https://m.test/path"]}"#, None),
            (r#"{"registry-mirrors":["https://user@m.test"]}"#, None),
            (r#"{"registry-mirrors":["ftp://m.test"]}"#, None),
            ("", None),
        ] {
            let expected = expected.map(|(insecure, mirrors)| Daemon {
                insecure: insecure.into_iter().map(str::to_owned).collect(),
                mirrors,
            });
            assert_eq!(daemon_in(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    fn meant(conf: &str, name: &str) -> Vec<String> {
        let conf = RegistriesConf::parse(conf).expect("settings");
        let registries = Registries { conf, ..Registries::default() };
        let reference = name.parse().expect("name");
        registries.meant(&reference).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_without_a_registry_means_what_the_files_say() {
        let aliases = "unqualified-search-registries=['a.test','docker.io']\n[aliases]\napp='r.test/team/app'\n\
                       'me/tool'='r.test/tool'\nnone=''\n";
        let digest = format!("@sha256:{}", "0".repeat(64));
        for (conf, name, expected) in [
            ("", "app:1", vec!["docker.io/library/app:1"]),
            ("unqualified-search-registries=[]", "app", vec!["docker.io/library/app"]),
            (aliases, "app:1", vec!["r.test/team/app:1"]),
            (aliases, &format!("app{digest}"), vec![&*format!("r.test/team/app{digest}")]),
            (aliases, "me/tool", vec!["r.test/tool"]),
            (aliases, "other", vec!["a.test/other", "docker.io/library/other"]),
            (aliases, "none", vec!["a.test/none", "docker.io/library/none"]),
            (aliases, "me/other:2", vec!["a.test/me/other:2", "docker.io/me/other:2"]),
            // who names a registry means it
            (aliases, "docker.io/library/app", vec!["docker.io/library/app"]),
            (aliases, "b.test/app", vec!["b.test/app"]),
        ] {
            assert_eq!(meant(conf, name), expected, "{name} under {conf:?}");
        }
    }

    #[test]
    fn files_count_in_podman_s_order() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(&path, text).expect("write");
            path
        };
        let own = folder.path().join("own");
        let main = write("own/registries.conf", "unqualified-search-registries=['main.test']\n");
        let last = write("own/registries.conf.d/z.conf", "[aliases]\napp='z.test/app'\n");
        let before = write("own/registries.conf.d/a.conf", "[aliases]\napp='a.test/app'\nb='a.test/b'\n");
        write("own/registries.conf.d/not-read", "[");
        let (conf, files) = read_conf(None, Some(own.clone())).expect("read");
        assert_eq!(files.first(), Some(&main), "the caller's own counts, and no other main file is read");
        assert_eq!(files[files.len() - 2..], [before, last.clone()]);
        assert_eq!(conf.search, Some(vec!["main.test".to_owned()]));
        assert_eq!((conf.aliases["app"].as_str(), conf.aliases["b"].as_str()), ("z.test/app", "a.test/b"));
        // what a variable names is alone
        let (conf, files) = read_conf(Some(&last), Some(own.clone())).expect("read");
        assert_eq!((files, conf.aliases.len()), (vec![last.clone()], 1));
        std::fs::write(&last, "[[registry]]\n").expect("write");
        let failure = read_conf(None, Some(own)).expect_err("refused");
        assert!(
            failure.words().contains("z.conf") && failure.words().contains("neither"),
            "{}",
            failure.words()
        );
        assert!(read_conf(Some(&folder.path().join("absent")), None).is_err(), "a named file must be there");
        assert!(read_conf(Some(Path::new("/dev/null")), None).is_ok());
    }
}
