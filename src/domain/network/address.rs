//! Addresses that no host name may lead to: those of this machine, of networks around it, and of
//! services that hand out credentials.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address range that is closed unless the job names the address with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClosedRange {
    /// The description, with its article.
    pub kind: &'static str,
}

/// Closed IPv4 ranges: the first address, the length of the prefix, and a description (IANA's
/// special-purpose registry).
const CLOSED_V4: [([u8; 4], u32, &str); 15] = [
    ([0, 0, 0, 0], 8, "an unspecified address"),
    ([10, 0, 0, 0], 8, "a private address"),
    ([100, 64, 0, 0], 10, "a shared address of a carrier"),
    ([127, 0, 0, 0], 8, "a loopback address"),
    // The address of Azure's metadata service.
    ([168, 63, 129, 16], 32, "a metadata address"),
    ([169, 254, 0, 0], 16, "a link-local address"),
    ([172, 16, 0, 0], 12, "a private address"),
    // This range has the address of Oracle's metadata service.
    ([192, 0, 0, 0], 24, "a reserved address"),
    ([192, 0, 2, 0], 24, "a reserved address"),
    ([192, 88, 99, 0], 24, "a reserved address"),
    ([192, 168, 0, 0], 16, "a private address"),
    ([198, 18, 0, 0], 15, "a reserved address"),
    ([198, 51, 100, 0], 24, "a reserved address"),
    ([203, 0, 113, 0], 24, "a reserved address"),
    // Multicast addresses, and the reserved ones above.
    ([224, 0, 0, 0], 3, "a multicast or reserved address"),
];

/// Returns the closed range that an address lies in. `None` for a public address.
pub(crate) fn closed_range(address: IpAddr) -> Option<ClosedRange> {
    let kind = match address {
        IpAddr::V4(address) => closed_v4(address),
        IpAddr::V6(address) => closed_v6(address),
    };
    kind.map(|kind| ClosedRange { kind })
}

fn closed_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    let is_in = |first: [u8; 4], length: u32| {
        let differing = bits ^ u32::from(Ipv4Addr::from(first));
        differing.leading_zeros() >= length
    };
    CLOSED_V4.iter().find(|(first, length, _)| is_in(*first, *length)).map(|(_, _, kind)| *kind)
}

fn closed_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        closed_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        // IPv4-mapped addresses, and those that NAT64 translates.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [first, ..] if first & 0xff00 == 0xff00 => Some("a multicast address"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("a link-local address"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("a private address"),
        // Global unicast addresses are in 2000::/3. Tunnels there (Teredo, 6to4) lead to IPv4.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => Some("a reserved address"),
        [0x2002 | 0x3fff, ..] => Some("a reserved address"),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::closed_range;

    fn kind(text: &str) -> Option<&'static str> {
        closed_range(text.parse().unwrap()).map(|range| range.kind)
    }

    #[test]
    fn addresses_of_machine_networks_and_metadata_are_closed() {
        for (text, expected) in [
            ("127.0.0.1", "a loopback address"),
            ("127.255.255.254", "a loopback address"),
            ("0.0.0.0", "an unspecified address"),
            ("0.1.2.3", "an unspecified address"),
            ("10.0.0.1", "a private address"),
            ("172.16.0.1", "a private address"),
            ("172.31.255.255", "a private address"),
            ("192.168.1.1", "a private address"),
            ("169.254.169.254", "a link-local address"),
            ("168.63.129.16", "a metadata address"),
            ("100.64.0.1", "a shared address of a carrier"),
            ("100.100.100.200", "a shared address of a carrier"),
            ("192.0.0.192", "a reserved address"),
            ("198.19.0.1", "a reserved address"),
            ("224.0.0.1", "a multicast or reserved address"),
            ("255.255.255.255", "a multicast or reserved address"),
            ("::1", "a loopback address"),
            ("::", "an unspecified address"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::ffff:169.254.169.254", "a link-local address"),
            ("::127.0.0.1", "a reserved address"),
            ("64:ff9b::10.0.0.1", "a private address"),
            ("64:ff9b:1::1", "a reserved address"),
            ("fd00:ec2::254", "a private address"),
            ("fe80::1", "a link-local address"),
            ("fec0::1", "a reserved address"),
            ("ff02::1", "a multicast address"),
            ("2001::1", "a reserved address"),
            ("2001:db8::1", "a reserved address"),
            ("2002:7f00:1::1", "a reserved address"),
            ("3fff::1", "a reserved address"),
        ] {
            assert_eq!(kind(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn public_addresses_beside_closed_ranges_are_open() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2606:4700::1111",
            "2001:4860::8888",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
    }
}
