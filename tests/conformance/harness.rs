//! Builds a group's cases and compares, or records.

use crate::buildah::Buildah;
use crate::buildkit::{self, BuildKit};
use crate::case::{self, Case};
use crate::file_server;
use crate::layers;
use crate::listing::{self, Files};
use crate::support::{self, Ended, Slipway, base, image::Image, user::User};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `PATH` of the base image.
pub(crate) const PATH: &str = "/usr/bin:/bin";

/// A built image.
pub(crate) struct Made {
    pub(crate) files: Files,
    pub(crate) config: Value,
    /// What is wrong with its layers' forms on disk; root's are looked at.
    pub(crate) wrong: Option<String>,
}

/// A group under test.
struct Group {
    /// Dropped first: its mounts lie in the folder that goes away with the store.
    buildah: Option<(Buildah, Made)>,
    buildkit: Option<BuildKit>,
    slipway: Slipway,
    base: Made,
    record: Option<String>,
    /// Who the contexts belong to, `user:group`, if not root.
    owner: Option<String>,
}

/// What a build came to, as a section's text; `Err` with the output where it failed.
type Result = std::result::Result<(String, Ended), Ended>;

/// Cases of a file from which on not all are built at every level.
const MANY: usize = 200;

/// How strong the sandbox is that the cases are built in (`slipway info`, docs/security.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Root.
    Root,
    /// A plain user with subordinate ids.
    SubordinateIds,
    /// A plain user with nothing but its own id.
    SingleId,
}

impl Level {
    /// An empty store at this level, and an archive of the base image that can be read there.
    fn store(self) -> Option<(Slipway, PathBuf)> {
        let user = match self {
            Level::Root => return Some((Slipway::empty(), base::busybox())),
            Level::SubordinateIds => User::new()?,
            Level::SingleId => User::nameless(),
        };
        let archive = user.path("base.tar");
        Some((Slipway::of(user), archive))
    }

    fn owner(self) -> Option<String> {
        match self {
            Level::Root => None,
            Level::SubordinateIds => Some(User::new()?.owner()),
            Level::SingleId => Some(User::nameless().owner()),
        }
    }

    /// The word of a case's `levels:`.
    fn word(self) -> &'static str {
        match self {
            Level::Root => "root",
            Level::SubordinateIds => "subordinate-ids",
            Level::SingleId => "single-id",
        }
    }
}

