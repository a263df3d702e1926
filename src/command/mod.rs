//! The command line: one file a command, in groups, and the table of them all.

pub(crate) mod builder;
pub(crate) mod container;
pub(crate) mod dockerfile;
pub(crate) mod image;
pub(crate) mod registry;
pub(crate) mod remote;
pub(crate) mod system;

use crate::{app::Global, error::Failure};
use builder::{bake, build, builds, caches, context, debug, rebuild, why};
use container::{
    create, kill, logs, ps, rename, restart, rm as remove_container, run as run_command, start, stop, wait,
};
use dockerfile::{check, fmt};
use image::{
    diff, history, import, inspect, list as image_list, load, pull, push, remove as remove_image, save, sbom,
    tag,
};
use registry::{group as registry_group, login, logout, serve};
use remote::{artifact, copy, delete, digest, keys, promote, referrers, sign, tags, verify};
use system::{completion, df, du, info, man, prune, reset, scrub, version};

/// Builds container images from Dockerfiles, runs them, pushes and pulls them, and hosts them.
#[derive(clap::Parser)]
#[command(name = "slipway", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
#[derive(clap::Subcommand)]
enum Command {
    /// Keep files in registries, as ORAS does
    Artifact(artifact::Arguments),
    /// Build the targets of a bake or compose file
    Bake(bake::Arguments),
    /// Build an image from a Dockerfile
    Build(Box<build::Arguments>),
    /// Look at builds that ran: steps, times, logs
    Builds(builds::Arguments),
    /// Look after caches of RUN --mount=type=cache: list them, remove them, carry them elsewhere
    Cache(caches::Arguments),
    /// Check a recipe without building it
    Check(check::Arguments),
    /// Write what a shell needs to complete commands, flags, images and stages
    Completion(completion::Arguments),
    /// Look into build contexts
    Context(context::Arguments),
    /// Copy images between registries, layouts and archives
    Copy(Box<copy::Arguments>),
    /// Make a container without starting it
    Create(Box<create::Arguments>),
    /// Open a shell in the state of a step of a kept build, or run a command there
    Debug(debug::Arguments),
    /// Delete tags or manifests in a registry
    Delete(delete::Arguments),
    /// Show what takes the store's room
    Df(df::Arguments),
    /// Compare two images, path by path
    Diff(diff::Arguments),
    /// Show what a name stands for in its registry
    Digest(digest::Arguments),
    /// Look into recipes: syntax trees, expansion, extensions, a language server
    Dockerfile(dockerfile::Arguments),
    /// Show what takes the store's room, and what can be had back
    Du(du::Arguments),
    /// Format recipes
    Fmt(fmt::Arguments),
    /// Make a pair of keys to sign images with
    GenerateKeyPair(keys::Arguments),
    /// Show what an image was made by
    History(history::Arguments),
    /// List images
    Images(image_list::Arguments),
    /// Make a base image from a root file system's tar or folder
    Import(import::Arguments),
    /// Show what this machine allows and where things are
    Info(info::Arguments),
    /// Show images and containers in detail, as JSON
    Inspect(inspect::Arguments),
    /// Send a signal to running containers
    Kill(kill::Arguments),
    /// Read images from an archive or OCI layout
    Load(load::Arguments),
    /// Log in to a registry
    Login(login::Arguments),
    /// Log out from a registry
    Logout(logout::Arguments),
    /// Show what a container wrote
    Logs(logs::Arguments),
    /// Write manual pages into a folder, one a command
    Man(man::Arguments),
    /// Let a tag stand for what another one stands for
    Promote(promote::Arguments),
    /// Give back what nothing needs
    Prune(prune::Arguments),
    /// List containers
    Ps(ps::Arguments),
    /// Fetch images from a registry
    Pull(pull::Arguments),
    /// Send an image to a registry
    Push(push::Arguments),
    /// Build again what made an image, without cached results, and say whether it came out the same
    Rebuild(rebuild::Arguments),
    /// List what is attached to an image in its registry
    Referrers(referrers::Arguments),
    /// Look after a registry of your own: its configuration, users, tokens and content
    Registry(registry_group::Arguments),
    /// Give a container another name
    Rename(rename::Arguments),
    /// Remove the whole store
    Reset(reset::Arguments),
    /// Stop containers, and start them again
    Restart(restart::Arguments),
    /// Remove containers, with what they wrote
    Rm(remove_container::Arguments),
    /// Remove images
    Rmi(remove_image::Arguments),
    /// Run a command in a new container
    Run(Box<run_command::Arguments>),
    /// Write images to an archive or OCI layout
    Save(save::Arguments),
    /// List the packages in an image, as SPDX or CycloneDX
    Sbom(sbom::Arguments),
    /// Read everything in the store again, and say what is damaged
    Scrub(scrub::Arguments),
    /// Serve a registry
    Serve(Box<serve::Arguments>),
    /// Sign images in their registry
    Sign(sign::Arguments),
    /// Start containers that were made or have ended
    Start(start::Arguments),
    /// Stop containers
    Stop(stop::Arguments),
    /// Give an image another name
    Tag(tag::Arguments),
    /// List the tags of a repository in its registry
    Tags(tags::Arguments),
    /// Check that images in their registry are signed
    Verify(verify::Arguments),
    /// Show this program's version, and what it and the machine can do
    Version(version::Arguments),
    /// Wait until containers have ended
    Wait(wait::Arguments),
    /// Show why steps of a build ran: what differs from the nearest earlier result
    Why(why::Arguments),
}

