//! Unpacking what was fetched, by what its name ends with. Only the task's own user writes: what an archive says of owners
//! doesn't count, nor which rights the task's user would not have given.

use std::path::Path;

use super::Fetcher;

/// What `tar` unpacks.
const TARS: &[&str] = &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz"];
/// What `unzip` ends with when something was odd and all was unpacked all the same.
const ODD: i32 = 1;

impl Fetcher<'_> {
    /// Unpacks a file into the sandbox, if `name` is that of an archive. Whether it is.
    ///
    /// # Errors
    /// What the program said that unpacks it.
    pub(super) async fn extract(self, archive: &Path, name: &str) -> Result<bool, String> {
        let unpacked = if TARS.iter().any(|suffix| name.ends_with(suffix)) {
            let options = ["--no-same-owner", "--no-same-permissions", "-C"];
            self.run("tar", options, &[self.sandbox, Path::new("-xf"), archive]).await
        } else if name.strip_suffix(".zip").is_some() {
            let output = self.output("unzip", ["-q", "-o", "-d"], &[self.sandbox, archive]).await?;
            if output.status.code() == Some(ODD) {
                Ok(())
            } else {
                super::programs::succeeded("unzip", &output)
            }
        } else if let Some(name) = name.strip_suffix(".gz") {
            let name = name.rsplit('/').next().unwrap_or_default();
            // By the shell, and so as the user: what an archive before may have put there is no way elsewhere.
            let script = "gzip -d -c <\"$0\" >\"$1\"";
            self.run("sh", ["-c", script], &[archive, &self.sandbox.join(name)]).await
        } else {
            return Ok(false);
        };
        unpacked.map(|()| true).map_err(|reason| {
            let (archive, sandbox) = (archive.display(), self.sandbox.display());
            format!("Failed to extract archive '{archive}' to '{sandbox}': {reason}")
        })
    }
}
