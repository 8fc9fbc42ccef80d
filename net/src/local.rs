//! Which addresses are this machine's own.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

/// Whether `ip` is an address of this machine: the kernel lets a socket be bound to it.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || (!ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
}

/// Whether every address that `host:port` stands for is a loopback address.
pub fn is_loopback(address: &str) -> bool {
    address.to_socket_addrs().is_ok_and(|mut found| found.all(|one| one.ip().is_loopback()))
}

/// Whether who listens on `host:port` can be reached from other machines. An address that stands for nothing is not:
/// nobody can listen on it.
pub fn is_open_to_others(address: &str) -> bool {
    address.to_socket_addrs().is_ok_and(|mut found| found.any(|one| !one.ip().is_loopback()))
}

/// The name of the Unix socket of server `id`, in the abstract namespace. The TCP port is part of it:
/// two clusters of one name in one network namespace cannot share a port, so they never meet here.
pub fn unix_name(cluster: &str, id: u32, address: &str) -> String {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    format!("mcomp.{cluster}.{id}.{port}")
}
