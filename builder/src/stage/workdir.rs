//! WORKDIR: the configuration, and the folder where it is missing.

use super::StageState;
use crate::{
    Outcome, StepError,
    key::{Operation, StepDescription, WorkdirStep, latest_time},
    transfer,
};
use slipway_oci::{
    layer::{Clamp, Entry, LayerWriter},
    store::{Adopted, LayerForm},
};

impl StageState<'_, '_> {
    pub(super) fn workdir(&mut self, text: &str) -> Result<Outcome, StepError> {
        let expanded = self.expand(text)?;
        let written = written(&self.working_dir(), &expanded);
        let path = cleaned(&written);
        self.config.config.working_dir = Some(written.clone());
        let created_by = format!("WORKDIR {written}");
        if path == "/" {
            self.note(created_by, true);
            return Ok(Outcome::Done);
        }
        let user = self.config.config.user.clone().unwrap_or_default();
        let step = WorkdirStep {
            path: path.clone(),
            user: user.clone(),
            latest_time: latest_time(self.epoch.clamp),
        };
        let description = StepDescription::new(Some(self.chain()), Operation::Workdir(step));
        let (solver, use_cache) = (self.solver, self.use_cache);
        let (layer, outcome) =
            solver.step(&description, &created_by, use_cache, || self.make_workdir(&path, &user))?;
        self.push(layer, created_by)?;
        Ok(outcome)
    }

    /// Folders that are missing, 0755, the last one owned by the current user as its parents are.
    fn make_workdir(&mut self, path: &str, user: &str) -> Result<Option<LayerForm>, StepError> {
        let resolved = self.tree()?.resolve(path.as_bytes(), true)?;
        if resolved.exists {
            let found = self.tree()?.get(&resolved.path).map(|found| found.entry.is_directory());
            return match found.unwrap_or(true) {
                true => Ok(None),
                false => Err(slipway_oci::layer::TreeError::NotDirectory(path.to_owned()).into()),
            };
        }
        let owner = if user.is_empty() { None } else { Some(self.owner(user)?) };
        let solver = self.solver;
        let mtime = if let Clamp::Latest(latest) = self.epoch.clamp { latest } else { self.epoch.created };
        let store = solver.environment.store;
        let mut writer = LayerWriter::new(store.blobs(), solver.request.compression)?;
        let mut here = Vec::new();
        let mut above = self.tree()?.get(b"").map(|found| found.entry.clone());
        for part in resolved.path.split(|byte| *byte == b'/') {
            here = transfer::join(&here, part);
            let entry = match self.tree()?.get(&here) {
                Some(found) => {
                    Entry { opaque: false, implicit: false, path: here.clone(), ..found.entry.clone() }
                }
                None => transfer::new_folder(&here, 0o755, owner, above.as_ref(), mtime),
            };
            above = Some(entry.clone());
            writer.append(entry)?;
        }
        Ok(Some(store.adopt_layer(&writer.finish()?, Adopted::Nothing)?))
    }

    /// User and group of files that `user[:group]` means in the image, for --chown and WORKDIR.
    pub(super) fn owner(&mut self, user: &str) -> Result<(u32, u32), StepError> {
        let (passwd, group) = (self.account_file("etc/passwd")?, self.account_file("etc/group")?);
        Ok(slipway_runtime::identity::owner(user, &passwd, &group)?)
    }
}

/// What the configuration says for a WORKDIR in `working_dir` (BuildKit `NormalizeWorkdir`): absolute paths stay as they
/// are written, relative ones are joined and cleaned.
pub(super) fn written(working_dir: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => cleaned(&format!("{working_dir}/{path}")),
    }
}

/// An absolute path without `.`, `..`, empty parts and a slash at the end.
pub(super) fn cleaned(path: &str) -> String {
    format!("/{}", transfer::shown(&transfer::clean(path.as_bytes())))
}
