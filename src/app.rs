//! What every command has at hand: the store's folder, the privilege it runs with.

use crate::{
    error::Failure,
    request::{proxies, size},
    settings,
};
use slipway_oci::{
    layer::OverlayXattrs,
    private,
    store::{Shape, Store, Wanted},
};
use slipway_registry::client::TokenService;
use slipway_runtime::{
    bare,
    levels::{self, Isolation, Tier},
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Settings that come before the command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Folder of the local store [default: /var/lib/slipway, or $XDG_DATA_HOME/slipway without root]
    #[arg(long, global = true, env = "SLIPWAY_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Docker's client configuration, for credentials and proxies [default: ~/.docker]
    #[arg(long, global = true, env = "DOCKER_CONFIG", value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Allow this registry a certificate that is not trusted, or plain HTTP; this machine is allowed both without
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_INSECURE_REGISTRY",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub(crate) insecure_registry: Vec<String>,
    /// Ask this registry for images of docker.io before the Hub itself
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_REGISTRY_MIRROR",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub(crate) registry_mirror: Vec<String>,
    /// A PEM file of certificate authorities to trust beside the system's
    #[arg(long, global = true, env = "SLIPWAY_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// What is asked of images before they are used, as containers-policy.json(5) has it [default: ~/.config/containers/policy.json, else /etc/containers/policy.json]
    #[arg(long, global = true, env = "SLIPWAY_SIGNATURE_POLICY", value_name = "FILE")]
    pub(crate) signature_policy: Option<PathBuf>,
    /// Let a registry's credentials go to a token service of another owner that it names
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_TOKEN_SERVICE",
        value_name = "REGISTRY=HOST",
        value_delimiter = ','
    )]
    pub(crate) token_service: Vec<TokenService>,
    /// Fetch layers that registries do not have from the addresses that their images name
    #[arg(long, global = true, env = "SLIPWAY_FOREIGN_LAYERS")]
    pub(crate) foreign_layers: bool,
    /// Most that one archive, layer or context may unpack to [default: 64g, and no more than 200 times its size beyond 4g]
    #[arg(long, global = true, env = "SLIPWAY_MAX_UNPACKED", value_name = "SIZE", value_parser = size::argument)]
    pub(crate) max_unpacked: Option<u64>,
    /// Most that the store may take of the disk; what builds have kept goes, the longest unused first, before it is more
    #[arg(long, global = true, env = "SLIPWAY_STORE_QUOTA", value_name = "SIZE", value_parser = size::argument)]
    pub(crate) store_quota: Option<u64>,
    /// What layers are while something runs on them
    #[arg(long, global = true, env = "SLIPWAY_LAYERS", value_enum, value_name = "SHAPE", default_value_t)]
    pub(crate) layers_as: Layers,
}

/// The shape of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layers {
    /// The best that this machine allows
    #[default]
    Auto,
    /// Files that the kernel mounts (Linux 6.12, root)
    Mounted,
    /// Files that are mounted through loop devices (root)
    Loop,
    /// Folders
    Unpacked,
}

impl Layers {
    /// For the store.
    fn wanted(self) -> Wanted {
        let shape = match self {
            Layers::Auto => None,
            Layers::Mounted => Some(Shape::Mounted),
            Layers::Loop => Some(Shape::Looped),
            Layers::Unpacked => Some(Shape::Unpacked),
        };
        Wanted { shape, try_mount: slipway_runtime::root::try_mount }
    }
}

impl Global {
    /// What a process of ours has that works on a store and was given no settings.
    pub(crate) fn of_store(root: &Path) -> Global {
        Global {
            root: Some(root.to_owned()),
            config: None,
            insecure_registry: Vec::new(),
            tls_ca: None,
            signature_policy: None,
            token_service: Vec::new(),
            foreign_layers: false,
            max_unpacked: None,
            layers_as: Layers::default(),
            registry_mirror: Vec::new(),
            store_quota: None,
        }
    }

