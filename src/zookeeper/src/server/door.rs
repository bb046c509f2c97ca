//! How connections of clients begin on a port: plain, under TLS, or either.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::peer::Peer;
use crate::auth::Auth;
use crate::stream::Stream;
use crate::tls::{self, Tls};

/// A client has this long to send its first byte where that decides what it speaks.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// What a port takes.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// Connections without TLS.
    Plain,
    /// Connections under TLS.
    Tls(Arc<Tls>),
    /// Both: the first byte tells (`client.portUnification`).
    Either(Arc<Tls>),
}

impl Door {
    /// Opens a connection, and adds what its handshake proves to what is known of the client.
    ///
    /// # Errors
    /// When the client is not accepted.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        peer: &mut Peer,
        auth: &Auth,
    ) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let tls = match self {
            Self::Plain => return Ok(stream.into()),
            Self::Tls(tls) => tls,
            Self::Either(tls) => {
                let mut first = [0];
                let peeked = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)).await??;
                if peeked == 0 || first[0] != tls::HANDSHAKE {
                    return Ok(stream.into());
                }
                tls
            }
        };
        let stream = tls.accept(stream).await.inspect_err(|error| {
            tracing::warn!("a client at {} is refused: {error}", peer.name());
        })?;
        peer.is_secure = true;
        if let Some(subject) = tls::certificate(&stream).and_then(|one| tls::subject(one)) {
            peer.proven = auth.of_subject(&subject);
        }
        Ok(stream.into())
    }
}