/// Runs all cases of a file; fails with everything that was not as expected.
pub(crate) fn group(file: &str, level: Level) {
    let (head, mut cases) = case::read(file);
    let record = std::env::var("SLIPWAY_RECORD").ok().filter(|_| level == Level::Root);
    let only = std::env::var("SLIPWAY_CASE").unwrap_or_default();
    let Some((slipway, archive)) = level.store() else {
        return support::skip("the test user is missing: run `cargo xtask test`");
    };
    let owner = level.owner();
    let path = format!("ENV PATH={PATH}");
    slipway.ok(["import".as_ref(), "--change".as_ref(), path.as_ref(), archive.as_os_str(), "base".as_ref()]);
    let base = read(&slipway, "base");
    let buildah = (record.as_deref() == Some("buildah")).then(|| {
        let buildah = Buildah::new(slipway.path("buildah"));
        let base = buildah.read("base");
        (buildah, base)
    });
    let buildkit = (record.as_deref() == Some("buildkit")).then(|| BuildKit::new(slipway.path("buildkit")));
    let group = Group { slipway, base, buildah, buildkit, record, owner };
    // of many cases a plain user builds every ninth by default, and both levels different ones: minutes matter here
    let all = level == Level::Root || cases.len() < MANY || std::env::var_os("SLIPWAY_LEVELS").is_some();
    let chosen = |index: usize| all || !only.is_empty() || index % 9 == level as usize;
    let mut named: Vec<(usize, &mut Case)> = cases.iter_mut().enumerate().collect();
    named.retain(|(index, case)| case.name.contains(&only) && chosen(*index));
    // the largest groups would be the last to end, alone
    let at_once = if named.len() < MANY || group.record.is_some() { 1 } else { 2 };
    let share = named.len().div_ceil(at_once).max(1);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let shares: Vec<_> = named
            .chunks_mut(share)
            .map(|share| {
                scope.spawn(|| {
                    share.iter_mut().filter_map(|(index, case)| group.wrong(*index, case, level)).collect()
                })
            })
            .collect();
        shares
            .into_iter()
            .flat_map(|share: std::thread::ScopedJoinHandle<'_, Vec<String>>| share.join().unwrap())
            .collect()
    });
    if group.record.is_some() {
        case::write(file, &head, &cases);
    }
    assert!(wrong.is_empty(), "{file}: {} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Why a case cannot run here.
fn missing(programs: &str) -> Option<String> {
    let missing = programs.split(' ').find(|program| support::find(program).is_none())?;
    Some(format!("`{missing}` is not installed"))
}

impl Group {
    /// Runs one case where it belongs; what is not as expected, in words.
    fn wrong(&self, index: usize, case: &mut Case, level: Level) -> Option<String> {
        let elsewhere =
            case.key("levels").is_some_and(|levels| !levels.split(' ').any(|at| at == level.word()));
        // a script that calls the program itself is root's
        if elsewhere || (level != Level::Root && case.section("command").is_some()) {
            return None;
        }
        if let Some(reason) = case.key("needs").and_then(missing) {
            support::skip(&format!("{}: {reason}", case.name));
            return None;
        }
        let words = self.case(index, case).err()?;
        Some(format!("=== {}\n{words}", case.name))
    }

    fn case(&self, index: usize, case: &mut Case) -> std::result::Result<(), String> {
        let folder = self.slipway.path(&format!("case-{index}"));
        let address = prepare(case, &folder);
        let _agent = case
            .sections
            .iter()
            .chain(&case.keys)
            .any(|(_, text)| text.contains("agent.sock"))
            .then(|| std::os::unix::net::UnixListener::bind(folder.join("agent.sock")).unwrap());
        let fill = |text: &str| {
            text.replace("{dir}", folder.to_str().unwrap()).replace("{http}", &format!("http://{address}"))
        };
        for path in [folder.join("context/Dockerfile"), folder.join("command")] {
            if let Ok(text) = fs::read_to_string(&path) {
                fs::write(&path, fill(&text)).unwrap();
            }
        }
        if let Some(owner) = &self.owner {
            support::run(Command::new("chown").args(["-hR", owner]).arg(&folder)).ok();
        }
        let flags: Vec<String> =
            case.key("flags").unwrap_or_default().split_whitespace().map(&fill).collect();
        let name = format!("case-{index}");
        let result = self.build(case, &name, &folder, &flags);
        if self.record.is_some()
            && !case.by().starts_with("buildah")
            && case.section("expect").is_none()
            && case.section("fails").is_none()
        {
            match &result {
                Ok((made, _)) => case.put("expect", Some(made.clone())),
                // its words are for a person to choose
                Err(_) => case.put("fails", Some(String::new())),
            }
        }
        if let Some((buildah, base)) = self.buildah.as_ref().filter(|_| case.is_recorded()) {
            record(buildah, base, case, &name, &folder, &flags)?;
        }
        let counts = self.layers_wanted(case, &name);
        if let Some(buildkit) = self.buildkit.as_ref().filter(|_| case.section("Dockerfile").is_some()) {
            self.compare(buildkit, case, &name, &folder, &flags);
        }
        judge(case, result, counts)
    }

    /// Asks BuildKit and notes what it says: its release beside who else says so, or what it made instead.
    fn compare(&self, buildkit: &BuildKit, case: &mut Case, name: &str, folder: &Path, flags: &[String]) {
        let images: Vec<&str> = case.all("image").map(|(image, _)| image).chain(["base"]).collect();
        let theirs = format!("{name}-buildkit");
        let built = buildkit.build(&self.slipway, &theirs, &folder.join("context"), &images, flags);
        let Some(built) = built else { return };
        let words = match built {
            Err(ended) => {
                let said =
                    ended.stderr.lines().rev().find(|line| line.starts_with("error:")).unwrap_or_default();
                println!("=== {}: {said}", case.name);
                "fails\n".to_owned()
            }
            Ok(()) => {
                let made = read(&self.slipway, &theirs);
                let nothing = scratch();
                let base = if self.is_on_base(&made.config) { &self.base } else { &nothing };
                describe(&made, base)
            }
        };
        let is_same = match (case.section("fails"), case.section("expect")) {
            (Some(_), _) => words == "fails\n",
            (None, expect) => words == without_counts(expect.unwrap_or_default()),
        };
        let others: Vec<&str> = case.by().split(", ").filter(|by| !by.starts_with("BuildKit")).collect();
        let mut by: Vec<String> = others.into_iter().map(str::to_owned).collect();
        if is_same {
            by.push(buildkit::VERSION.to_owned());
        } else if case.by().contains("BuildKit") && by.is_empty() {
            by.push("BuildKit".to_owned());
        }
        case.keys.iter_mut().filter(|(key, _)| key == "by").for_each(|(_, value)| *value = by.join(", "));
        case.put("buildkit", (!is_same).then_some(words));
    }

    /// The number of layers above the base, where the case asks for one.
    fn layers_wanted(&self, case: &Case, name: &str) -> Option<(usize, usize)> {
        let wanted = case.section("expect")?.lines().find_map(|line| line.strip_prefix("layers "))?;
        let config = Image::read(&self.slipway, name).config;
        let ids = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
        let above = ids - usize::from(self.is_on_base(&config));
        Some((wanted.parse().unwrap(), above))
    }

    fn is_on_base(&self, config: &Value) -> bool {
        config["rootfs"]["diff_ids"][0] == self.base.config["rootfs"]["diff_ids"][0]
    }

    fn build(&self, case: &Case, name: &str, folder: &Path, flags: &[String]) -> Result {
        for (image, _) in case.all("image") {
            let mut command = self.slipway.command(["build", "--progress", "plain", "-t", image, "-f"]);
            let ended = support::run(command.arg(recipe_of(folder, image)).arg(folder.join("context")));
            if !ended.status.success() {
                return Err(ended);
            }
        }
        let ended = if case.section("command").is_some() {
            let mut command = Command::new("sh");
            let build = format!("{} build --progress plain -t {name}", support::binary().display());
            command.args(["-eu", "../command"]).current_dir(folder.join("context"));
            command.env("SLIPWAY_ROOT", &self.slipway.root).env("BUILD", build).env("NAME", name);
            command.env("SLIPWAY", support::binary()).env_remove("SOURCE_DATE_EPOCH").env("DIR", folder);
            support::run(&mut command)
        } else {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            self.slipway.build_folder(name, &folder.join("context"), &flags)
        };
        if !ended.status.success() {
            return Err(ended);
        }
        let made = read(&self.slipway, name);
        let nothing = scratch();
        let base = if self.is_on_base(&made.config) { &self.base } else { &nothing };
        let wrong = made.wrong.as_ref().map(|words| format!("{words}\n"));
        Ok((wrong.unwrap_or_default() + &describe(&made, base), ended))
    }
}

fn scratch() -> Made {
    Made { files: Files::default(), config: Value::Null, wrong: None }
}

fn describe(made: &Made, base: &Made) -> String {
    made.files.changes(&base.files) + &listing::configuration(&made.config, &base.config)
}

fn read(slipway: &Slipway, name: &str) -> Made {
    let image = Image::read(slipway, name);
    let mut files = Files::default();
    image.layers.iter().for_each(|layer| files.apply(layer));
    let wrong = slipway.is_roots().then(|| layers::check(slipway, &image.manifest).err()).flatten();
    Made { files, config: image.config, wrong }
}

/// Makes the case's folder; answers the address of what serves its `served/`.
fn prepare(case: &Case, folder: &Path) -> String {
    let (context, served) = (folder.join("context"), folder.join("served"));
    fs::create_dir_all(&context).unwrap();
    fs::create_dir_all(&served).unwrap();
    for (title, kind) in [("file", &context), ("served", &served), ("image", &folder.join("images"))] {
        for (name, text) in case.all(title) {
            let (path, mode) = name.split_once(' ').unwrap_or((name, "0644"));
            let place = kind.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, text).unwrap();
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    if let Some(text) = case.section("Dockerfile") {
        fs::write(context.join("Dockerfile"), text).unwrap();
    }
    if let Some(text) = case.section("command") {
        fs::write(folder.join("command"), text).unwrap();
    }
    if let Some(script) = case.section("setup") {
        let mut command = Command::new("sh");
        command.args(["-euc", &format!("umask 022\n{script}")]).current_dir(&context);
        command.env("GIT_AUTHOR_DATE", "1500000000 +0000").env("GIT_COMMITTER_DATE", "1500000000 +0000");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@b");
        }
        support::run(&mut command).ok();
    }
    file_server::start(served)
}

fn recipe_of(folder: &Path, image: &str) -> PathBuf {
    folder.join("images").join(image)
}

/// Asks buildah and notes what it says.
fn record(
    buildah: &Buildah,
    base: &Made,
    case: &mut Case,
    name: &str,
    folder: &Path,
    flags: &[String],
) -> std::result::Result<(), String> {
    let context = folder.join("context");
    for (image, _) in case.all("image") {
        let ended = buildah.build(image, &context, &recipe_of(folder, image), &[]);
        if !ended.status.success() {
            return Err(format!("buildah failed on image {image}:\n{}", ended.stderr));
        }
    }
    let recipe = context.join("Dockerfile");
    let ended = buildah.build(name, &context, &recipe, flags);
    let words = if ended.status.success() {
        let made = buildah.read(name);
        let is_on_base = made.config["rootfs"]["diff_ids"][0] == base.config["rootfs"]["diff_ids"][0];
        let nothing = scratch();
        without_stubs(&describe(&made, if is_on_base { base } else { &nothing }))
    } else {
        "fails\n".to_owned()
    };
    let is_layers = |line: &&str| line.starts_with("layers ");
    let expect = case.section("expect").unwrap_or_default();
    let layers: String = expect.split_inclusive('\n').filter(is_layers).collect();
    let listing: String = expect.split_inclusive('\n').filter(|line| !is_layers(line)).collect();
    let is_same = match case.section("fails") {
        Some(_) => words == "fails\n",
        None => words == listing,
    };
    if case.by().starts_with('§') && is_same {
        case.put("buildah", None);
        let by = format!("buildah 1.28.2, {}", case.by());
        case.keys.iter_mut().filter(|(key, _)| key == "by").for_each(|(_, value)| value.clone_from(&by));
    } else if case.by().starts_with('§') {
        case.put("buildah", Some(words));
    } else if (words == "fails\n" || case.section("fails").is_some()) && !is_same {
        let last: String = ended.stderr.lines().rev().take(3).collect::<Vec<_>>().join("\n");
        return Err(format!("buildah: {words}\n{last}"));
    } else if case.section("fails").is_none() {
        case.put("expect", Some(words + &layers));
    }
    Ok(())
}

/// Without the mount points that buildah's chroot isolation leaves in every layer of a RUN.
fn without_stubs(listing: &str) -> String {
    let stub = |line: &&str| {
        let path = line.trim_end().rsplit(' ').next().unwrap_or_default();
        let empty = line.starts_with("f 0755 0:0 0 ")
            && matches!(path, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf");
        empty || line.trim_end() == "d 0755 0:0 /run"
    };
    listing.split_inclusive('\n').filter(|line| !stub(line)).collect()
}

/// A listing without the number of layers, which is counted apart.
fn without_counts(listing: &str) -> String {
    listing.split_inclusive('\n').filter(|line| !line.starts_with("layers ")).collect()
}

/// Whether the result is the expected one.
fn judge(case: &Case, result: Result, layers: Option<(usize, usize)>) -> std::result::Result<(), String> {
    let output = match (&result, case.section("fails")) {
        (Err(ended), Some(parts)) => {
            if ended.code() != Some(1) {
                return Err(format!("ended with {:?}\n{}", ended.code(), ended.stderr));
            }
            let missing: Vec<&str> = parts.lines().filter(|part| !ended.stderr.contains(part)).collect();
            if !missing.is_empty() {
                return Err(format!("the message lacks {missing:?}:\n{}", ended.stderr));
            }
            return Ok(());
        }
        (Err(ended), None) => return Err(format!("failed:\n{}", ended.stderr)),
        (Ok((made, _)), Some(_)) => return Err(format!("was built, but should fail:\n{made}")),
        (Ok((made, ended)), None) => {
            let expect = without_counts(case.section("expect").unwrap_or_default());
            if *made != expect {
                return Err(difference(&expect, made));
            }
            format!("{}{}", ended.stdout, ended.stderr)
        }
    };
    if let Some((wanted, found)) = layers.filter(|(wanted, found)| wanted != found) {
        return Err(format!("has {found} layers above the base, not {wanted}"));
    }
    for line in case.section("says").unwrap_or_default().lines() {
        if !output.contains(line) {
            return Err(format!("does not say `{line}`:\n{output}"));
        }
    }
    for line in case.section("silent").unwrap_or_default().lines() {
        if output.contains(line) {
            return Err(format!("says `{line}`:\n{output}"));
        }
    }
    Ok(())
}

/// Lines of one side only.
fn difference(expected: &str, made: &str) -> String {
    let only = |these: &str, those: &str, mark: &str| -> String {
        let missing = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        missing.map(|line| format!("  {mark} {line}\n")).collect()
    };
    format!("{}{}", only(expected, made, "expected"), only(made, expected, "made    "))
}
