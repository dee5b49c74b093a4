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

    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        if METADATA.contains(&address) {
            return false;
        }
        is_global(address) || self.allow.iter().any(|it| it.contains(&address))
    }
}

/// Metadata and host services of the clouds: AWS, Azure, GCP and others at
/// 169.254.169.254, ECS tasks, Azure's wire server, Alibaba, Oracle.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

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

/// RFC 5214: an interface id of `0000:5efe` or `0200:5efe` embeds an IPv4 address.
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments()[4..6], [0x0000 | 0x0200, 0x5efe])
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
        assert!(!allows(&guard, "10.0.0.1"));
        assert!(!allows(&guard, "169.254.169.254"));
        assert!(!allows(&guard, "fd00:ec2::254"));
    }
}
