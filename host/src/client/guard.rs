//! Which addresses may be dialled: those the IANA registries call globally
//! reachable, and the ranges the operator names. Never a cloud's metadata service.
//!
//! It looks at the address of the socket, not at the text of a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The operator's exceptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    allow: Vec<IpNet>,
}

impl Guard {
    pub(crate) fn allowing(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// For what the operator alone says where it is: every address but metadata.
    pub(crate) fn trusting() -> Self {
        Self::allowing(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())])
    }

    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        if Self::is_metadata(address) {
            return false;
        }
        let is_named = self.allow.iter().any(|it| it.contains(&address));
        // Who names a range of IPv6 has not named every IPv4 address inside it.
        let reaches = |it: Ipv4Addr| {
            is_global(it.into()) || self.allow.iter().any(|net| net.contains(&IpAddr::V4(it)))
        };
        is_global(address) || (is_named && embedded(address).into_iter().all(reaches))
    }

    /// Whether it is a cloud's metadata service, in whatever form of IPv6. Those
    /// stay forbidden whatever ranges are allowed.
    pub(crate) fn is_metadata(address: IpAddr) -> bool {
        let is = |address| METADATA.iter().any(|it| it.contains(&address));
        let hidden = embedded(address).into_iter().chain(translated_locally(address));
        is(address) || hidden.into_iter().any(|it| is(IpAddr::V4(it)))
    }
}

const fn one4(a: u8, b: u8, c: u8, d: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), 32))
}

const fn one6(start: [u16; 3], end: [u16; 2]) -> IpNet {
    let address = Ipv6Addr::new(start[0], start[1], start[2], 0, 0, 0, end[0], end[1]);
    IpNet::V6(Ipv6Net::new_assert(address, 128))
}

/// Metadata and host services of the clouds, as they document them.
const METADATA: &[IpNet] = &[
    // AWS, Azure, GCP, Oracle, OpenStack and most others; AWS has DNS and time beside it.
    IpNet::V4(v4(169, 254, 169, 24)),
    // AWS: credentials of ECS tasks and of EKS pods.
    IpNet::V4(v4(169, 254, 170, 24)),
    // Tencent's two, Scaleway.
    one4(169, 254, 0, 23),
    one4(169, 254, 10, 10),
    one4(169, 254, 42, 42),
    // Azure's wire server, Alibaba, Oracle's older one.
    one4(168, 63, 129, 16),
    one4(100, 100, 100, 200),
    one4(192, 0, 0, 192),
    // AWS: metadata, DNS, time and credentials.
    IpNet::V6(v6(0xfd00, 0xec2, 32)),
    // GCP, Oracle, Scaleway, Akamai, Alibaba, OpenStack.
    one6([0xfd20, 0xce, 0], [0, 0x254]),
    one6([0xfd00, 0xc1, 0], [0xa9fe, 0xa9fe]),
    one6([0xfd00, 0x42, 0], [0, 0x42]),
    one6([0xfd00, 0xa9fe, 0xa9fe], [0, 1]),
    one6([0xfd00, 0x100, 0], [0x100, 0x200]),
    one6([0xfe80, 0, 0], [0xa9fe, 0xa9fe]),
];

/// The IPv4 addresses that an IPv6 address stands for, by its form alone.
fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let segments = address.segments();
    let at = |first: usize| v4_of(segments[first], segments[first + 1]);
    match segments {
        // `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // IPv4-compatible, IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => vec![at(6)],
        // 6to4 (RFC 3056).
        [0x2002, ..] => vec![at(1)],
        // Teredo (RFC 4380): the server's, and the client's with every bit turned.
        [0x2001, 0, ..] => vec![at(2), v4_of(!segments[6], !segments[7])],
        _ if is_isatap(address) => vec![at(6)],
        _ => Vec::new(),
    }
}

