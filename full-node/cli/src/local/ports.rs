//! Ports of a local network: chosen once, outside the range the kernel hands to outgoing
//! connections, so that a restart finds them free again.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rand::RngExt;

/// First port tried. Linux gives outgoing connections 32768..=60999 by default.
const FIRST: u16 = 20_000;
/// One past the last port tried.
const END: u16 = 32_000;
/// How many random ports to try per port wanted.
const TRIES: usize = 200;

/// Picks `count` distinct ports on which nothing listens, over TCP and UDP alike.
///
/// # Errors
/// When no free port is found.
pub(crate) fn pick(count: usize) -> Result<Vec<u16>> {
    let mut rng = nesa_platform::random::rng();
    let mut held = Vec::with_capacity(count);
    for _ in 0..TRIES * count.max(1) {
        if held.len() == count {
            break;
        }
        let port = rng.random_range(FIRST..END);
        let address = (Ipv4Addr::LOCALHOST, port);
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            held.push((port, tcp, udp));
        }
    }
    if held.len() < count {
        bail!("found only {} of {count} free ports between {FIRST} and {END}", held.len());
    }
    Ok(held.into_iter().map(|(port, ..)| port).collect())
}

/// True when nothing listens on `port` of `ip`.
pub(crate) fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_ok()
}

/// True as soon as nothing listens on `port` of `ip`; false when something still does at `deadline`.
pub(crate) fn is_free_by(deadline: Instant, ip: IpAddr, port: u16) -> bool {
    loop {
        if is_free(ip, port) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// True when `ip` is an address of this machine that clients can be told.
pub(crate) fn is_ours(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && is_free(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let ports = pick(24).expect("a test machine has free ports");
        let mut unique = ports.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 24);
        for no in ["0.0.0.0", "::", "224.0.0.1", "192.0.2.1"] {
            assert!(!is_ours(no.parse().expect("an address")), "{no}");
        }
        assert!(is_ours(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(ports.iter().all(|port| is_free(IpAddr::V4(Ipv4Addr::LOCALHOST), *port)));
    }

    #[test]
    fn a_port_is_waited_for_until_the_deadline_and_no_longer() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let holder = TcpListener::bind((ip, 0)).expect("a test machine has free ports");
        let port = holder.local_addr().expect("bound").port();
        assert!(!is_free_by(Instant::now() + Duration::from_millis(120), ip, port));
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(120));
            drop(holder);
        });
        assert!(is_free_by(Instant::now() + Duration::from_secs(60), ip, port));
        later.join().expect("the holder lets go");
    }
}
