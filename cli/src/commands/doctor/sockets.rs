//! Who holds a port or a name: read from /proc, as `ss -lp` does.
//!
//! The sockets are those of this process's network namespace. The process behind a socket is told only when this
//! user may look at it.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The process that has `address`, or all addresses of its port.
pub(super) fn holder_of_tcp(address: SocketAddr) -> Option<Holder> {
    let sockets: Vec<Socket> = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(tcp_sockets).collect();
    let in_the_way = sockets.into_iter().filter(|socket| {
        let ip = socket.address.ip().to_canonical();
        socket.address.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    });
    let mut in_the_way: Vec<Socket> = in_the_way.collect();
    in_the_way.sort_by_key(|socket| !socket.listens);
    in_the_way.into_iter().find_map(|socket| holder_of(socket.inode))
}

/// The sockets of the abstract namespace: name and inode.
pub(super) fn abstract_names() -> HashMap<String, u64> {
    parse_unix(&fs::read_to_string("/proc/net/unix").unwrap_or_default())
}

/// The process that has a socket open; of several the oldest, which the others got it from.
pub(super) fn holder_of(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let has = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == wanted.as_str())
    };
    let pid = pids.into_iter().find(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, name: name.trim_end().to_owned() })
}

/// A line of /proc/net/tcp or tcp6.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    listens: bool,
    inode: u64,
}

fn tcp_sockets(file: &str) -> Vec<Socket> {
    fs::read_to_string(file).unwrap_or_default().lines().filter_map(parse_tcp).collect()
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`, all numbers hexadecimal but the inode.
fn parse_tcp(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let address = SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    // A connection that only waits for its end belongs to no process.
    let inode = fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?;
    Some(Socket { address, listens: *fields.get(3)? == "0A", inode })
}

/// An address as the kernel prints it: words of four bytes, each in the order of a little-endian machine.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_le_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// `Num: RefCount Protocol Flags Type St Inode Path`; a name of the abstract namespace begins with `@`.
fn parse_unix(text: &str) -> HashMap<String, u64> {
    let named = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let inode = fields.nth(6)?.parse().ok()?;
        Some((fields.next()?.strip_prefix('@')?.to_owned(), inode))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1CE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4332789 1 0 100";
        let socket = Socket { address: "127.0.0.1:7401".parse().unwrap(), listens: true, inode: 4_332_789 };
        assert_eq!(parse_tcp(line), Some(socket));
        assert_eq!(parse_ip("B80D01200000000067452301EFCDAB89"), Some("2001:db8::123:4567:89ab:cdef".parse().unwrap()));
        assert_eq!(
            parse_tcp("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"),
            None
        );
        assert_eq!(parse_tcp(&line.replace("4332789", "0")), None, "nobody's");
        let text = "Num RefCount Protocol Flags Type St Inode Path\nf0: 2 0 10000 1 01 77 @mcomp.demo.0.7401\nf1: 3 0 0 1 3 5\n";
        assert_eq!(parse_unix(text), HashMap::from([("mcomp.demo.0.7401".to_owned(), 77)]));
    }

    #[test]
    fn our_own_sockets_are_found() {
        let us = Holder { pid: std::process::id(), name: String::new() };
        for (bound, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1")] {
            let listener = TcpListener::bind(bound).unwrap();
            let address = SocketAddr::new(asked.parse().unwrap(), listener.local_addr().unwrap().port());
            assert_eq!(holder_of_tcp(address).map(|holder| holder.pid), Some(us.pid), "{bound}");
        }
        let name = format!("mcomp-doctor-test-{}", us.pid);
        let _listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(holder_of(abstract_names()[&name]).map(|holder| holder.pid), Some(us.pid));
    }
}
