//! Keeping artifacts, and letting go of those that no revision has.

use std::path::Path;

use osvm_model::Digest;

use crate::{context::Context, error::chain, failure::Failure};

/// Copies the artifact into the state folder and returns its digest.
pub(crate) async fn keep(ctx: &Context, artifact: &Path) -> Result<Digest, Failure> {
    if !artifact.is_absolute() {
        return Err(Failure::bad(format!("artifact {} is not an absolute path", artifact.display())));
    }
    let (artifact, folder) = (artifact.to_owned(), ctx.paths.artifacts());
    match tokio::task::spawn_blocking(move || osvm_runtime::artifact::store(&artifact, &folder)).await {
        Ok(stored) => Ok(stored?),
        Err(_) => Err(Failure::failed("the artifact could not be copied", "try again")),
    }
}

/// Removes the copies that no revision has. Failing to only costs room.
pub(crate) fn collect(ctx: &Context) {
    let digests = match ctx.store.digests() {
        Ok(digests) => digests,
        Err(error) => return tracing::warn!(error = chain(&error), "cannot see which artifacts are needed"),
    };
    let Ok(folder) = std::fs::read_dir(ctx.paths.artifacts()) else { return };
    for entry in folder.flatten() {
        let name = entry.file_name();
        let is_copy = name.to_str().is_some_and(|name| name.len() == 64);
        if is_copy
            && !digests.iter().any(|digest| digest.0.as_str() == name)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove an artifact that nothing needs");
        }
    }
}
