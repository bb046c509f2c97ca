//! Why a command failed, in the original's words (`CliException`, `CliWrapperException`, `KeeperException`).

use serde_json::{Value, json};
use zookeeper_client::Error;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// It was not written as it must be: what to say.
    Malformed(String),
    /// There is no such command.
    NotFound(String),
    /// The server, or the session, refused it.
    Keeper {
        /// What the client library says.
        error: Error,
        /// The path that it was about; empty where there is none.
        path: String,
    },
}

/// Makes a [`Failure`] of the client library's error, at a path.
pub fn at(path: &str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Keeper { error, path: path.to_owned() }
}

/// `KeeperException.getCodeMessage`, and the code's number (`KeeperException.Code`).
fn code(error: &Error) -> (i32, String) {
    let (number, name) = match error {
        Error::RuntimeInconsistent => (-2, "RuntimeInconsistency"),
        Error::ConnectionLoss | Error::NoHosts | Error::Timeout => (-4, "ConnectionLoss"),
        Error::MarshallingError => (-5, "MarshallingError"),
        Error::Unimplemented => (-6, "Unimplemented"),
        Error::BadArguments(_) => (-8, "BadArguments"),
        Error::NoNode => (-101, "NoNode"),
        Error::NoAuth => (-102, "NoAuth"),
        Error::BadVersion => (-103, "BadVersion"),
        Error::NoChildrenForEphemerals => (-108, "NoChildrenForEphemerals"),
        Error::NodeExists => (-110, "NodeExists"),
        Error::NotEmpty => (-111, "Directory not empty"),
        Error::SessionExpired | Error::ClientClosed => (-112, "Session expired"),
        Error::InvalidAcl => (-114, "InvalidACL"),
        Error::AuthFailed => (-115, "AuthFailed"),
        Error::SessionMoved => (-118, "Session moved"),
        Error::NotReadOnly => (-119, "Not a read-only call"),
        Error::NoWatcher => (-121, "No such watcher"),
        Error::ReconfigDisabled => (-123, "Reconfig is disabled"),
        Error::QuotaExceeded => (-125, "Quota has exceeded"),
        Error::Throttled => (-127, "Op throttled due to high load"),
        Error::UnexpectedErrorCode(number) => {
            let name = match number {
                -1 => "SystemError",
                -3 => "DataInconsistency",
                -7 => "OperationTimeout",
                -13 => "NewConfigNoQuorum",
                -14 => "ReconfigInProgress",
                -100 => "APIError",
                -120 => "Ephemeral node on local session",
                other => return (*other, format!("Unknown error {other}")),
            };
            (*number, name)
        }
        other => return (-1, other.to_string()),
    };
    (number, name.to_owned())
}

/// `KeeperException.getMessage`.
pub fn keeper_message(error: &Error, path: &str) -> String {
    let (_, name) = code(error);
    if path.is_empty() {
        format!("KeeperErrorCode = {name}")
    } else {
        format!("KeeperErrorCode = {name} for {path}")
    }
}

impl Failure {
    /// What is said of it.
    pub fn message(&self) -> String {
        let (error, path) = match self {
            Self::Malformed(text) => return text.clone(),
            Self::NotFound(name) => return format!("Command not found: Command not found {name}"),
            Self::Keeper { error, path } => (error, path),
        };
        let prefix = match error {
            Error::NoNode => "Node does not exist: ",
            Error::NoChildrenForEphemerals => "Ephemerals cannot have children: ",
            Error::NodeExists => "Node already exists: ",
            Error::NotEmpty => "Node not empty: ",
            Error::NotReadOnly => "Not a read-only call: ",
            Error::InvalidAcl => "Acl is not valid : ",
            Error::NoAuth => "Insufficient permission : ",
            Error::BadArguments(_) => "Arguments are not valid : ",
            Error::BadVersion => "version No is not valid : ",
            Error::QuotaExceeded => "Quota has exceeded : ",
            Error::UnexpectedErrorCode(-14) => {
                return "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned();
            }
            Error::UnexpectedErrorCode(-13) => {
                return "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try invoking reconfiguration after new servers are connected and synced".to_owned();
            }
            _ => return keeper_message(error, path),
        };
        format!("{prefix}{path}")
    }

    /// What the program ends with when this was its last command.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::NotFound(_)) { 127 } else { 1 }
    }

    /// As `--json` prints it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Keeper { error, path } => {
                let (number, name) = code(error);
                json!({ "code": number, "name": name, "path": path, "message": self.message() })
            }
            _ => json!({ "message": self.message() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_the_originals_words() {
        for (error, path, message) in [
            (Error::NoNode, "/a", "Node does not exist: /a"),
            (Error::BadVersion, "/a", "version No is not valid : /a"),
            (Error::NoWatcher, "/a", "KeeperErrorCode = No such watcher for /a"),
            (Error::ReconfigDisabled, "", "KeeperErrorCode = Reconfig is disabled"),
            (Error::NoHosts, "/", "KeeperErrorCode = ConnectionLoss for /"),
            (Error::UnexpectedErrorCode(-7), "/", "KeeperErrorCode = OperationTimeout for /"),
            (Error::UnexpectedErrorCode(-9), "/", "KeeperErrorCode = Unknown error -9 for /"),
        ] {
            let failure = at(path)(error);
            assert_eq!((failure.message().as_str(), failure.exit_code()), (message, 1));
        }
        assert_eq!(Failure::NotFound("x".to_owned()).exit_code(), 127);
    }
}
