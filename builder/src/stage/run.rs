//! RUN: key, then the command in a sandbox on the layers so far.

use super::{Attached, StageState, environment::put_env};
use crate::{
    NetworkMode, Outcome, StepError, StepId, ValueError, When, base, device,
    execute::{self, Command},
    key::{Operation, RunStep, StepDescription, latest_time},
    solve::Workshop,
};
use slipway_dockerfile::{CommandLine, Run};
use slipway_oci::{Digest, Platform, layer::Tree, store::LayerForm};
use slipway_runtime::Lower;

/// Host name that steps see (BuildKit's, which recipes may have met).
const HOSTNAME: &str = "buildkitsandbox";

/// What one RUN executes, expanded.
pub(super) struct Prepared {
    argv: Vec<String>,
    /// A heredoc with `#!`, shown as this file.
    script: Option<(String, Vec<u8>)>,
    env: Vec<String>,
    proxies: Vec<String>,
    influences: Vec<String>,
    network: NetworkMode,
    insecure: bool,
    devices: Vec<device::Request>,
    hostname: String,
}

impl StageState<'_, '_> {
    pub(super) fn run(&mut self, run: &Run, step: Option<StepId>) -> Result<Outcome, StepError> {
        let prepared = self.prepare(run)?;
        let mounts = self.mounts(&run.mounts)?;
        let shown = match (&run.command, &run.script) {
            (_, Some(script)) => format!("<<{} {}", script.name, script.content),
            (CommandLine::Shell(text), None) => text.clone(),
            (CommandLine::Exec(words), None) => words.join(" "),
        };
        let mut created_by = String::from("RUN ");
        if !prepared.influences.is_empty() {
            created_by.push_str(&format!(
                "|{} {} ",
                prepared.influences.len(),
                prepared.influences.join(" ")
            ));
        }
        created_by.push_str(&prepared.argv.join(" "));
        let description = self.describe_run(run, &prepared, &mounts);
        let (solver, use_cache) = (self.solver, self.use_cache);
        let (layer, outcome) = solver
            .step(&description, &created_by, use_cache, || self.execute(&prepared, &mounts, &shown, step))?;
        if layer.is_some() {
            self.run_layers.insert(self.layers.len());
        }
        self.push(layer, created_by)?;
        Ok(outcome)
    }

    fn describe_run(
        &self,
        run: &Run,
        prepared: &Prepared,
        mounts: &[super::mounts::Mount],
    ) -> StepDescription {
        let step = RunStep {
            argv: prepared.argv.clone(),
            script: prepared.script.as_ref().map(|(_, bytes)| Digest::sha256(bytes)),
            env: prepared.env.clone(),
            working_dir: self.working_dir(),
            user: self.config.config.user.clone().unwrap_or_default(),
            platform: self.platform.to_string(),
            network: match prepared.network {
                NetworkMode::Default => "default".to_owned(),
                NetworkMode::Host => "host".to_owned(),
                NetworkMode::None => "none".to_owned(),
            },
            insecure: prepared.insecure,
            hostname: prepared.hostname.clone(),
            devices: run.devices.clone(),
            mounts: mounts.iter().map(|mount| self.describe_mount(mount)).collect(),
            latest_time: latest_time(self.epoch.clamp),
            epoch: self.epoch.keyed.then_some(self.epoch.created),
        };
        StepDescription::new(Some(self.chain()), Operation::Run(Box::new(step)))
    }

    fn prepare(&self, run: &Run) -> Result<Prepared, StepError> {
        let request = self.solver.request;
        let network = match run.network.as_deref() {
            None | Some("default") => request.network,
            Some("none") => NetworkMode::None,
            Some("host") if request.network == NetworkMode::Host || request.allow_host_network => {
                NetworkMode::Host
            }
            Some("host") => {
                return Err(StepError::Entitlement {
                    what: "RUN --network=host",
                    flag: "--allow network.host",
                });
            }
            Some(other) => {
                return Err(ValueError::form(other, "a network mode", "use default, none or host").into());
            }
        };
        let insecure = match run.security.as_deref() {
            None | Some("sandbox") => false,
            Some("insecure") if request.allow_insecure => true,
            Some("insecure") => {
                let flag = "--allow security.insecure";
                return Err(StepError::Entitlement { what: "RUN --security=insecure", flag });
            }
            Some(other) => {
                return Err(ValueError::form(other, "a security mode", "use sandbox or insecure").into());
            }
        };
        let devices: Vec<_> =
            run.devices.iter().map(|text| device::Request::parse(text)).collect::<Result<_, _>>()?;
        if !devices.is_empty() && !request.allow_devices {
            return Err(StepError::Entitlement { what: "RUN --device", flag: "--allow device" });
        }
        let (env, influences) = self.run_environment();
        let (argv, script) = match &run.script {
            Some(script) if script.content.starts_with("#!") => {
                let path = format!("/dev/pipes/{}", script.name);
                (vec![path.clone()], Some((path, script.content.clone().into_bytes())))
            }
            Some(script) => ([self.shell_words(), vec![script.content.clone()]].concat(), None),
            None => (self.command_words(&run.command), None),
        };
        if argv.is_empty() {
            return Err(ValueError::Empty("the command of RUN").into());
        }
        let hostname = request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let hostname = hostname.cloned().unwrap_or_else(|| HOSTNAME.to_owned());
        let proxies = self.proxies();
        Ok(Prepared { argv, script, env, proxies, influences, network, insecure, devices, hostname })
    }

