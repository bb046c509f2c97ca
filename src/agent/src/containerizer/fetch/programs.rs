//! The programs that fetch and copy, all as the task's user and in the sandbox.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Fetcher, cause, helper};

/// Redirections that are followed, as curl's and the original's.
const REDIRECTS_MAX: usize = 50;
/// What a server of files says when it has sent one.
const TRANSFERRED: &str = "226";

/// Whether a program did what it was to do.
///
/// # Errors
/// What it said.
pub(super) fn succeeded(program: &str, output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} ended with {}: {}", output.status, said.trim()))
}

impl Fetcher<'_> {
    /// A program that runs as the user, in the sandbox. Of what the agent was told it learns nothing.
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
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("MESOS_") || text.starts_with("LIBPROCESS_") {
                command.env_remove(&name);
            }
        }
        if let Some(home) = &self.shared.hadoop_home {
            command.env("HADOOP_HOME", home);
        }
        command.current_dir(self.sandbox).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it can't be run.
    pub(super) async fn output<const N: usize>(
        self,
        program: &str,
        options: [&str; N],
        paths: &[&Path],
    ) -> Result<Output, String> {
        let options = options.iter().map(|option| (*option).to_owned());
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let arguments: Vec<String> = options.chain(paths).collect();
        let output = self.command(program, &arguments).output().await;
        output.map_err(|error| format!("'{program}' can't be run: {error}"))
    }

    /// Runs a program, which is to succeed.
    ///
    /// # Errors
    /// When it can't be run, or what it said.
    pub(super) async fn run<const N: usize>(
        self,
        program: &str,
        options: [&str; N],
        paths: &[&Path],
    ) -> Result<(), String> {
        succeeded(program, &self.output(program, options, paths).await?)
    }

    /// Asks a web server.
    ///
    /// # Errors
    /// When it doesn't answer, or with something else than what was asked for.
    pub(super) async fn open(self, url: &str) -> Result<reqwest::Response, String> {
        let error =
            |reason: reqwest::Error| format!("Error downloading resource: {}", cause(&reason));
        let client = tls::client::builder(None)
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(self.shared.stall_timeout)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .build()
            .map_err(error)?;
        let response = client.get(url).send().await.map_err(error)?;
        match response.status().as_u16() {
            200 => Ok(response),
            code => Err(format!("Error downloading resource, received HTTP return code {code}")),
        }
    }

    /// Writes what comes from a web server.
    ///
    /// # Errors
    /// When it doesn't come whole, or can't be written.
    pub(super) async fn save(
        self,
        mut response: reqwest::Response,
        path: &Path,
    ) -> Result<(), String> {
        let arguments = [format!("of={}", path.display()), "bs=64k".to_owned()];
        let error = |error: std::io::Error| format!("'dd' can't be run: {error}");
        let mut writer = self.command("dd", &arguments);
        let mut writer = writer.stdin(Stdio::piped()).spawn().map_err(error)?;
        if let Some(mut input) = writer.stdin.take() {
            let broken =
                |reason: reqwest::Error| format!("Error downloading resource: {}", cause(&reason));
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if input.write_all(&chunk).await.is_err() {
                    break; // It has ended, and says why.
                }
            }
        }
        succeeded("dd", &writer.wait_with_output().await.map_err(error)?)
    }

    /// Brings what a server of FTP has, by the program whose library the original uses.
    ///
    /// # Errors
    /// What it said.
    pub(super) async fn download(self, url: &str, path: &Path) -> Result<(), String> {
        if url.contains(|sign: char| sign.is_control() || sign == '"') {
            return Err("Illegal characters in URI".to_owned());
        }
        // No settings of the user's; the URL, which may hold a password, not where others see it.
        let options = "-q --silent --show-error --globoff --location --proto =ftp,ftps --speed-limit 1 --write-out %{response_code} --config -";
        let mut arguments: Vec<String> = options.split(' ').map(str::to_owned).collect();
        let stall = self.shared.stall_timeout.as_secs().max(1).to_string();
        arguments.extend(["--speed-time".to_owned(), stall, "--output".to_owned()]);
        arguments.push(path.to_string_lossy().into_owned());
        let error = |error: std::io::Error| format!("'curl' can't be run: {error}");
        let mut program = self.command("curl", &arguments);
        let mut program = program.stdin(Stdio::piped()).spawn().map_err(error)?;
        if let Some(mut input) = program.stdin.take() {
            // Where it has ended already, it says why.
            let _ = input.write_all(format!("url = \"{url}\"\n").as_bytes()).await;
        }
        let output = program.wait_with_output().await.map_err(error)?;
        succeeded("curl", &output)
            .map_err(|reason| format!("Error downloading resource: {reason}"))?;
        let code = String::from_utf8_lossy(&output.stdout);
        if code.trim() == TRANSFERRED {
            Ok(())
        } else {
            Err(format!("Error downloading resource, received FTP return code {}", code.trim()))
        }
    }

    /// Hadoop's client, if it is there (`HDFS::create`).
    ///
    /// # Errors
    /// When it is not.
    pub(super) async fn hadoop(self) -> Result<String, String> {
        let given = self.shared.hadoop_home.clone();
        let home = given.or_else(|| std::env::var_os("HADOOP_HOME").map(PathBuf::from));
        let hadoop = home.map_or_else(
            || "hadoop".to_owned(),
            |home| home.join("bin/hadoop").to_string_lossy().into_owned(),
        );
        let is_there = self.run(&hadoop, ["version"], &[]).await;
        is_there.map(|()| hadoop).map_err(|reason| {
            format!(
                "Failed to create HDFS client: Hadoop client is not available ({reason}); it is looked for in --hadoop_home, $HADOOP_HOME and $PATH"
            )
        })
    }

    /// Brings what Hadoop's client knows.
    ///
    /// # Errors
    /// What it said.
    pub(super) async fn copy_from_hadoop(
        self,
        hadoop: &str,
        uri: &str,
        path: &Path,
    ) -> Result<(), String> {
        let copied = self.run(hadoop, ["fs", "-copyToLocal", uri], &[path]).await;
        copied.map_err(|reason| format!("HDFS copyToLocal failed: {reason}"))
    }

    /// How large it is, in bytes.
    ///
    /// # Errors
    /// What the client said, or that it is not known.
    pub(super) async fn size_in_hadoop(self, hadoop: &str, uri: &str) -> Result<u64, String> {
        let output = self.output(hadoop, ["fs", "-du", uri], &[]).await?;
        let unknown = |reason: String| format!("Hadoop client could not determine size: {reason}");
        succeeded(hadoop, &output).map_err(unknown)?;
        let text = String::from_utf8_lossy(&output.stdout);
        // Among warnings, its size, in newer ones the room that it takes, and its name (HADOOP-6857).
        let mut sizes = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields[..] {
                [size, name] | [size, _, name] if name == uri => size.parse().ok(),
                _ => None,
            }
        });
        sizes.next().ok_or_else(|| unknown(format!("Unexpected output format: '{text}'")))
    }
}
