//! Ports for brokers that die and come back: clients wait for them at the same address.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Above the ports that need privileges, and most that services have for themselves.
const FIRST: u32 = 10_000;
/// Spreads neighbouring numbers: 2^32 over the golden ratio.
const SPREAD: u32 = 0x9e37_79b9;

/// A free port on this machine that the kernel gives to nobody by itself; 0, which stands for any
/// free one, if there is none. A port that it gives out may belong to any client's connection by
/// the time that the broker comes back, even to one of those that try to reach it.
pub fn lasting() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let end = first_of_the_kernels().unwrap_or(FIRST);
    let span = end.saturating_sub(FIRST);
    // Other processes look for one at this moment as well, and shall begin elsewhere.
    let asked = std::process::id().wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed) << 16);
    let begin = asked.wrapping_mul(SPREAD).checked_rem(span).unwrap_or(0);
    let ports = (0..span).map(|step| FIRST + (begin + step) % span);
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .unwrap_or(0)
}

/// From here on the kernel gives ports out.
fn first_of_the_kernels() -> Option<u32> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_free_and_none_that_the_kernel_gives_out() {
        let kernels = first_of_the_kernels().expect("Linux tells");
        let ports = [lasting(), lasting(), lasting()];
        assert!(ports[0] != ports[1] && ports[1] != ports[2], "{ports:?}");
        for port in ports {
            assert!((FIRST..kernels).contains(&u32::from(port)), "{port}");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        }
    }
}
