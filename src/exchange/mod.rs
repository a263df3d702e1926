//! Images and artifacts on their way from one place to another, byte for byte: registries, OCI layouts, archives.

mod bundle;
mod place;
mod target;

pub(crate) use bundle::{Bundle, Origin};
pub(crate) use place::Place;
pub(crate) use target::{to_archive, to_docker_archive, to_layout, to_registry};
