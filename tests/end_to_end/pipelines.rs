//! The pipelines of `examples/ci`: their scripts are taken out and run, with a registry of the test's own in the place of the
//! example's; and what a job's log and page say.

use crate::support::{Slipway, run, server::Server};
use std::{fs, path::Path, process::Command};

const RECIPE: &str = "FROM base\nRUN echo built > /built\n";

/// The scripts of a file: the blocks and lines beneath `run:`, `script:`, `before_script:` and `args:`, without YAML's own marks.
fn scripts(text: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let key = lines[at].trim_start().trim_start_matches("- ");
        let depth = indent(lines[at]);
        at += 1;
        let is_block = ["run: |", "script: |"].contains(&key);
        let is_list = ["script:", "before_script:", "args:"].contains(&key);
        if is_block {
            let (block, next) = block(&lines, at, depth);
            found.push(block);
            at = next;
        }
        while is_list
            && at < lines.len()
            && lines[at].trim_start().starts_with("- ")
            && indent(lines[at]) > depth
        {
            let item = lines[at].trim_start().trim_start_matches("- ");
            if item == "|" {
                let (block, next) = block(&lines, at + 1, indent(lines[at]));
                found.push(block);
                at = next;
            } else {
                found.push(item.to_owned());
                at += 1;
            }
        }
    }
    found
}

/// The lines that are deeper than `depth`, without what they share.
fn block(lines: &[&str], from: usize, depth: usize) -> (String, usize) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let end = lines[from..].iter().position(|line| !line.trim().is_empty() && indent(line) <= depth);
    let end = end.map_or(lines.len(), |count| from + count);
    let shared = lines[from..end]
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| indent(line))
        .min()
        .unwrap_or(0);
    let text = lines[from..end].iter().map(|line| format!("{}\n", line.get(shared..).unwrap_or("")));
    (text.collect(), end)
}

/// A job's machine: `slipway` on the path, the checkout as its folder, the registry's names in its variables.
fn job(slipway: &Slipway, folder: &Path, script: &str, variables: &[(&str, &str)]) -> crate::support::Ended {
    let bin = slipway.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let link = bin.join("slipway");
    if !link.exists() {
        std::os::unix::fs::symlink(crate::support::binary(), link).unwrap();
    }
    let known = slipway.command([""; 0]);
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]).current_dir(folder);
    command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display())).envs(variables.iter().copied());
    run(&mut command)
}

#[test]
fn every_pipeline_s_script_builds_and_pushes() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "README.md");
    names.sort();
    assert_eq!(names, ["forgejo.yml", "github.yml", "gitlab.yml", "kubernetes-job.yaml", "tekton.yaml"]);
    let checkout = slipway.context("checkout", &[("Dockerfile", RECIPE)]);
    for name in &names {
        let image = server.name(&format!("team/{}", name.split('.').next().unwrap()));
        let (digest, home) =
            (slipway.path("digest").display().to_string(), slipway.path("home").display().to_string());
        let context = checkout.display().to_string();
        let variables = [
            ("IMAGE", image.as_str()),
            ("TAG", "one"),
            ("REGISTRY_USER", "user"),
            ("REGISTRY_PASSWORD", "password"),
            ("RUNNER_TEMP", home.as_str()),
            ("DIGEST_FILE", digest.as_str()),
            ("CONTEXT", context.as_str()),
            ("HOME", home.as_str()),
            ("DOCKER_CONFIG", home.as_str()),
        ];
        fs::create_dir_all(&home).unwrap();
        let scripts = scripts(&fs::read_to_string(folder.join(name)).unwrap());
        assert!(
            scripts.iter().any(|script| script.contains("slipway build") && script.contains("--push")),
            "{name}"
        );
        for script in &scripts {
            job(&slipway, &checkout, script, &variables).ok();
        }
        let other = slipway.another(&format!("other-{name}"));
        let tagged = format!("{image}:one");
        other.ok(["pull", &tagged]);
        assert_eq!(other.ok(["run", "--rm", &tagged, "cat", "/built"]), "built\n", "{name}");
    }
}

#[test]
fn a_github_job_shows_where_it_failed_and_sums_up() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN echo '::error::not mine' && echo '##[error]neither' && echo fine\n\nRUN echo 100% '##[x]y' && \\\n    exit 3\n";
    let checkout = slipway.context("checkout", &[("sub/Dockerfile", recipe), ("good/Dockerfile", RECIPE)]);
    let page = slipway.path("page.md").display().to_string();
    let root = checkout.display().to_string();
    let variables = [
        ("SLIPWAY_PROGRESS", "github"),
        ("GITHUB_STEP_SUMMARY", page.as_str()),
        ("GITHUB_WORKSPACE", root.as_str()),
    ];
    let failed = job(&slipway, &checkout, "slipway build sub", &variables);
    let log = failed.fails(1);
    assert!(log.contains("::error file=sub/Dockerfile,line=4,endLine=5,title=slipway build::"), "{log}");
    let annotations = log.lines().filter(|line| line.starts_with("::error")).collect::<Vec<_>>();
    // what a step wrote lies between words that it cannot know, of its own for each
    let parts: Vec<&str> = log.split("::stop-commands::").skip(1).collect();
    let mut tokens = std::collections::BTreeSet::new();
    for part in &parts {
        let (token, rest) = part.split_once('\n').unwrap();
        assert!(token.len() == 32 && tokens.insert(token), "{log}");
        let (theirs, ours) = rest.split_once(&format!("\n::{token}::\n")).unwrap();
        assert!(!ours.contains("not mine") && !ours.contains("##["), "{ours}");
        assert!(theirs.contains("not mine") || theirs.contains("100%"), "{theirs}");
    }
    assert_eq!(parts.len(), 2, "{log}");
    assert_eq!(annotations.len(), 2, "ours, and the step's own: {annotations:?}");
    assert!(log.contains("::group::#2 [stage-0 2/3] RUN echo") || log.contains("::group::#2 ["), "{log}");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("**Failed** after") && text.contains("| **failed** |"), "{text}");
    // and one that goes well adds to the page
    job(&slipway, &checkout, "slipway build -t app:1 good", &variables).ok();
    let text = fs::read_to_string(&page).unwrap();
    let digest = slipway.digest("app:1");
    let shown = digest.replace(':', "&#58;");
    assert!(text.matches("### slipway build").count() == 2 && text.contains(&shown), "{text}");
    // GitLab's folds begin and end
    let log = job(&slipway, &checkout, "slipway build --progress gitlab --no-cache good 2>&1", &[]).ok();
    assert_eq!(log.matches("section_start:").count(), log.matches("section_end:").count());
    assert!(!log.contains("::"), "{log}");
}
