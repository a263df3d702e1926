//! What a layer's shape costs: the first container of a pulled base, a step on many copied files, the image's removal.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Case, Settings, input};
use crate::process::{quiet, seconds};
use crate::registry::Registry;
use crate::{Failure, base, failed, house};

/// The shapes that are compared (`--layers-as`).
const SHAPES: [&str; 2] = ["unpacked", "auto"];

/// Reads every file from here on.
const READ_ALL: &str = "find . -xdev -type f -exec cat {} + > /dev/null";

/// How often a container of the stack is run in a round.
const RUNS: u32 = 20;

/// Measures every row in both shapes; prints each as it comes.
pub(super) fn measure(slipway: &Path, settings: &Settings) -> Result<Vec<Case>, Failure> {
    let registry = Registry::start(slipway, &house::empty_folder("bench/registry")?)?;
    let [name, stack, made] = ["base", "stack", "made"].map(|name| format!("{}/{name}:1", registry.address));
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
        let mut rows = [
            "pull base + run",
            "remove base",
            "run on 20 layers",
            "copy + run cold",
            "copy + run touched",
            "read all of a base, cold",
            "read all of a base, warm",
            "remove 5,000 files of a RUN",
        ]
        .map(|row| Case { name: format!("{row}, {shape}"), builder: "slipway", times: Vec::new() });
        let build = ["build", "--progress", "quiet", "-t"];
        for round in 0..settings.rounds {
            house::empty_folder("bench/shapes")?;
            quiet(command(&["import"])?.arg(base::provide()?.archive).arg(&name))?;
            quiet(&mut command(&["push", "-q", &name])?)?;
            quiet(command(&["import"])?.arg(input::base()?).arg("bench-base"))?;
            quiet(command(&[&build[..], &[&stack]].concat())?.arg(input::run_steps()?))?;
            quiet(command(&[&build[..], &[&made]].concat())?.arg(input::run_files()?))?;
            for image in [&stack, &made] {
                quiet(&mut command(&["push", "-q", image])?)?;
            }
            house::empty_folder("bench/shapes")?;
            let pulled = quiet(&mut command(&["pull", "-q", &name])?)?.1;
            rows[0].times.push(pulled + quiet(&mut command(&["run", "--rm", &name, "true"])?)?.1);
            rows[1].times.push(quiet(&mut command(&["rmi", &name])?)?.1);
            quiet(&mut command(&["pull", "-q", &stack])?)?;
            let run = || Ok(quiet(&mut command(&["run", "--rm", &stack, "true"])?)?.1);
            run()?;
            let runs = (0..RUNS).map(|_| run()).sum::<Result<Duration, Failure>>()?;
            rows[2].times.push(runs / RUNS);
            // what a RUN made stays a folder where it was made: here as it comes from elsewhere
            quiet(&mut command(&["pull", "-q", &made])?)?;
            quiet(&mut command(&["run", "--rm", &made, "true"])?)?;
            rows[7].times.push(quiet(&mut command(&["rmi", &made])?)?.1);
            quiet(command(&["import"])?.arg(input::base()?).arg("bench-base"))?;
            let build = [&build[..], &["bench"]].concat();
            rows[3].times.push(quiet(command(&build)?.arg(&context))?.1);
            input::touch(&context, round)?;
            rows[4].times.push(quiet(command(&build)?.arg(&context))?.1);
            quiet(&mut command(&["pull", "-q", &name])?)?;
            let read = ["run", "--rm", &name, "sh", "-c", READ_ALL];
            quiet(&mut command(&read)?)?;
            forget_pages()?;
            rows[5].times.push(quiet(&mut command(&read)?)?.1);
            rows[6].times.push(quiet(&mut command(&read)?)?.1);
            // what is copied in the next round is read by then
            quiet(Command::new("sh").args(["-c", READ_ALL]).current_dir(&context))?;
        }
        for row in &rows {
            println!("{:8} {:30} {}", row.builder, row.name, seconds(row.median()));
        }
        cases.extend(rows);
    }
    fs::remove_dir_all(house::folder("bench/shapes")?).map_err(failed("cannot empty the store"))?;
    Ok(cases)
}

/// Lets go of the pages of files, so that they come from the disk (proc_sys_vm(5), `drop_caches`).
fn forget_pages() -> Result<(), Failure> {
    quiet(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(failed("cannot drop the page cache"))
}