/// What a translator of one's own (RFC 8215, `64:ff9b:1::/48`) may make of an
/// address: where in it the IPv4 address lies depends on the prefix chosen
/// (RFC 6052 §2.2). Who allows the range means its private addresses.
fn translated_locally(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let [0x64, 0xff9b, 1, ..] = address.segments() else { return Vec::new() };
    let octets = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|it| octets[it]));
    vec![at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), at([12, 13, 14, 15])]
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_GLOBAL_V4.iter().any(|it| it.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_UNICAST_V6.contains(&address)
                && !NOT_GLOBAL_V6.iter().any(|it| it.contains(&address))
                && !is_isatap(address)
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// IANA IPv4 Special-Purpose Address Registry, what is not globally reachable;
/// multicast and the reserved block.
const NOT_GLOBAL_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

/// All that IANA has given out for global unicast. Outside lie loopback, unique
/// local, link and site local, multicast, NAT64, and the IPv4-mapped and
/// -compatible forms.
const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Inside it, what the registry calls not globally reachable, and what embeds an
/// IPv4 address: Teredo (in 2001::/23) and 6to4.
const NOT_GLOBAL_V6: &[Ipv6Net] =
    &[v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

/// RFC 5214: an interface id of `0000:5efe` or `0200:5efe` embeds an IPv4 address,
/// whatever its group bit.
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments()[4..6], [0 | 0x100 | 0x200 | 0x300, 0x5efe])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(guard: &Guard, address: &str) -> bool {
        guard.allows(address.parse().expect("an address"))
    }

    #[test]
    fn only_public_addresses_are_allowed_by_default() {
        let guard = Guard::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(allows(&guard, public), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2a00::5efe:7f00:1",
            "2a00::200:5efe:7f00:1",
        ] {
            assert!(!allows(&guard, other), "{other}");
        }
    }

    #[test]
    fn the_operator_can_allow_a_range_but_never_metadata() {
        let range = |text: &str| text.parse::<IpNet>().expect("a range");
        let guard =
            Guard::allowing(vec![range("127.0.0.0/8"), range("169.254.0.0/16"), range("fd00::/8")]);
        assert!(allows(&guard, "127.0.0.1"));
        assert!(allows(&guard, "169.254.7.7"));
        assert!(allows(&guard, "fd00::1"));
        assert!(!allows(&guard, "10.0.0.1"));
        assert!(!allows(&guard, "169.254.169.254"));
        assert!(!allows(&guard, "fd00:ec2::254"));
        let everything = Guard::allowing(vec![range("0.0.0.0/0"), range("::/0")]);
        for other in ["10.0.0.1", "::", "::1", "::ffff:10.0.0.1", "2002:a00:1::", "255.255.255.255"]
        {
            assert!(allows(&everything, other), "{other}");
        }
        for metadata in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1::100.100.100.200",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::",
            "2001:0:101:101::5601:5601",
            "2a00::5efe:a83f:8110",
            "fe80::300:5efe:a9fe:a9fe",
        ] {
            assert!(!allows(&everything, metadata), "{metadata}");
        }
    }

    #[test]
    fn a_range_of_ipv6_does_not_allow_the_ipv4_inside_it() {
        let range = |text: &str| text.parse::<IpNet>().expect("a range");
        // A network that reaches IPv4 by NAT64.
        let guard = Guard::allowing(vec![range("64:ff9b::/96"), range("::1/128")]);
        assert!(allows(&guard, "64:ff9b::8.8.8.8"));
        assert!(allows(&guard, "::1"));
        assert!(!allows(&guard, "64:ff9b::10.0.0.1"));
        let guard = Guard::allowing(vec![range("64:ff9b::/96"), range("10.0.0.0/8")]);
        assert!(allows(&guard, "64:ff9b::10.0.0.1"));
        // One's own translator is there for private addresses.
        let guard = Guard::allowing(vec![range("64:ff9b:1::/48")]);
        assert!(allows(&guard, "64:ff9b:1::10.0.0.1"));
    }
}
