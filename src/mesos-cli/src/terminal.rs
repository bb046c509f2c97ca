//! The terminal, when a command in a container has it.

use std::io::stdin;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use mesos::v1;
use nix::sys::termios::{self, SetArg, Termios};

/// A terminal that hands everything on as it is typed. It is put right when this is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When standard input is none.
    pub(crate) fn begin() -> Result<Self> {
        let input = stdin();
        let before = termios::tcgetattr(input.as_fd())
            .context("standard input is no terminal: leave --tty out")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell when this fails.
        let _ = termios::tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}

mod ioctl {
    #![expect(unsafe_code, reason = "asking the kernel for a terminal's size")]
    nix::ioctl_read_bad!(size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

    /// Rows and columns of the terminal at standard input.
    pub(crate) fn window() -> Option<(u16, u16)> {
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel writes one `winsize` to the address of one.
        unsafe { self::size(0, &raw mut size) }.ok()?;
        Some((size.ws_row, size.ws_col))
    }
}

/// The size of the terminal, as containers are told.
pub(crate) fn size() -> v1::TtyInfo {
    let window = ioctl::window().map(|(rows, columns)| v1::tty_info::WindowSize {
        rows: u32::from(rows),
        columns: u32::from(columns),
    });
    v1::TtyInfo { window_size: window }
}
