//! Tools for the files of a data directory: `zookeeper-server log …`, `… snapshot …` and `… purge …`.
//!
//! What is printed has the form of the original's tools (`TxnLogToolkit`, `SnapshotFormatter`,
//! `SnapshotRecursiveSummary`, `SnapshotComparer`, `PurgeTxnLog`), or is JSON. They work on files of a running server too; only
//! `purge` removes any.

mod log;
mod purge;
mod restore;
mod snapshot;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::disk::DiskError;
use crate::disk::compression::Compression;

/// Tools for the files of a ZooKeeper server's data directory.
#[derive(Debug, Parser)]
#[command(name = "zookeeper-server", version = crate::words::VERSION)]
pub struct Cli {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Transaction logs.
    #[command(subcommand)]
    Log(LogTool),
    /// Snapshots.
    #[command(subcommand)]
    Snapshot(SnapshotTool),
    /// Removes snapshots and logs that are not needed any more; the server may run.
    Purge {
        /// The data directory of the logs (dataLogDir, or dataDir), as zoo.cfg has it or with version-2.
        logs: PathBuf,
        /// That of the snapshots (dataDir), if it is another one.
        snapshots: Option<PathBuf>,
        /// Snapshots to keep, with the logs that they need to go on from.
        #[arg(long, short = 'n', value_name = "COUNT", value_parser = purge::retained, default_value = "3")]
        count: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum LogTool {
    /// Prints the transactions of log files.
    Print {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Reads log files, or a data directory's newest snapshot and all that follows it, and tells what is wrong with them.
    Verify {
        /// Files, or directories named version-2.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Writes a log file anew, whole or in part.
    Convert {
        /// The file.
        from: PathBuf,
        /// The file to make.
        to: PathBuf,
        /// Ends with this transaction.
        #[arg(long, value_name = "ZXID", value_parser = zxid)]
        until: Option<i64>,
        /// Takes transactions that can be read although their checksum is wrong.
        #[arg(long)]
        recover: bool,
    },
    /// Makes a data directory of what another one held at some transaction.
    Restore {
        /// The directory of snapshots, named version-2.
        from: PathBuf,
        /// The data directory to make; missing or empty.
        to: PathBuf,
        /// Ends with this transaction.
        #[arg(long, value_name = "ZXID", value_parser = zxid)]
        until: i64,
        /// The directory of logs, named version-2, if it is another one.
        #[arg(long, value_name = "DIRECTORY")]
        logs: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum SnapshotTool {
    /// Prints the znodes and sessions of a snapshot.
    Print {
        /// The file.
        file: PathBuf,
        /// With the znodes' data, as base64.
        #[arg(long, short = 'd', conflicts_with = "json")]
        data: bool,
        /// As JSON, in the form that ncdu reads.
        #[arg(long)]
        json: bool,
    },
    /// Prints how many znodes and bytes are below each znode that has children.
    Summary {
        /// The file.
        file: PathBuf,
        /// Where to begin.
        #[arg(default_value = "/")]
        znode: String,
        /// Levels to print below it; 0 for all.
        #[arg(default_value_t = 0)]
        depth: usize,
    },
    /// Prints what two snapshots have different.
    Compare {
        /// The one.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// Leaves out znodes that differ by no more bytes, themselves and what is below them.
        #[arg(long, short, default_value_t = 0)]
        bytes: u64,
        /// And by no more znodes below them.
        #[arg(long, short, default_value_t = 0)]
        nodes: u64,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Reads snapshots and tells what is wrong with them.
    Verify {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Packs a snapshot in another way.
    Convert {
        /// The file.
        from: PathBuf,
        /// The directory to make it in; its name follows from what it is.
        to: PathBuf,
        /// How to pack it.
        #[arg(long, value_enum, default_value_t = Packing::None)]
        packing: Packing,
    },
    /// Makes a data directory of a snapshot and what logs have behind it.
    Restore {
        /// The file.
        file: PathBuf,
        /// The data directory to make; missing or empty.
        to: PathBuf,
        /// The directory of logs, named version-2; without it, the snapshot alone.
        #[arg(long, value_name = "DIRECTORY")]
        logs: Option<PathBuf>,
        /// Ends with this transaction.
        #[arg(long, value_name = "ZXID", value_parser = zxid, requires = "logs")]
        until: Option<i64>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Packing {
    None,
    Gz,
    Snappy,
}

impl From<Packing> for Compression {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::None => Self::None,
            Packing::Gz => Self::Gzip,
            Packing::Snappy => Self::Snappy,
        }
    }
}

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The output.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
    /// What was asked for can't be done.
    #[error("{0}")]
    Refused(String),
    /// Something is wrong with what was verified; it has been told.
    #[error("{0} of what was verified can't be used")]
    Found(usize),
}

/// Whether a first argument names a tool, not a configuration file.
pub fn is_tool(argument: &std::ffi::OsStr) -> bool {
    ["log", "snapshot", "purge"].iter().any(|tool| argument == *tool)
}

/// A zxid as people write it: hexadecimal with `0x`, else decimal.
fn zxid(text: &str) -> Result<i64, String> {
    let number =
        text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| i64::from_str_radix(hex, 16));
    number.map_err(|_| "a zxid is a number, hexadecimal with 0x in front".to_owned())
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// When a file can't be read or made, or is not what it should be.
    pub fn run(self, out: &mut dyn Write) -> Result<(), ToolError> {
        match self.tool {
            Tool::Purge { logs, snapshots, count, json } => {
                purge::run(out, &logs, snapshots.as_ref().unwrap_or(&logs), count, json)
            }
            Tool::Log(tool) => match tool {
                LogTool::Print { files, json } => {
                    files.iter().try_for_each(|file| log::print(out, file, json))
                }
                LogTool::Verify { paths, json } => log::verify(out, &paths, json),
                LogTool::Convert { from, to, until, recover } => {
                    log::convert(out, &from, &to, until.unwrap_or(i64::MAX), recover)
                }
                LogTool::Restore { from, to, until, logs } => {
                    let logs = logs.as_ref().unwrap_or(&from);
                    restore::from_directory(out, &from, logs, until, &to)
                }
            },
            Tool::Snapshot(tool) => match tool {
                SnapshotTool::Print { file, data, json } => snapshot::print(out, &file, data, json),
                SnapshotTool::Summary { file, znode, depth } => {
                    snapshot::summary(out, &file, &znode, depth)
                }
                SnapshotTool::Compare { left, right, bytes, nodes, json } => snapshot::compare(
                    out,
                    &left,
                    &right,
                    snapshot::Threshold { bytes, nodes },
                    json,
                ),
                SnapshotTool::Verify { files, json } => snapshot::verify(out, &files, json),
                SnapshotTool::Convert { from, to, packing } => {
                    restore::convert(out, &from, &to, packing.into())
                }
                SnapshotTool::Restore { file, to, logs, until } => {
                    let until = until.unwrap_or(i64::MAX);
                    restore::from_snapshot(out, &file, logs.as_deref(), until, &to)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
