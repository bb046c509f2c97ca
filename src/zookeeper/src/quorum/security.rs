//! How members of the ensemble reach each other: the way is opened before the first word of election or Zab.

use std::io;

use tokio::net::TcpStream;

use crate::stream::Stream;

/// What protects the connections between members.
#[derive(Debug, Clone, Default)]
pub struct Security {}

impl Security {
    /// Opens a connection to a member.
    ///
    /// # Errors
    /// When it is not reached or is not who it must be.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    /// Opens a connection that a member, it says, has dialled.
    ///
    /// # Errors
    /// When it is not who it must be.
    #[expect(clippy::unused_async, reason = "handshakes wait")]
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }
}
