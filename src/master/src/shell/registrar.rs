//! Where the registry is kept: in memory, on one disk, or agreed on between masters.

use std::path::PathBuf;
use std::time::Duration;

use mesos::internal::Registry;
use mesos::internal::state::{self, Operation, operation};
use prost::Message as _;
use replicated_log::{Log, ReplicatedLog};

/// The registry's keeper.
#[derive(Debug)]
pub enum Registrar {
    /// Forgotten with the process.
    Memory,
    /// On this master's disk alone.
    Disk {
        /// Where.
        directory: PathBuf,
        /// The log, once it was read.
        log: Option<Log>,
    },
    /// In the masters' replicated log.
    Replicated {
        /// The log.
        log: ReplicatedLog,
        /// How long reading may take.
        fetch_timeout: Duration,
        /// How long writing may take.
        store_timeout: Duration,
    },
}

/// How reading goes.
pub(super) enum Recovery {
    /// It is done.
    Done(Result<Box<Registry>, String>),
    /// Others must be asked.
    Asking(AskOthers),
}

/// The reading of a replicated log.
pub(super) struct AskOthers {
    log: ReplicatedLog,
    timeout: Duration,
}

impl Registrar {
    /// Reads the newest registry, or begins to.
    pub(super) fn recover(&mut self) -> Recovery {
        match self {
            Self::Memory => Recovery::Done(Ok(Box::default())),
            Self::Disk { directory, log } => {
                let opened = match Log::open(directory) {
                    Ok(opened) => opened,
                    Err(error) => return Recovery::Done(Err(error.to_string())),
                };
                if opened.cut_bytes > 0 {
                    tracing::warn!(
                        bytes = opened.cut_bytes,
                        "an unfinished write at the end of the registry log was cut"
                    );
                }
                *log = Some(opened.log);
                Recovery::Done(decode(opened.last.as_deref()))
            }
            Self::Replicated { log, fetch_timeout, .. } => {
                Recovery::Asking(AskOthers { log: log.clone(), timeout: *fetch_timeout })
            }
        }
    }

    /// Writes the registry; when this returns, it is safe.
    pub(super) async fn store(&mut self, registry: Vec<u8>) -> Result<(), String> {
        match self {
            Self::Memory | Self::Disk { log: None, .. } => Ok(()),
            // A registry change is rare and everybody behind it must wait for it anyway.
            Self::Disk { log: Some(log), .. } => {
                tokio::task::block_in_place(|| log.append(&encode(registry)))
                    .map_err(|error| error.to_string())
            }
            Self::Replicated { log, store_timeout, .. } => {
                tokio::time::timeout(*store_timeout, log.append(encode(registry)))
                    .await
                    .map_err(|_| late("stored", "registry_store_timeout", *store_timeout))?
            }
        }
    }
}

impl AskOthers {
    /// Becomes the log's coordinator and reads the newest registry. It is written back at once: only a quorum's
    /// acceptance shows that no other master writes meanwhile.
    pub(super) async fn read(self) -> Result<Box<Registry>, String> {
        let read = async {
            let registry = decode(self.log.elect().await?.as_deref())?;
            self.log.append(encode(registry.encode_to_vec())).await?;
            Ok(registry)
        };
        tokio::time::timeout(self.timeout, read)
            .await
            .map_err(|_| late("fetched", "registry_fetch_timeout", self.timeout))?
    }
}

fn late(done: &str, flag: &str, timeout: Duration) -> String {
    format!(
        "the registry could not be {done} within {timeout:?} (--{flag}): too few replicas of the log answer; the log says above how many do, and which are known"
    )
}

fn encode(value: Vec<u8>) -> Vec<u8> {
    let entry = state::Entry {
        name: "registry".to_owned(),
        uuid: uuid::Uuid::new_v4().as_bytes().to_vec(),
        value,
    };
    let operation = Operation {
        r#type: operation::Type::Snapshot as i32,
        snapshot: Some(operation::Snapshot { entry }),
        ..Default::default()
    };
    operation.encode_to_vec()
}

fn decode(last: Option<&[u8]>) -> Result<Box<Registry>, String> {
    let Some(last) = last else { return Ok(Box::default()) };
    let operation = Operation::decode(last)
        .map_err(|error| format!("the registry log's last entry: {error}"))?;
    let value = operation.snapshot.map(|snapshot| snapshot.entry.value).unwrap_or_default();
    let registry = Registry::decode(value.as_slice());
    registry.map(Box::new).map_err(|error| format!("the registry: {error}"))
}