    /// Where docker's client keeps its configuration.
    pub(crate) fn config_folder(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| home().map(|home| home.join(".docker")))
    }

    /// What the store may take of the disk: by the flag or its variable, else by the file that SLIPWAY_CONFIG names.
    fn quota(&self) -> Result<Option<u64>, Failure> {
        if self.store_quota.is_some() {
            return Ok(self.store_quota);
        }
        let named = settings::named(None);
        Ok(named.map(|path| settings::load(&path)).transpose()?.and_then(|settings| settings.store_quota))
    }

    /// What docker's configuration gives to containers and builds as proxies; one that cannot be used is said, as docker
    /// does, and nothing comes of it.
    pub(crate) fn proxies(&self) -> BTreeMap<String, String> {
        proxies::of(self.config_folder().as_deref()).unwrap_or_else(|words| {
            crate::show::note(format_args!(
                "warning: no proxies are taken from docker's configuration: {words}"
            ));
            BTreeMap::new()
        })
    }
}

/// The store, and what the process may do.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) tier: Tier,
    single_id: bool,
    layers: Layers,
}

impl App {
    /// Enters a user namespace where the process is not root, and opens the store.
    ///
    /// Must come before any thread is started.
    pub(crate) fn open(global: &Global) -> Result<App, Failure> {
        let (root, quota) = (own_folder(global)?, global.quota()?);
        let entered = levels::enter()?;
        // what steps run in matters to those who run some
        if entered.tier != Tier::Bare {
            warn(&entered);
        }
        App::look_at_parents(&root)?;
        App::open_store(global.layers_as, &root, entered)?.limited(quota)
    }

    /// The same for a command that makes containers: this program's own file is put out of their reach first.
    pub(crate) fn open_for_containers(global: &Global) -> Result<App, Failure> {
        let app = App::open_for_builds(global, Isolation::Strongest)?;
        if app.is_bare() {
            return Err(Failure::new("a container needs namespaces, and this process gets none").with_hint(
                "builds work without; in a container let its runtime allow them (docker: `--privileged`, or \
                 `--security-opt seccomp=unconfined`)",
            ));
        }
        Ok(app)
    }

    /// The same for a build, whose steps run without namespaces too.
    pub(crate) fn open_for_builds(global: &Global, isolation: Isolation) -> Result<App, Failure> {
        let (root, quota) = (own_folder(global)?, global.quota()?);
        let entered = levels::enter_as(isolation)?;
        // the process that begins again has entered nothing
        warn(&entered);
        // in a user namespace the process that begins again is root: the choice that was made outside must stay
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        environment.insert("SLIPWAY_ROOT".into(), root.clone().into());
        // without mounts nothing is out of a step's reach
        if entered.tier != Tier::Bare {
            slipway_runtime::own_file::protect(std::env::args_os(), environment)
                .map_err(|error| Failure::new(format!("cannot protect the program's own file: {error}")))?;
        }
        App::look_at_parents(&root)?;
        App::open_store(global.layers_as, &root, entered)?.limited(quota)
    }

    fn limited(self, quota: Option<u64>) -> Result<App, Failure> {
        quota.map(|bytes| self.store.limit(bytes)).transpose()?;
        Ok(self)
    }

    /// Opens the store in a process of ours that another one of ours has made, which has set the variables.
    pub(crate) fn open_again(root: &Path) -> Result<App, Failure> {
        let entered = levels::enter()?;
        let word = std::env::var("SLIPWAY_LAYERS").unwrap_or_default();
        App::open_store(
            <Layers as clap::ValueEnum>::from_str(&word, false).unwrap_or_default(),
            root,
            entered,
        )
    }

    /// Warns of a folder that others may put another one in the place of.
    fn look_at_parents(root: &Path) -> Result<(), Failure> {
        for parent in private::open_parents(root)? {
            crate::show::note(format_args!(
                "warning: other users may write `{}` and so put another folder in the place of the store `{}`: \
                 `chmod +t` it, or choose another folder with --root",
                parent.display(),
                root.display()
            ));
        }
        Ok(())
    }

