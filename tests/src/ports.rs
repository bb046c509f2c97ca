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

/// `count` different ports that were free a moment ago and that no outgoing connection takes: below those the kernel chooses.
/// For servers that end and come back.
///
/// # Panics
/// When loopback has no free port there.
#[must_use]
pub fn lasting(count: usize) -> Vec<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let first = range.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let end: u16 = first.unwrap_or(32768).clamp(20_000, 60_000);
    let mut held: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 0..10_000 {
        if held.len() == count {
            break;
        }
        let port = rand::random_range(10_000..end);
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    assert_eq!(held.len(), count, "free ports below {end}");
    held.iter()
        .map(|socket| socket.local_addr().expect("a bound socket has an address").port())
        .collect()
}
