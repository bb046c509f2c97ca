//! SASL with DIGEST-MD5 (RFC 2831, quality `auth`), as Java's `com.sun.security.sasl.digest` speaks it: for clients,
//! and between members. Users and passwords are in a file of JAAS.

pub mod digest_md5;
pub mod jaas;

/// What both ends of a mechanism's exchange agree on beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The protocol, the first part of the digest's URI.
    pub protocol: &'static str,
    /// The server's name, which is the realm as well.
    pub server: &'static str,
}

/// Clients (`ZooKeeperSaslServer`).
pub const CLIENTS: Service = Service { protocol: "zookeeper", server: "zk-sasl-md5" };
/// Members (`QuorumAuth`).
pub const MEMBERS: Service = Service { protocol: "zookeeper-quorum", server: "zk-quorum-sasl-md5" };

/// Why one has not proven who it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// What came is not what the mechanism has at this point.
    #[error("DIGEST-MD5: {0}")]
    Malformed(String),
    /// There is no such user. The other end is not told that.
    #[error("DIGEST-MD5: there is no user {0:?}")]
    UnknownUser(String),
    /// The password is another one.
    #[error("DIGEST-MD5: the password of {0:?} is wrong")]
    WrongPassword(String),
    /// A user wants to act as another one.
    #[error("DIGEST-MD5: {user:?} is not authorized to act as {wanted:?}")]
    NotAuthorized {
        /// Who it is.
        user: String,
        /// Who it wants to be.
        wanted: String,
    },
}