    fn open_store(layers: Layers, root: &Path, entered: levels::Entered) -> Result<App, Failure> {
        let xattrs = match slipway_runtime::host::in_user_namespace() {
            _ if entered.single_id => OverlayXattrs::UserOneId,
            true => OverlayXattrs::User,
            // root that may set no attributes of root's
            false if !bare::may_administer() => OverlayXattrs::User,
            false => OverlayXattrs::Trusted,
        };
        // the first is this command's
        let _ = STORE.set(root.to_owned());
        let mut store = Store::open(root, xattrs).map_err(|error| elsewhere(&error, root))?;
        // without mounts there are folders only
        let shape = if entered.tier == Tier::Bare { Layers::Unpacked } else { layers };
        store.shape_layers(shape.wanted());
        Ok(App { store, tier: entered.tier, single_id: entered.single_id, layers })
    }

    /// The variable that has a process of ours open the store as this one did ([`App::open_again`]).
    pub(crate) fn variable(&self) -> (&'static str, String) {
        let word = clap::ValueEnum::to_possible_value(&self.layers);
        ("SLIPWAY_LAYERS", word.map(|word| word.get_name().to_owned()).unwrap_or_default())
    }

    /// Whether steps run without namespaces and mounts.
    pub(crate) fn is_bare(&self) -> bool {
        self.tier == Tier::Bare
    }

    /// Whether owners are kept beside files.
    pub(crate) fn single_id(&self) -> bool {
        self.single_id
    }
}

/// Says why the level is not the better one.
fn warn(entered: &levels::Entered) {
    if let Some(note) = &entered.note {
        crate::show::note(format_args!("warning: {note}"));
    }
}

/// Begins the program again from a file that no container can write, where the line may be one that makes containers and no
/// user namespace has to be entered first. [`App::open_for_containers`] would do the same, but after the line was read, which
/// then is read twice. A word that only looks like such a command costs a moment; where it cannot be done, the command that
/// needs it says why.
pub(crate) fn protect_early(line: Vec<OsString>) {
    let makes_containers = |word: &OsString| {
        ["build", "run", "start", "restart", "debug", "rebuild"].iter().any(|known| word == known)
    };
    if line.iter().skip(1).take(COMMAND_WITHIN).any(makes_containers) && !levels::needed() {
        let _ = slipway_runtime::own_file::protect(line, std::env::vars_os());
    }
}

/// The program as the caller called it, for processes of its own: what this process runs from may be a copy that nobody executes
/// ([`slipway_runtime::own_file`]). To be asked before the folder is left.
pub(crate) fn program() -> PathBuf {
    let called = PathBuf::from(std::env::args_os().next().unwrap_or_else(|| "slipway".into()));
    // a name without a slash is found as the caller's shell found it
    if called.as_os_str().as_encoded_bytes().contains(&b'/') {
        std::path::absolute(&called).unwrap_or(called)
    } else {
        called
    }
}

/// Within how many words the command is looked for; flags that stand before it take a word or two.
const COMMAND_WITHIN: usize = 12;

/// Where this command's store is.
static STORE: OnceLock<PathBuf> = OnceLock::new();

/// Where this command's store is, once it was to be opened: for errors that do not know it, such as the database's.
pub(crate) fn opened_store() -> Option<&'static Path> {
    STORE.get().map(PathBuf::as_path)
}

/// The store's folder, made and closed to others. Before a user namespace is entered: inside, all other users look alike.
pub(crate) fn own_folder(global: &Global) -> Result<PathBuf, Failure> {
    let root = store_folder(global.root.as_deref())?;
    private::folder(&root).map_err(|error| elsewhere(&error, &root))?;
    root.canonicalize().map_err(Failure::from)
}

fn elsewhere(error: &(dyn std::error::Error + 'static), root: &Path) -> Failure {
    Failure::of(error)
        .with_hint(format!("the store is `{}`: choose another folder with --root", root.display()))
}

/// Where the store is; `root` is the caller's choice.
pub(crate) fn store_folder(root: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(root) = root {
        return std::path::absolute(root).map_err(Failure::from);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/slipway"));
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| home().map(|home| home.join(".local/share")));
    let data = data.ok_or_else(|| {
        Failure::new("neither HOME nor XDG_DATA_HOME is set").with_hint("give the store's folder with --root")
    })?;
    Ok(data.join("slipway"))
}

/// The caller's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}