/// Carries out one command and answers the exit status.
pub(crate) fn run(cli: Cli) -> Result<u8, Failure> {
    let global = cli.global;
    if let Some(most_bytes) = global.max_unpacked {
        slipway_oci::unpacking::allow(most_bytes);
    }
    match cli.command {
        Command::Artifact(arguments) => artifact::run(&global, &arguments),
        Command::Bake(arguments) => bake::run(&global, &arguments),
        Command::Build(arguments) => build::run(&global, *arguments),
        Command::Builds(arguments) => builds::run(&global, &arguments),
        Command::Cache(arguments) => caches::run(&global, &arguments),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Context(arguments) => context::run(&global, &arguments),
        Command::Copy(arguments) => copy::run(&global, &arguments),
        Command::Create(arguments) => create::run(&global, &arguments),
        Command::Debug(arguments) => debug::run(&global, &arguments),
        Command::Delete(arguments) => delete::run(&global, &arguments),
        Command::Diff(arguments) => diff::run(&global, &arguments),
        Command::Digest(arguments) => digest::run(&global, &arguments),
        Command::Du(arguments) => du::run(&global, &arguments),
        Command::Df(arguments) => df::run(&global, &arguments),
        Command::Dockerfile(arguments) => dockerfile::run(&global, &arguments),
        Command::Fmt(arguments) => fmt::run(&global, &arguments),
        Command::GenerateKeyPair(arguments) => keys::run(&global, &arguments),
        Command::History(arguments) => history::run(&global, &arguments),
        Command::Images(arguments) => image_list::run(&global, &arguments),
        Command::Import(arguments) => import::run(&global, &arguments),
        Command::Info(arguments) => info::run(&global, &arguments),
        Command::Inspect(arguments) => inspect::run(&global, &arguments),
        Command::Kill(arguments) => kill::run(&global, &arguments),
        Command::Load(arguments) => load::run(&global, &arguments),
        Command::Login(arguments) => login::run(&global, &arguments),
        Command::Logout(arguments) => logout::run(&global, &arguments),
        Command::Logs(arguments) => logs::run(&global, &arguments),
        Command::Man(arguments) => man::run(&arguments),
        Command::Promote(arguments) => promote::run(&global, &arguments),
        Command::Prune(arguments) => prune::run(&global, &arguments),
        Command::Ps(arguments) => ps::run(&global, &arguments),
        Command::Pull(arguments) => pull::run(&global, &arguments),
        Command::Push(arguments) => push::run(&global, &arguments),
        Command::Rebuild(arguments) => rebuild::run(&global, &arguments),
        Command::Referrers(arguments) => referrers::run(&global, &arguments),
        Command::Registry(arguments) => registry_group::run(&global, &arguments),
        Command::Rename(arguments) => rename::run(&global, &arguments),
        Command::Reset(arguments) => reset::run(&global, &arguments),
        Command::Restart(arguments) => restart::run(&global, &arguments),
        Command::Rm(arguments) => remove_container::run(&global, &arguments),
        Command::Rmi(arguments) => remove_image::run(&global, &arguments),
        Command::Run(arguments) => run_command::run(&global, *arguments),
        Command::Save(arguments) => save::run(&global, &arguments),
        Command::Sbom(arguments) => sbom::run(&global, &arguments),
        Command::Scrub(arguments) => scrub::run(&global, &arguments),
        Command::Serve(arguments) => serve::run(&global, &arguments),
        Command::Sign(arguments) => sign::run(&global, &arguments),
        Command::Start(arguments) => start::run(&global, &arguments),
        Command::Stop(arguments) => stop::run(&global, &arguments),
        Command::Tag(arguments) => tag::run(&global, &arguments),
        Command::Tags(arguments) => tags::run(&global, &arguments),
        Command::Verify(arguments) => verify::run(&global, &arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::Wait(arguments) => wait::run(&global, &arguments),
        Command::Why(arguments) => why::run(&global, &arguments),
    }
}
