//! Accepting connections and serving a router on them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use bytes::{Buf as _, BytesMut};
use futures::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections served at once; more wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take to send its headers.
    pub header_timeout: Duration,
    /// How long requests may go on after shutdown began; streams are cut then.
    pub grace: Duration,
    /// TLS, where it is spoken on the port.
    pub tls: Option<tls::Tls>,
    /// Who sees connections before HTTP is spoken on them.
    pub first: Option<First>,
}

/// What a connection was found to be: `None` if it is over, or else the stream and what was read of it and not used.
pub type Found<S> = io::Result<Option<(S, BytesMut)>>;

/// Serves what a daemon's peers say on connections of their own, without the machinery of HTTP, as long as they say
/// nothing else.
#[derive(Clone)]
pub struct First(Arc<dyn Fn(tls::Stream) -> BoxFuture<'static, Found<tls::Stream>> + Send + Sync>);

impl First {
    /// One that calls `serve` with each new connection.
    pub fn new<F>(serve: impl Fn(tls::Stream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Found<tls::Stream>> + Send + 'static,
    {
        Self(Arc::new(move |stream| Box::pin(serve(stream))))
    }
}

impl fmt::Debug for First {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("First")
    }
}

/// A stream of which some bytes were read before.
struct Rewound<S> {
    read: BytesMut,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..count]);
        self.read.advance(count);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            header_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            tls: None,
            first: None,
        }
    }
}

/// What requests carry that come under TLS.
#[derive(Debug, Clone, Copy)]
pub struct Secure;

/// Serves `router` until `shutdown` is cancelled. Every request carries [`ConnectInfo<SocketAddr>`] of its client, and
/// [`Secure`] if it comes under TLS.
///
/// # Errors
/// When the listener fails for good; a single connection's errors are logged.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let (accepted, slot) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (listener.accept().await, slot)
            } => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the client went away while it was accepted: the next may succeed.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Small answers must not wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            // Neither half-closed connections nor flushing of pipelines: with the first, the end of a client that reads
            // a stream goes unseen; with the second, what a client does not read is buffered without a limit.
            .title_case_headers(true);
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        let (tls, first) = (options.tls.clone(), options.first.clone());
        connections.spawn(async move {
            let _slot = slot;
            let opened = async {
                match tls {
                    None => Ok(stream.into()),
                    Some(tls) => tls.accept(stream).await,
                }
            };
            let stream: tls::Stream = match shutdown.run_until_cancelled(opened).await {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    return tracing::warn!(%peer, "a connection is refused: {error}");
                }
                None => return,
            };
            let found = match first {
                None => Ok(Some((stream, BytesMut::new()))),
                Some(first) => tokio::select! {
                    found = first.0(stream) => found,
                    () = shutdown.cancelled() => Ok(None),
                },
            };
            let (stream, read) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%peer, %error, "connection ended"),
            };
            let is_secure = matches!(stream, tls::Stream::Tls(_));
            let service =
                tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                    if is_secure {
                        request.extensions_mut().insert(Secure);
                    }
                    router.clone().call(request)
                });
            let stream = TokioIo::new(Rewound { read, stream });
            let mut connection =
                std::pin::pin!(http.serve_connection(stream, TowerToHyperService::new(service)));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = cut.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
    connections.close();
    if tokio::time::timeout(options.grace, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;

    #[tokio::test]
    async fn requests_are_served_and_streams_are_cut_on_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stream = || async {
            Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, io::Error>>())
        };
        let router =
            Router::new()
                .route(
                    "/who",
                    get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                        peer.ip().to_string()
                    }),
                )
                .route("/stream", get(stream));
        let shutdown = CancellationToken::new();
        let options = Options { grace: Duration::from_millis(50), ..Options::default() };
        let server = tokio::spawn(serve(listener, router, options, shutdown.clone()));
        let client = tls::client::builder(None).build().unwrap();
        let who = client.get(format!("{url}/who")).send().await.unwrap();
        assert_eq!(who.text().await.unwrap(), "127.0.0.1");
        let open = client.get(format!("{url}/stream")).send().await.unwrap();
        shutdown.cancel();
        server.await.unwrap().unwrap();
        assert!(open.bytes().await.is_err(), "the stream was cut");
    }
}
