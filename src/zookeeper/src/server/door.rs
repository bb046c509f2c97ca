//! How connections of clients and administrators begin on a port: plain, under TLS, or either.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::peer::Peer;
use crate::auth::Auth;
use crate::stream::Stream;
use crate::tls::{self, Tls};

/// A client has this long to send its first byte where that decides what it speaks.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// What a port takes.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Connections without TLS.
    Plain,
    /// Connections under TLS.
    Tls(Arc<Tls>),
    /// Both: the first byte tells (`client.portUnification`, `admin.portUnification`).
    Either(Arc<Tls>),
}

/// A connection that is open.
pub(crate) enum Opened {
    /// Without TLS.
    Plain(TcpStream),
    /// Its handshake is done.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Door {
    /// Opens a connection.
    ///
    /// # Errors
    /// When there is no handshake, or none that is accepted.
    pub(crate) async fn shake_hands(&self, stream: TcpStream) -> io::Result<Opened> {
        let tls = match self {
            Self::Plain => return Ok(Opened::Plain(stream)),
            Self::Tls(tls) => tls,
            Self::Either(tls) => {
                let mut first = [0];
                let peeked = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)).await??;
                if peeked == 0 || first[0] != tls::HANDSHAKE {
                    return Ok(Opened::Plain(stream));
                }
                tls
            }
        };
        tls.accept(stream).await.map(|stream| Opened::Tls(Box::new(stream)))
    }

    /// Opens a client's connection, and adds what its handshake proves to what is known of the client.
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
        let opened = self.shake_hands(stream).await.inspect_err(|error| {
            if error.kind() != io::ErrorKind::TimedOut {
                tracing::warn!("a client at {} is refused: {error}", peer.name());
            }
        })?;
        let stream = match opened {
            Opened::Plain(stream) => return Ok(stream.into()),
            Opened::Tls(stream) => *stream,
        };
        peer.is_secure = true;
        if let Some(subject) = tls::certificate(&stream).and_then(|one| tls::subject(one)) {
            peer.proven = auth.of_subject(&subject);
        }
        Ok(stream.into())
    }
}
