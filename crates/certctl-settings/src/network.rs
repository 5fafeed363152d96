//! Addresses: networks in CIDR notation, and what a listener may bind.

use std::{fmt, net::IpAddr};

use crate::form::{Fault, Form, is_host_name, split_list};

/// An IP network: an address and the length of its prefix in bits (RFC 4632 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8`, or a single address, which is a network of itself alone.
    ///
    /// Bits after the prefix are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= longest)?
            }
            Some(_) => return None,
            None => longest,
        };
        Some(Self { address, prefix })
    }

    /// Whether an address lies in the network. An IPv4 peer of a dual-stack socket, which shows as `::ffff:a.b.c.d`
    /// (RFC 4291 §2.5.5.2), is compared as the IPv4 address it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            // Both sides IPv6; a mapped network is met by the address as it came.
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= u32::from(self.prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A comma separated list of networks.
#[derive(Debug)]
pub(crate) struct Networks;

impl Form for Networks {
    type Value = Vec<Network>;

    fn expected(&self) -> String {
        "a comma separated list of networks (10.0.0.0/8, fd00::/8)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<Network>, Fault> {
        split_list(text)
            .enumerate()
            .map(|(index, item)| {
                Network::parse(item).ok_or(Fault::Entry {
                    position: index + 1,
                    why: "is not an address with a prefix length",
                })
            })
            .collect()
    }
}

/// What a listener binds: an address, or a name that the system resolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindHost(String);

impl BindHost {
    /// The text to resolve: `0.0.0.0`, `::1`, `localhost`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only this host can reach it. A name other than `localhost` may resolve to anything, so it counts as open.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.0.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// The form of a [`BindHost`].
#[derive(Debug)]
pub(crate) struct BindHostForm;

impl Form for BindHostForm {
    type Value = BindHost;

    fn expected(&self) -> String {
        "an IP address or a host name, without a port".to_owned()
    }

    fn parse(&self, text: &str) -> Result<BindHost, Fault> {
        let text = text.trim();
        let bare = text
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(text);
        let is_address = bare.parse::<IpAddr>().is_ok();
        // `300.0.0.1` has the shape of a host name but can only be a mistyped address.
        let is_name = is_host_name(bare) && bare.bytes().any(|b| b.is_ascii_alphabetic());
        if is_address || is_name {
            Ok(BindHost(bare.to_owned()))
        } else {
            Err(Fault::not(self))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{BindHostForm, Network, Networks};
    use crate::form::Form;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_what_lies_in_them() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(contains("10.1.2.3/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(!contains("10.0.0.0/8", "fd00::1"));
        assert!(contains("fd00::/8", "fdff::1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "host",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        assert_eq!(
            Networks.parse("10.0.0.0/8, host").unwrap_err().to_string(),
            "has a wrong entry 2: is not an address with a prefix length"
        );
    }

    #[test]
    fn loopback_is_known() {
        for (text, loopback) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("localhost", true),
            ("0.0.0.0", false),
            ("::", false),
            ("db.example", false),
        ] {
            assert_eq!(
                BindHostForm.parse(text).unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
        for text in ["", "127.0.0.1:8443", "300.0.0.1", "a b", "https://a"] {
            assert!(BindHostForm.parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_contains_its_own_address(bits: u32, prefix in 0u8..=32) {
            let address = IpAddr::V4(bits.into());
            let network = Network::parse(&format!("{address}/{prefix}")).unwrap();
            prop_assert!(network.contains(address));
        }

        #[test]
        fn a_network_is_read_back_as_shown(bits: u128, prefix in 0u8..=128) {
            let network = Network::parse(&format!("{}/{prefix}", IpAddr::V6(bits.into()))).unwrap();
            prop_assert_eq!(Network::parse(&network.to_string()), Some(network));
        }
    }
}
