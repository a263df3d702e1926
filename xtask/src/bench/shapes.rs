//! What a layer's shape costs: the first container of a pulled base, a step on many copied files, the image's removal.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Case, Settings, input};
use crate::process::{quiet, seconds};
use crate::registry::Registry;
use crate::{Failure, base, failed, house};

/// The shapes that are compared (`--layers-as`).
const SHAPES: [&str; 2] = ["unpacked", "auto"];

/// Measures every row in both shapes; prints each as it comes.
pub(super) fn measure(slipway: &Path, settings: &Settings) -> Result<Vec<Case>, Failure> {
    let registry = Registry::start(slipway, &house::empty_folder("bench/registry")?)?;
    let name = format!("{}/base:1", registry.address);
    let context = input::files_with_step(settings.files)?;
    let mut cases = Vec::new();
    for shape in SHAPES {
        let command = |words: &[&str]| {
            let mut command = Command::new(slipway);
            command.env("SLIPWAY_LAYERS", shape).args(words);
            house::folder("bench/shapes").map(|root| {
                command.env("SLIPWAY_ROOT", root);
                command
            })
        };
        let mut rows = ["pull base + run", "remove base", "copy + run cold", "copy + run touched"]
            .map(|row| Case { name: format!("{row}, {shape}"), builder: "slipway", times: Vec::new() });
        for round in 0..settings.rounds {
            house::empty_folder("bench/shapes")?;
            quiet(command(&["import"])?.arg(base::provide()?.archive).arg(&name))?;
            quiet(&mut command(&["push", "-q", &name])?)?;
            house::empty_folder("bench/shapes")?;
            let pulled = quiet(&mut command(&["pull", "-q", &name])?)?.1;
            rows[0].times.push(pulled + quiet(&mut command(&["run", "--rm", &name, "true"])?)?.1);
            rows[1].times.push(quiet(&mut command(&["rmi", &name])?)?.1);
            quiet(command(&["import"])?.arg(input::base()?).arg("bench-base"))?;
            let build = ["build", "--progress", "quiet", "-t", "bench"];
            rows[2].times.push(quiet(command(&build)?.arg(&context))?.1);
            input::touch(&context, round)?;
            rows[3].times.push(quiet(command(&build)?.arg(&context))?.1);
        }
        for row in &rows {
            println!("{:8} {:30} {}", row.builder, row.name, seconds(row.median()));
        }
        cases.extend(rows);
    }
    fs::remove_dir_all(house::folder("bench/shapes")?).map_err(failed("cannot empty the store"))?;
    Ok(cases)
}
