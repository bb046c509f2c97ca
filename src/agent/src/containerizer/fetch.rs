//! Fetching a command's URIs into the sandbox (Mesos' `launcher/fetcher.cpp`).

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use mesos::v1::command_info::Uri;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::helper;

/// What `tar` unpacks.
const TARS: &[&str] = &[".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz"];

/// Where and for whom files are fetched. All is written by that user: no file or link that an archive brings leads
/// further than the task itself could reach.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher<'a> {
    /// The sandbox.
    pub sandbox: &'a Path,
    /// The task's user, if it is not the agent's.
    pub user: Option<&'a str>,
}

impl Fetcher<'_> {
    /// Fetches one URI: a file of the host, or over http.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn fetch(self, uri: &Uri) -> Result<(), String> {
        let path = self.sandbox.join(target(uri)?);
        if let Some(directory) = path.parent() {
            self.run("mkdir", ["-p", "--"], &[directory]).await?;
        }
        let value = uri.value.as_str();
        let file =
            value.strip_prefix("file://").or_else(|| value.starts_with('/').then_some(value));
        if value.starts_with("http://") {
            self.download(value, &path).await?;
        } else if let Some(file) = file {
            self.run("cp", ["-f", "--"], &[Path::new(file), &path]).await?;
        } else {
            return Err(format!(
                "'{value}': only http:// and files are supported by this agent yet"
            ));
        }
        if uri.executable() {
            self.run("chmod", ["a+x", "--"], &[&path]).await?;
        } else if uri.extract() {
            self.extract(&path).await?;
        }
        Ok(())
    }

    /// Unpacks an archive into the sandbox, with the programs that the original uses; other files stay as they are.
    async fn extract(self, path: &Path) -> Result<(), String> {
        let name = path.to_string_lossy();
        let unpacked = if TARS.iter().any(|suffix| name.ends_with(suffix)) {
            self.run("tar", ["-C"], &[self.sandbox, Path::new("-xf"), path]).await
        } else if name.ends_with(".zip") {
            self.run("unzip", ["-q", "-o", "-d"], &[self.sandbox, path]).await
        } else if name.ends_with(".gz") {
            self.run("gzip", ["-d", "-k", "-f", "--"], &[path]).await
        } else {
            Ok(())
        };
        unpacked.map_err(|reason| format!("'{name}' can't be unpacked: {reason}"))
    }

    /// A program that runs as the user, in the sandbox.
    fn command(self, program: &str, arguments: &[String]) -> Command {
        let mut command = match self.user {
            Some(_) => {
                let options = helper::Options { user: self.user, ..helper::Options::default() };
                let argv = [&[program.to_owned()], arguments].concat();
                Command::from(helper::command(&options, program, &argv))
            }
            None => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command.current_dir(self.sandbox).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    async fn run<const N: usize>(
        self,
        program: &str,
        options: [&str; N],
        paths: &[&Path],
    ) -> Result<(), String> {
        let options = options.iter().map(|option| (*option).to_owned());
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let arguments: Vec<String> = options.chain(paths).collect();
        let output = self.command(program, &arguments).output().await;
        finished(program, output)
    }

    async fn download(self, url: &str, path: &Path) -> Result<(), String> {
        let error = |error: &dyn std::fmt::Display| format!("'{url}': {error}");
        let client = tls::client::builder(None)
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(Duration::from_secs(60))
            .build()
            .map_err(|reason| error(&reason))?;
        let response = client.get(url).send().await;
        let mut response = response
            .and_then(reqwest::Response::error_for_status)
            .map_err(|reason| error(&reason))?;
        let arguments = [format!("of={}", path.display()), "bs=64k".to_owned()];
        let mut command = self.command("dd", &arguments);
        let mut writer = command.stdin(Stdio::piped()).spawn().map_err(|reason| error(&reason))?;
        if let Some(mut input) = writer.stdin.take() {
            while let Some(chunk) = response.chunk().await.map_err(|reason| error(&reason))? {
                if input.write_all(&chunk).await.is_err() {
                    break; // It has ended, and says why.
                }
            }
        }
        finished("dd", writer.wait_with_output().await).map_err(|reason| error(&reason))
    }
}

fn finished(program: &str, output: io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("'{program}' can't be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} ended with {}: {}", output.status, said.trim()))
}

/// Where a URI lands, relative to the sandbox and never outside it.
fn target(uri: &Uri) -> Result<PathBuf, String> {
    let name = uri.output_file.clone().unwrap_or_else(|| {
        let path = uri.value.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    });
    let path = PathBuf::from(&name);
    let is_inside =
        !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_inside {
        Ok(path)
    } else {
        Err(format!("'{}' has no file name inside the sandbox", uri.value))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_lands_outside_the_sandbox() {
        let of = |value: &str, output: Option<&str>| {
            target(&Uri {
                value: value.into(),
                output_file: output.map(str::to_owned),
                ..Default::default()
            })
        };
        assert_eq!(of("http://h/a/b.bin?x=/y", None), Ok(PathBuf::from("b.bin")));
        assert_eq!(of("http://h/b", Some("d/c")), Ok(PathBuf::from("d/c")));
        for (value, output) in [
            ("http://h/", None),
            ("http://h/..", None),
            ("/x", Some("../y")),
            ("/x", Some("/etc/passwd")),
        ] {
            assert!(of(value, output).is_err(), "{value} {output:?}");
        }
    }

    fn uri(value: &Path) -> Uri {
        Uri { value: value.to_string_lossy().into_owned(), ..Default::default() }
    }

    #[tokio::test]
    async fn archives_are_unpacked_unless_they_are_to_stay() {
        let directory = tempfile::TempDir::new().unwrap();
        let (source, sandbox) = (directory.path().join("source"), directory.path().join("box"));
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(source.join("file"), "content").unwrap();
        let archive = directory.path().join("all.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&source).arg("-czf").arg(&archive).arg("file");
        assert!(tar.status().await.unwrap().success());
        let kept = Uri { extract: Some(false), ..uri(&archive) };
        let fetcher = Fetcher { sandbox: &sandbox, user: None };
        fetcher.fetch(&kept).await.unwrap();
        assert!(sandbox.join("all.tar.gz").exists() && !sandbox.join("file").exists());
        fetcher.fetch(&uri(&archive)).await.unwrap();
        assert_eq!(fs::read_to_string(sandbox.join("file")).unwrap(), "content");

        let broken = directory.path().join("broken.tar");
        fs::write(&broken, "no archive").unwrap();
        let text = fetcher.fetch(&uri(&broken)).await.unwrap_err();
        assert!(text.contains("broken.tar' can't be unpacked: tar ended with"), "{text}");
        let text = fetcher.fetch(&uri(&directory.path().join("none"))).await.unwrap_err();
        assert!(text.contains("none': No such file"), "{text}");
    }
}