    /// Looks into the state before or after an instruction; of a RUN with its mounts.
    pub(super) fn enter(
        &mut self,
        run: Option<&Run>,
        shown: &str,
        step: StepId,
        when: When,
    ) -> Result<(), StepError> {
        let shell = self.shell_words();
        let (prepared, mounts) = match run {
            Some(run) => (self.prepare(run)?, self.mounts(&run.mounts)?),
            None => {
                let (env, influences) = self.run_environment();
                let prepared = Prepared {
                    argv: shell,
                    script: None,
                    env,
                    proxies: self.proxies(),
                    influences,
                    network: self.solver.request.network,
                    insecure: false,
                    devices: Vec::new(),
                    hostname: HOSTNAME.to_owned(),
                };
                (prepared, Vec::new())
            }
        };
        self.within(&prepared, &mounts, (shown, Some(step)), |solver, command, tree, lower, attached| {
            execute::look(solver, command, tree, (lower, attached), when)
        })
    }

    fn execute(
        &mut self,
        prepared: &Prepared,
        mounts: &[super::mounts::Mount],
        shown: &str,
        step: Option<StepId>,
    ) -> Result<Option<LayerForm>, StepError> {
        self.within(prepared, mounts, (shown, step), execute::execute)
            .map_err(|error| of_machine(error, &self.platform))
    }

    /// Hands `work` what a command is, on which layers, and what is mounted.
    fn within<T>(
        &mut self,
        prepared: &Prepared,
        mounts: &[super::mounts::Mount],
        (shown, step): (&str, Option<StepId>),
        work: impl FnOnce(&Workshop<'_>, &Command<'_>, &Tree, Vec<Lower>, Attached) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let solver = self.solver;
        let environment = solver.environment;
        let layers = self.layers.clone();
        let mut lower = base::runnable(environment, &layers)?;
        lower.reverse();
        let user = self.config.config.user.clone().unwrap_or_default();
        let (passwd, group) = (self.account_file("etc/passwd")?, self.account_file("etc/group")?);
        let user = if user.is_empty() { "0" } else { user.as_str() };
        let resolved = slipway_runtime::identity::resolve(user, &passwd, &group)?;
        let mut env = prepared.env.clone();
        for entry in &prepared.proxies {
            let (name, value) = entry.split_once('=').expect("made so");
            put_env(&mut env, name, value);
        }
        let has = |env: &[String], name: &str| {
            env.iter().any(|entry| entry.split_once('=').is_some_and(|e| e.0 == name))
        };
        if !has(&env, "HOME") {
            env.push(format!("HOME={}", resolved.home.display()));
        }
        if !has(&env, "PATH") {
            env.push(format!("PATH={}", super::base::DEFAULT_PATH));
        }
        if self.epoch.exported && !has(&env, "SOURCE_DATE_EPOCH") {
            env.push(format!("SOURCE_DATE_EPOCH={}", self.epoch.created));
        }
        // the kernel would look for every part of `/a/../b`
        let working_dir = super::workdir::cleaned(&self.working_dir());
        let mut attached = self.attach(mounts, &lower, &mut env)?;
        if let Some(newer) = attached.newer.take() {
            lower.insert(0, newer.into());
        }
        let mut edits = device::edits(&prepared.devices, &solver.request.device_folders)?;
        env.append(&mut edits.env);
        attached.mounts.append(&mut edits.mounts);
        let shell = self.shell_words();
        let command = Command {
            argv: &prepared.argv,
            shown,
            env: &env,
            working_dir: &working_dir,
            identity: resolved.identity,
            network: prepared.network,
            insecure: prepared.insecure,
            hostname: &prepared.hostname,
            shell: shell.first().map_or("/bin/sh", String::as_str),
            script: prepared.script.as_ref(),
            devices: &edits.devices,
            clamp: self.epoch.clamp,
            step: step.unwrap_or_else(|| solver.first_step(self.index)),
        };
        let tree = self.tree()?.clone();
        work(solver, &command, &tree, lower, attached)
    }
}

/// A command that the kernel does not take for a program is one of another machine, where the stage is for another.
fn of_machine(error: StepError, platform: &Platform) -> StepError {
    let host = Platform::host();
    match error {
        StepError::Sandbox(source)
            if platform.architecture != host.architecture
                && matches!(&source, slipway_runtime::Error::NotExecutable { source, .. }
                    if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())) =>
        {
            StepError::Foreign { platform: platform.to_string(), host: host.to_string(), source }
        }
        error => error,
    }
}
