//! A pseudo terminal: both ends, and the one that stays with the agent's process as input and output without threads. A
//! process whose children are in another process namespace can start none.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A pseudo terminal.
pub(super) struct Terminal {
    /// The end that stays here.
    pub(super) ours: OwnedFd,
    /// The end of the program.
    pub(super) theirs: OwnedFd,
}

impl Terminal {
    pub(super) fn open(rows: u16, columns: u16) -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let theirs = std::fs::File::options().read(true).write(true).open(path)?.into();
        resize(&ours, rows, columns)?;
        Ok(Self { ours, theirs })
    }
}

/// Tells the program that its terminal has another size.
pub(super) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The end that stays here, as a stream.
#[derive(Debug)]
pub(super) struct End(AsyncFd<OwnedFd>);

impl End {
    #[expect(unsafe_code, reason = "what is registered has no safe form")]
    pub(super) fn new(terminal: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&terminal, true)?;
        // SAFETY: an `OwnedFd` is open, and stays what it is, until it is dropped: by the `AsyncFd` that has it.
        let registered = unsafe { AsyncFd::register(terminal) };
        registered.map(Self).map_err(Into::into)
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            match ready.try_io(|own| Ok(rustix::io::read(own, free)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|own| Ok(rustix::io::write(own, data)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
