//! Answers that are sent while they are put together, if they are long.

use std::io::{self, Write};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::CONTENT_ENCODING;
use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use web::respond;

use super::background;
use super::http::App;
use super::visible::Visible;
use crate::view::pieces::Pieces;
use crate::view::seen::Sight;
use crate::view::shown::{Shown, View};

/// What may be long is written in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow reader; who writes them waits as well.
const PIECES_MAX: usize = 8;

/// What is sent.
enum Piece {
    /// All of it.
    Whole(Bytes),
    /// Some of it.
    Part(Bytes),
}

/// Sends pieces to who waits for them; where there are several, compressed if there is an encoder.
struct Sender {
    pieces: mpsc::Sender<Piece>,
    encoder: Option<GzEncoder<Vec<u8>>>,
    has_sent: bool,
}

impl Sender {
    /// Sends a piece; whether more is wanted.
    fn part(&mut self, piece: Vec<u8>) -> bool {
        self.has_sent = true;
        let piece = match &mut self.encoder {
            Some(encoder) => match encoder.write_all(&piece) {
                Ok(()) => std::mem::take(encoder.get_mut()),
                Err(_) => return false,
            },
            None => piece,
        };
        self.pieces.blocking_send(Piece::Part(piece.into())).is_ok()
    }

    /// Sends what is left.
    fn last(mut self, piece: Vec<u8>) {
        let last = if self.has_sent {
            self.part(piece);
            let end = self.encoder.map(GzEncoder::finish);
            Piece::Part(end.and_then(Result::ok).unwrap_or_default().into())
        } else {
            Piece::Whole(piece.into())
        };
        // Who asked may be gone: then nothing more is wanted.
        let _ = self.pieces.blocking_send(last);
    }
}

/// Answers with what may be seen in a view of the state as it is now, as a call of `callback` if there is one.
pub(super) async fn answer(
    app: &App,
    visible: Visible,
    view: View,
    callback: Option<String>,
    gzip: bool,
) -> Response {
    let Some(scene) = app.handle.look(|master, _| master.scene()).await else {
        return app.not_recovered();
    };
    let kind = if callback.is_some() { "text/javascript" } else { "application/json" };
    let (pieces, mut written) = mpsc::channel(PIECES_MAX);
    background::spawn(move || {
        let encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let mut sender = Sender { pieces, encoder, has_sent: false };
        let mut writer = Pieces::new(PIECE, |piece| sender.part(piece));
        let sight = Sight { scene: &scene, seen: &visible };
        if write(&mut writer, &Shown { view: &view, sight }, callback).is_ok() {
            let last = writer.finish();
            sender.last(last);
        }
    });
    match written.recv().await {
        Some(Piece::Whole(all)) => respond::body(StatusCode::OK, kind, all),
        Some(Piece::Part(first)) => {
            let all = Body::from_stream(parts(first, written));
            let mut response = respond::body(StatusCode::OK, kind, all);
            if gzip {
                let encoding = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, encoding);
            }
            response
        }
        None => respond::text(StatusCode::INTERNAL_SERVER_ERROR, "the answer can't be written"),
    }
}

fn parts(
    first: Bytes,
    rest: mpsc::Receiver<Piece>,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let rest = ReceiverStream::new(rest).map(|piece| match piece {
        Piece::Whole(bytes) | Piece::Part(bytes) => bytes,
    });
    // What is being compressed may have given nothing yet; an empty piece would end the answer.
    tokio_stream::once(first).chain(rest).filter(|bytes| !bytes.is_empty()).map(Ok)
}

fn write(to: &mut impl Write, shown: &Shown<'_>, callback: Option<String>) -> io::Result<()> {
    if let Some(function) = &callback {
        write!(to, "{function}(")?;
    }
    serde_json::to_writer(&mut *to, shown)?;
    if callback.is_some() { to.write_all(b")") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// What comes of two pieces and a last one, or of the last one alone.
    fn sent(is_long: bool, gzip: bool) -> (bool, Vec<u8>) {
        let (pieces, mut written) = mpsc::channel(16);
        let encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let mut sender = Sender { pieces, encoder, has_sent: false };
        for piece in ["one, ", "two, "].into_iter().filter(|_| is_long) {
            assert!(sender.part(piece.into()));
        }
        sender.last("last".into());
        let (mut is_whole, mut all) = (false, Vec::new());
        while let Some(piece) = written.blocking_recv() {
            is_whole = matches!(piece, Piece::Whole(_));
            let (Piece::Whole(bytes) | Piece::Part(bytes)) = piece;
            all.extend_from_slice(&bytes);
        }
        (is_whole, all)
    }

    #[test]
    fn what_is_long_is_compressed_as_a_whole() {
        assert_eq!(sent(false, true), (true, b"last".to_vec()));
        assert_eq!(sent(true, false), (false, b"one, two, last".to_vec()));
        let (is_whole, packed) = sent(true, true);
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!((is_whole, text.as_str()), (false, "one, two, last"));
    }

    #[test]
    fn nothing_more_is_sent_to_who_is_gone() {
        let (pieces, written) = mpsc::channel(1);
        drop(written);
        assert!(!Sender { pieces, encoder: None, has_sent: false }.part(vec![1]));
    }
}
