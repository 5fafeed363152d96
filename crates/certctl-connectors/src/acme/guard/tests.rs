use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use certctl_domain::network::Network;
use proptest::prelude::*;

use super::{Class, Guard, class};

/// The rows of the contract, spelled as there, so that the code's own table does not test itself.
const ALWAYS: [&str; 20] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "100.64.0.0/10",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "192.88.99.0/24",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
    "2001:db8::/32",
    "3fff::/20",
    "64:ff9b:1::/48",
    "2001::/32",
];

const WHEN_FORBIDDEN: [&str; 6] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "fc00::/7",
    "fec0::/10",
];

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn holds(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn strict() -> Guard {
    Guard {
        allowed: Vec::new(),
        block_private: true,
    }
}

/// The IPv6 forms of an IPv4 address.
fn disguises(v4: Ipv4Addr) -> [Ipv6Addr; 6] {
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        v4.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2002, high, low, 0xffff, 0x1234, 0, 0xab, 0xcd),
    ]
}

#[test]
fn every_row_is_refused_at_both_its_ends() {
    for (first, last) in [
        ("0.0.0.0", "0.255.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("240.0.0.0", "255.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("::", "::1"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("169.254.169.254", "169.254.169.254"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    ] {
        for text in [first, last] {
            assert_eq!(class(text.parse().unwrap()), Class::Reserved, "{text}");
        }
    }
    for text in [
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "fc00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert_eq!(class(text.parse().unwrap()), Class::Private, "{text}");
    }
}

#[test]
fn what_lies_beside_a_row_is_public() {
    for text in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2606:4700::1111",
        "2a00:1450::1",
        "3fff:1000::1",
    ] {
        assert_eq!(class(text.parse().unwrap()), Class::Public, "{text}");
    }
}

#[test]
fn a_disguise_hides_nothing() {
    for (text, expected) in [
        ("127.0.0.1", Class::Reserved),
        ("169.254.169.254", Class::Reserved),
        ("10.1.2.3", Class::Private),
        ("8.8.8.8", Class::Public),
    ] {
        for v6 in disguises(text.parse().unwrap()) {
            assert_eq!(class(v6.into()), expected, "{v6}");
        }
    }
}

#[test]
fn what_is_allowed_is_admitted_whatever_it_is_and_nothing_else() {
    let guard = Guard {
        allowed: networks(&["127.0.0.0/8", "::1/128"]),
        block_private: true,
    };
    for (text, expected) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("127.255.0.1", true),
        ("10.0.0.1", false),
        ("169.254.169.254", false),
        ("2002:7f00:1::", false),
        ("8.8.8.8", true),
    ] {
        assert_eq!(guard.admits(text.parse().unwrap()), expected, "{text}");
    }
}

#[test]
fn private_networks_are_the_operators_choice() {
    let lenient = Guard::default();
    for text in ["10.0.0.1", "172.20.0.1", "192.168.1.1", "fd00::1"] {
        let address = text.parse().unwrap();
        assert!(lenient.admits(address), "{text}");
        assert!(!strict().admits(address), "{text}");
    }
    assert!(!lenient.admits("127.0.0.1".parse().unwrap()));
}

proptest! {
    #[test]
    fn an_ipv4_address_is_reserved_exactly_when_the_contract_says_so(bits: u32) {
        let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
        let expected = if holds(&networks(&ALWAYS), address) {
            Class::Reserved
        } else if holds(&networks(&WHEN_FORBIDDEN), address) {
            Class::Private
        } else {
            Class::Public
        };
        prop_assert_eq!(class(address), expected);
    }

    #[test]
    fn every_disguise_of_an_ipv4_address_is_of_its_class(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        for v6 in disguises(v4) {
            prop_assert_eq!(class(v6.into()), class(v4.into()), "{}", v6);
        }
    }

    #[test]
    fn no_listed_ipv6_network_has_a_way_in(host: u128, row in 0_usize..ALWAYS.len() + WHEN_FORBIDDEN.len()) {
        let text = ALWAYS.iter().chain(&WHEN_FORBIDDEN).nth(row).unwrap();
        let (start, prefix) = text.split_once('/').unwrap();
        let prefix: u32 = prefix.parse().unwrap();
        if let Ok(start) = start.parse::<Ipv6Addr>() {
            let mask = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let address = Ipv6Addr::from_bits(start.to_bits() | (host & mask));
            prop_assert!(!strict().admits(address.into()), "{}", address);
        }
    }

    #[test]
    fn outside_of_global_unicast_only_disguises_are_public(bits: u128) {
        let address = Ipv6Addr::from_bits(bits);
        if class(address.into()) == Class::Public && address.segments()[0] >> 13 != 1 {
            prop_assert!(super::embedded(address).is_some());
        }
    }

    #[test]
    fn admission_never_depends_on_how_a_mapped_address_is_written(bits: u32, block_private: bool) {
        let v4 = Ipv4Addr::from_bits(bits);
        let guard = Guard { allowed: networks(&["127.0.0.0/8"]), block_private };
        prop_assert_eq!(guard.admits(v4.into()), guard.admits(v4.to_ipv6_mapped().into()));
    }
}
