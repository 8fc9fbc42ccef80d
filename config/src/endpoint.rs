//! `host:port` of a server or a snapshot process: checked when the file is read, resolved only when
//! it is used, so that a name service that is down does not make the file wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::error::ConfigError;

/// The longest host name that DNS can carry.
const HOST_LEN_MAX: usize = 253;
/// The longest part of a host name between two dots.
const LABEL_LEN_MAX: usize = 63;

/// A host and a port that others can reach.
///
/// - The port is not zero, and an IP literal is neither unspecified nor multicast.
/// - The text has one form: host names in lower case, IP literals as `std` prints them and IPv4 in
///   IPv6 as IPv4. Equal text is the same endpoint; two names of one host are not seen through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    text: String,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Literal(SocketAddr),
    Name(String),
}

impl Endpoint {
    /// `host:port`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Never zero.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host was written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Literal(address) => Some(address.ip()),
            Host::Name(_) => None,
        }
    }

    /// The socket addresses to try, in order; at least one. Asks the resolver if the host is a name.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let name = match &self.host {
            Host::Literal(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let addresses: std::io::Result<Vec<SocketAddr>> =
            (name.as_str(), self.port).to_socket_addrs().map(Iterator::collect);
        let addresses = addresses.and_then(|addresses| match addresses.is_empty() {
            true => Err(std::io::Error::other("the name has no address")),
            false => Ok(addresses),
        });
        addresses.map_err(|source| ConfigError::Unresolved { endpoint: self.text.clone(), source })
    }

    fn of_literal(address: SocketAddr) -> Result<Self, EndpointError> {
        let ip = address.ip().to_canonical();
        let address = match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
            IpAddr::V6(_) => address, // keeps the scope of a link-local address
        };
        let text = address.to_string();
        match () {
            () if address.port() == 0 => Err(EndpointError::PortZero { text }),
            () if ip.is_unspecified() || ip.is_multicast() => Err(EndpointError::Unreachable { text }),
            () => Ok(Self { text, port: address.port(), host: Host::Literal(address) }),
        }
    }

    fn of_name(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed { text: text.into() };
        let (name, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        // `parse` alone would let a sign pass.
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = match digits {
            true => port.parse().map_err(|_| malformed())?,
            false => return Err(malformed()),
        };
        if port == 0 {
            return Err(EndpointError::PortZero { text: text.into() });
        }
        if !is_host_name(name) {
            return Err(malformed());
        }
        let name = name.to_ascii_lowercase();
        Ok(Self { text: format!("{name}:{port}"), host: Host::Name(name), port })
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.parse::<SocketAddr>() {
            Ok(address) => Self::of_literal(address),
            Err(_) => Self::of_name(text),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not an endpoint. The remedy is always to mend the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is not `host:port`.
    #[error("{text:?} is not host:port: write it like 10.0.0.7:7401, [fd00::7]:7401 or node7:7401")]
    Malformed {
        /// As typed.
        text: String,
    },
    /// Port 0 means "any port", which nobody else could find.
    #[error("{text:?} has port 0: write a port from 1 to 65535")]
    PortZero {
        /// As typed.
        text: String,
    },
    /// `0.0.0.0`, `[::]` and multicast groups name no machine.
    #[error("{text:?} is not the address of one machine: write one that the other machines can reach")]
    Unreachable {
        /// As typed.
        text: String,
    },
}

/// Letters, digits, `-` and `_` in parts between dots. A last part of digits alone is refused: it is
/// an IP literal that did not parse, not a name.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_LEN_MAX && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_have_one_form() {
        for (typed, text) in [
            ("127.0.0.1:7401", "127.0.0.1:7401"),
            ("[::1]:7401", "[::1]:7401"),
            ("[0:0::1]:7401", "[::1]:7401"),
            ("[::ffff:127.0.0.1]:7401", "127.0.0.1:7401"),
            ("Node-7.Example:1", "node-7.example:1"),
            ("mem_0:65535", "mem_0:65535"),
        ] {
            assert_eq!(typed.parse::<Endpoint>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_nobody_can_reach_is_refused() {
        for (text, part) in [
            ("", "is not host:port"),
            ("127.0.0.1", "is not host:port"),
            (":7401", "is not host:port"),
            ("node:", "is not host:port"),
            ("node:+1", "is not host:port"),
            ("node:65536", "is not host:port"),
            ("::1:7401", "is not host:port"),
            ("300.1.1.1:7401", "is not host:port"),
            ("-node:7401", "is not host:port"),
            ("a..b:7401", "is not host:port"),
            ("a b:7401", "is not host:port"),
            ("127.0.0.1:0", "has port 0"),
            ("node:0", "has port 0"),
            ("0.0.0.0:7401", "is not the address of one machine"),
            ("[::]:7401", "is not the address of one machine"),
            ("224.0.0.1:7401", "is not the address of one machine"),
        ] {
            let message = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_literal_resolves_to_itself() {
        let endpoint: Endpoint = "[::1]:7401".parse().unwrap();
        assert_eq!(endpoint.resolve().unwrap(), ["[::1]:7401".parse().unwrap()]);
    }

    #[test]
    fn a_name_without_address_is_blamed() {
        // RFC 6761 keeps `.invalid` free of names for ever.
        let endpoint: Endpoint = "node.invalid:7401".parse().unwrap();
        assert_eq!(endpoint.ip(), None);
        let message = endpoint.resolve().unwrap_err().to_string();
        assert!(message.contains("node.invalid:7401"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_parses_again(text in "\\PC*", near in "[a-z0-9.:\\[\\]-]{0,24}:[0-9]{0,6}") {
            for text in [text, near] {
                if let Ok(endpoint) = text.parse::<Endpoint>() {
                    prop_assert_eq!(endpoint.as_str().parse::<Endpoint>().unwrap(), endpoint);
                }
            }
        }
    }
}
