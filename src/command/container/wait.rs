//! `slipway wait`.

use super::{kept::Kept, stopping};
use crate::{
    app::{App, Global},
    error::Failure,
    show,
};
use slipway_runtime::container::state::Status;
use std::time::Duration;

/// Wait until containers have ended, and print their exit statuses.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The containers: names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How often it is looked whether an end has been written down.
const LOOK: Duration = Duration::from_millis(5);

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let mut status = 0;
    for text in &arguments.containers {
        match Kept::find(&app, text).and_then(|kept| exit_code(&app, kept)) {
            Ok(code) => show::say(code)?,
            Err(failure) => {
                failure.print();
                status = 1;
            }
        }
    }
    Ok(status)
}

/// What a container ends with next; of one that has ended, what it ended with.
fn exit_code(app: &App, mut kept: Kept) -> Result<i32, Failure> {
    let started = kept.state.started;
    if kept.state.status == Status::Created {
        // it may be started while somebody waits (docker waits too)
        while kept.state.status == Status::Created {
            std::thread::sleep(LOOK);
            if !kept.read_again(app)? {
                return Err(Failure::new(format!("container `{}` was removed", kept.row.name)));
            }
        }
        return exit_code(app, kept);
    }
    if let Some(process) = kept.state.find_process() {
        stopping::ends_within(&process, None)?;
        // written down a moment later, by its monitor or by whoever finds that gone
        let is_same = |kept: &Kept| kept.state.status == Status::Running && kept.state.started == started;
        while is_same(&kept) {
            std::thread::sleep(LOOK);
            kept = match Kept::find(app, &kept.row.id) {
                Ok(found) => found,
                // one that removes itself has told nobody but its monitor
                Err(_) => {
                    return Err(Failure::new(format!("container `{}` has removed itself", kept.row.name)));
                }
            };
        }
    }
    Ok(kept.state.exit_code)
}
