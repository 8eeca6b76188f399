//! What follows from the routes and addresses of a host: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{Address, Link, Route, Scope};

/// The index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// The preferred IPv4 default route.
pub fn default_route(routes: &[Route]) -> Option<&Route> {
    routes
        .iter()
        .filter(|route| route.is_default() && route.destination.is_ipv4())
        .min_by_key(|route| route.metric)
}

/// The MTU of the link of the default route: what a network gets if nothing else is said.
pub fn mtu_of_default_route(links: &[Link], routes: &[Route]) -> Option<u32> {
    let index = default_route(routes)?.link?;
    links.iter().find(|link| link.index == index).map(|link| link.mtu)
}

/// The IPv4 address that packets bear which leave by a link: the preferred source of its default route, or
/// the one that the kernel would choose, a primary global address (of the gateway's subnet, if there is one;
/// of the loopback device, if it has none).
pub fn masquerade_source(link: u32, addresses: &[Address], routes: &[Route]) -> Option<Ipv4Addr> {
    match source(link, addresses, routes, IpAddr::is_ipv4, |_| 0)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The IPv6 address that packets bear which leave by a link; a unique local one only where there is no other.
pub fn masquerade_source6(link: u32, addresses: &[Address], routes: &[Route]) -> Option<Ipv6Addr> {
    let local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unique_local());
    match source(link, addresses, routes, IpAddr::is_ipv6, |ip| u8::from(local(ip)))? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

fn source(
    link: u32,
    addresses: &[Address],
    routes: &[Route],
    family: impl Fn(&IpAddr) -> bool,
    rank: impl Fn(IpAddr) -> u8,
) -> Option<IpAddr> {
    let route = routes
        .iter()
        .filter(|route| route.is_default() && family(&route.destination.ip()))
        .filter(|route| route.link == Some(link))
        .min_by_key(|route| route.metric);
    if let Some(source) = route.and_then(|route| route.source) {
        return Some(source);
    }
    let primary = primary_of(link, addresses, &family);
    let gateway = route.and_then(|route| route.gateway);
    let beside_gateway =
        gateway.and_then(|gateway| primary.iter().find(|address| address.contains(gateway)));
    let first = || primary.iter().min_by_key(|address| rank(address.ip()));
    // A link without one of its own lends that of the host, which is on the loopback device.
    let borrowed = || primary_of(LOOPBACK, addresses, &family).first().map(|address| address.ip());
    beside_gateway.or_else(first).map(|address| address.ip()).or_else(borrowed)
}

/// The primary global addresses of a link.
fn primary_of(
    link: u32,
    addresses: &[Address],
    family: &impl Fn(&IpAddr) -> bool,
) -> Vec<IpNetwork> {
    addresses
        .iter()
        .filter(|address| address.link == link && address.scope == Scope::Global)
        .filter(|address| !address.secondary && family(&address.address.ip()))
        .map(|address| address.address)
        .filter(|address| !address.ip().is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, link: u32, source: Option<&str>, metric: u32) -> Route {
        let destination = destination.parse().unwrap();
        let source = source.map(|source| source.parse().unwrap());
        Route { destination, gateway: None, link: Some(link), source, metric }
    }

    fn address(link: u32, address: &str, secondary: bool) -> Address {
        Address { link, address: address.parse().unwrap(), scope: Scope::Global, secondary }
    }

    #[test]
    fn the_default_route_of_the_lowest_metric_counts() {
        let routes = [
            route("::/0", 7, None, 0),
            route("0.0.0.0/0", 3, None, 600),
            route("0.0.0.0/0", 2, None, 100),
            route("10.0.0.0/8", 4, None, 0),
        ];
        assert_eq!(default_route(&routes).unwrap().link, Some(2));
        assert_eq!(default_route(&routes[3..]), None);
    }

    #[test]
    fn the_source_is_the_routes_preference_or_the_first_primary_address() {
        let addresses = [
            address(2, "fd00::1/64", false),
            address(2, "198.51.100.9/24", true),
            address(2, "198.51.100.2/24", false),
            address(3, "203.0.113.1/24", false),
        ];
        let plain = [route("0.0.0.0/0", 2, None, 0)];
        let told = [route("0.0.0.0/0", 2, Some("198.51.100.77"), 0)];
        let source = |routes: &[Route]| masquerade_source(2, &addresses, routes);
        assert_eq!(source(&plain), Some(Ipv4Addr::new(198, 51, 100, 2)));
        assert_eq!(source(&told), Some(Ipv4Addr::new(198, 51, 100, 77)));
        assert_eq!(masquerade_source(9, &addresses, &told), None);
        let mut lent = addresses.to_vec();
        lent.extend([address(1, "127.0.0.1/8", false), address(1, "192.0.2.77/32", false)]);
        assert_eq!(masquerade_source(9, &lent, &[]), Some(Ipv4Addr::new(192, 0, 2, 77)));
        let mut by_gateway = plain;
        by_gateway[0].gateway = Some("192.0.2.1".parse().unwrap());
        assert_eq!(source(&by_gateway), Some(Ipv4Addr::new(198, 51, 100, 2)));
        by_gateway[0].gateway = Some("203.0.113.9".parse().unwrap());
        assert_eq!(
            masquerade_source(3, &addresses, &by_gateway),
            Some(Ipv4Addr::new(203, 0, 113, 1))
        );
    }

    #[test]
    fn the_ipv6_source_is_not_unique_local_where_there_is_another() {
        let addresses = [
            address(2, "fd00::1/64", false),
            address(2, "2001:db8::1/64", false),
            address(3, "fd00:1::1/64", false),
        ];
        let routes = [Route { gateway: "fe80::1".parse().ok(), ..route("::/0", 2, None, 0) }];
        let source = |link| masquerade_source6(link, &addresses, &routes);
        assert_eq!(source(2), "2001:db8::1".parse().ok());
        assert_eq!(source(3), "fd00:1::1".parse().ok());
        assert_eq!(source(4), None);
        assert_eq!(masquerade_source(2, &addresses, &routes), None);
    }
}
