//! Free TCP ports on loopback.

use std::net::TcpListener;

/// `N` different ports that were free a moment ago, chosen by the kernel.
///
/// # Panics
/// When loopback has no free port.
#[must_use]
pub fn free<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port on loopback"));
    std::array::from_fn(|index| {
        held[index].local_addr().expect("a bound socket has an address").port()
    })
}
