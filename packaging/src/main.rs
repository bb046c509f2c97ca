//! `packaging`: what `make rpm` and `make repo` run.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use packaging::binaries::Binaries;
use packaging::builder::{Build, DEFAULT_SOURCE_DATE};
use packaging::{catalogue, check, repository};

/// Builds the RPMs and the yum repository.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Seconds since 1970 that every time in packages and metadata is set to.
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = DEFAULT_SOURCE_DATE, global = true)]
    source_date: u32,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds the packages.
    Rpm {
        /// Where the programs were built.
        #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/release")]
        binaries: PathBuf,
        /// Where the packages go; what else is there is removed when it is a package of ours.
        #[arg(long, default_value = "target/rpms")]
        out: PathBuf,
        /// Address of the repository that mesosphere-el-repo tells yum.
        #[arg(long, env = "MESO_REPO_BASEURL", default_value = catalogue::DEFAULT_BASE_URL)]
        baseurl: String,
        /// Only these packages, by name.
        #[arg(long, value_name = "PACKAGE")]
        only: Vec<String>,
    },
    /// Makes a yum repository of packages.
    Repo {
        /// Where the packages are.
        #[arg(long, default_value = "target/rpms")]
        rpms: PathBuf,
        /// Where the repository goes.
        #[arg(long, default_value = "target/repo")]
        out: PathBuf,
    },
    /// Says what CentOS 7 would not take of packages.
    Check {
        /// Where the packages are.
        #[arg(long, default_value = "target/rpms")]
        rpms: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "packaging: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.task {
        Task::Rpm { binaries, out, baseurl, only } => {
            let build =
                Build { binaries: Binaries::new(&binaries), source_date: arguments.source_date };
            for path in packaging::build_all(&build, &baseurl, &only, &out)? {
                say(&path.display().to_string())?;
            }
            Ok(())
        }
        Task::Repo { rpms, out } => {
            let count = repository::write(&rpms, &out, arguments.source_date)?;
            say(&format!("{}: {count} packages", out.display()))
        }
        Task::Check { rpms } => {
            let mut faulty = false;
            for path in repository::packages_in(&rpms)? {
                for fault in check::faults(&path)? {
                    faulty = true;
                    say(&format!("{}: {fault}", path.display()))?;
                }
            }
            if faulty {
                bail!("CentOS 7 would not take what is listed above");
            }
            say(&format!("{}: fit for CentOS 7", rpms.display()))
        }
    }
}
