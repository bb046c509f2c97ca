//! A connection, plain or under TLS, with what was read ahead of its reader put back in front.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};
use tokio_rustls::TlsStream;

/// A connection that is open, its handshake done.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: Transport,
    ahead: Bytes,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The side that is read.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    source: Source,
    ahead: Bytes,
}

/// Plain ones have halves that share no lock.
#[derive(Debug)]
enum Source {
    Plain(tcp::OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
}

/// The side that is written.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    /// Without TLS.
    Plain(tcp::OwnedWriteHalf),
    /// Under TLS.
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { transport: Transport::Plain(stream), ahead: Bytes::new() }
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)), ahead: Bytes::new() }
    }
}

impl Stream {
    /// Puts bytes back: they are what is read next. What was put back before comes after them.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead = [bytes, &self.ahead].concat().into();
    }

    /// The two sides, for two tasks.
    pub(crate) fn split(self) -> (ReadHalf, WriteHalf) {
        let (source, write) = match self.transport {
            Transport::Plain(stream) => {
                let (read, write) = stream.into_split();
                (Source::Plain(read), WriteHalf::Plain(write))
            }
            Transport::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (Source::Tls(read), WriteHalf::Tls(write))
            }
        };
        (ReadHalf { source, ahead: self.ahead }, write)
    }
}

/// Fills from what was read ahead; false if there is nothing.
fn fill(ahead: &mut Bytes, buffer: &mut ReadBuf<'_>) -> bool {
    let length = ahead.len().min(buffer.remaining());
    buffer.put_slice(&ahead[..length]);
    ahead.advance(length);
    length > 0
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if fill(&mut this.ahead, buffer) {
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if fill(&mut this.ahead, buffer) {
            return Poll::Ready(Ok(()));
        }
        match &mut this.source {
            Source::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Source::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

/// Passes each call to the variant's own stream.
macro_rules! write_by_variant {
    ($type:ty, $variants:ident, $this:ident => $field:expr) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                match $field {
                    $variants::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
                    $variants::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                match $field {
                    $variants::Plain(stream) => {
                        Pin::new(stream).poll_write_vectored(context, slices)
                    }
                    $variants::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                // Both kinds of streams take several slices in one call.
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                match $field {
                    $variants::Plain(stream) => Pin::new(stream).poll_flush(context),
                    $variants::Tls(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                match $field {
                    $variants::Plain(stream) => Pin::new(stream).poll_shutdown(context),
                    $variants::Tls(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }
        }
    };
}

write_by_variant!(Stream, Transport, this => &mut this.transport);
write_by_variant!(WriteHalf, WriteHalf, this => this);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_put_back_is_read_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        dialled.write_all(b"cdef").await.unwrap();
        let mut stream = Stream::from(listener.accept().await.unwrap().0);
        let mut first = [0; 2];
        stream.read_exact(&mut first).await.unwrap();
        stream.put_back(&first);
        stream.put_back(b"ab");
        let mut one = [0; 1];
        stream.read_exact(&mut one).await.unwrap();
        assert_eq!(&one, b"a");
        let (mut read, _write) = stream.split();
        let mut rest = [0; 5];
        read.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"bcdef");
    }
}
