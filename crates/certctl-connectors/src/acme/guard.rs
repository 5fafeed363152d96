//! Which addresses a validator may connect to.
//!
//! Whoever orders a certificate chooses the names, and so chooses whom this server connects to. Addresses that lead back into
//! the server, its link or what only its network can see are refused. The rules are pure, so that they can be tested over all
//! addresses: see [`class`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use certctl_domain::network::Network;

/// What an address is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anybody may have a host there.
    Public,
    /// A closed network's own (RFC 1918, RFC 4193, RFC 3879, RFC 2544); connected to unless the operator forbids it.
    Private,
    /// Never a host that somebody else could prove control of.
    Reserved,
}

/// Decides by [`class`], and by what the operator allowed or forbade.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Networks that are connected to whatever they are; for tests and closed networks.
    pub allowed: Vec<Network>,
    /// Whether [`Class::Private`] is refused, too.
    pub block_private: bool,
}

impl Guard {
    /// Whether an address may be connected to.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let by_class = match class(address) {
            Class::Public => true,
            Class::Private => !self.block_private,
            Class::Reserved => false,
        };
        by_class || self.allowed.iter().any(|network| network.contains(address))
    }
}

/// What an address is good for. An IPv6 address that stands for an IPv4 address is what that one is, since some router on the
/// way, or this kernel, sends the packets there.
#[must_use]
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => embedded(v6).map_or_else(|| class_v6(v6), class_v4),
    }
}

/// IPv4 networks that lead nowhere or back (RFC 6890 and its registry), as first address and prefix length.
const RESERVED_V4: [(Ipv4Addr, u32); 11] = [
    // "This network" (RFC 791 §3.2); Linux takes 0.0.0.0 for itself.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Between customers and their provider's address translation (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback (RFC 1122 §3.2.1.3).
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local (RFC 3927), where clouds serve the credentials of their machines.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // IETF protocol assignments (RFC 6890 §2.1).
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation (RFC 5737).
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast (RFC 5771).
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved for what never came (RFC 1112 §4), with the limited broadcast address at its end.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // The anycast address of relays from 6to4, deprecated (RFC 7526).
    (Ipv4Addr::new(192, 88, 99, 0), 24),
];

const PRIVATE_V4: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // For measuring devices against each other (RFC 2544); used as one more private network.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

fn class_v4(address: Ipv4Addr) -> Class {
    let within = |(network, prefix): &(Ipv4Addr, u32)| {
        (network.to_bits() ^ address.to_bits()).leading_zeros() >= *prefix
    };
    if RESERVED_V4.iter().any(within) {
        Class::Reserved
    } else if PRIVATE_V4.iter().any(within) {
        Class::Private
    } else {
        Class::Public
    }
}

/// All that is global is in 2000::/3 (RFC 4291 §2.4 and the registry of IANA), so what is outside needs no list: loopback,
/// link-local, multicast, local translation prefixes (RFC 8215), and whatever will be thought of.
fn class_v6(address: Ipv6Addr) -> Class {
    let within = |network: Ipv6Addr, prefix: u32| {
        (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
    };
    let documentation = within(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32)
        || within(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20);
    // 2001::/23 is for protocols and not for hosts (RFC 2928), among them Teredo, which has IPv4 addresses inside (RFC 4380).
    let protocols = within(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23);
    // Unique local (RFC 4193) and its predecessor, site-local (RFC 3879).
    let private = within(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)
        || within(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10);
    if private {
        Class::Private
    } else if documentation || protocols || !within(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3) {
        Class::Reserved
    } else {
        Class::Public
    }
}

/// The IPv4 address that an IPv6 address stands for. `::` and `::1` are taken for 0.0.0.0 and 0.0.0.1, reserved as well.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // Compatible (RFC 4291 §2.5.5.1), mapped (§2.5.5.2), translated (RFC 2765 §2.1), NAT64 (RFC 6052 §2.1).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4 (RFC 3056 §2).
        | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
