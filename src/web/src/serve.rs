//! Accepting connections and serving a router on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            header_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            tls: None,
        }
    }
}

/// Serves `router` until `shutdown` is cancelled. Every request carries [`ConnectInfo<SocketAddr>`] of its client.
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
        let service = router.clone();
        let service =
            tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                service.clone().call(request)
            });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            // Neither half-closed connections nor flushing of pipelines: with the first, the end of a client that reads
            // a stream goes unseen; with the second, what a client does not read is buffered without a limit.
            .title_case_headers(true);
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        let tls = options.tls.clone();
        connections.spawn(async move {
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
            let connection =
                http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let mut connection = std::pin::pin!(connection);
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
            drop(slot);
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
