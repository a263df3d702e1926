//! `slipway rmi`.

use crate::{
    app::{App, Global},
    command,
    error::Failure,
    images::Images,
    show,
};

/// Remove images.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Remove an image by id though it has several names; pass over missing ones
    #[arg(short, long)]
    force: bool,
    /// The images: names, ids or digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    command::container::clear(&app)?;
    let mut status = 0;
    let images = Images::new(&app.store, global)?;
    let mut removed = false;
    for image in &arguments.images {
        // what is not there is said below
        let name = images.named(image).unwrap_or_else(|_| image.clone());
        match app.store.remove_image(&name, arguments.force) {
            Ok((names, gone)) => {
                removed = true;
                for name in names {
                    show::say(format!("untagged: {}", name.familiar()))?;
                }
                for digest in gone {
                    show::say(format!("deleted: {digest}"))?;
                }
            }
            Err(slipway_oci::store::StoreError::NoImage(_)) if arguments.force => {}
            Err(slipway_oci::store::StoreError::NoImage(_)) => {
                images.missing(image).print();
                status = 1;
            }
            Err(error) => {
                Failure::of(&error).print();
                status = 1;
            }
        }
    }
    // what other commands hold is collected another time
    if removed && let Some(collected) = app.store.collect()? {
        let kept = app.store.bytes_kept_for_builds()?;
        let kept = if kept == 0 {
            String::new()
        } else {
            format!("; builds keep layers of {}: `slipway prune`", show::human(kept))
        };
        show::note(format_args!("freed {}{kept}", show::human(collected.bytes)));
    }
    Ok(status)
}
