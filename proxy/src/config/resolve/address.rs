//! Hosts and endpoints: texts that name a place in the network.
//!
//! Nothing is looked up here; a name that does not exist is no fault of the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::fault::quoted;
use crate::config::settings::Address;

/// `host:port`, as in "127.0.0.1:5001", "backend:80", "[::1]:5001".
pub(super) fn parse_endpoint(text: &str) -> Result<Address, String> {
    let found = quoted(text);
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme.eq_ignore_ascii_case("https") {
            return Err(format!("{found}: TLS to the upstream is not supported yet (write host:port of a plain port)"));
        }
        let authority = rest.split('/').next().unwrap_or(rest);
        return Err(match parse_endpoint(authority) {
            Ok(_) => format!("{found} is not host:port (write {})", quoted(authority)),
            Err(_) => format!("{found} is not host:port"),
        });
    }
    if text.contains(['/', '?', '#', '@']) {
        return Err(format!("{found} is not host:port (an endpoint has no path and no user)"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("{found} has no port (write \"[{text}]:80\")"));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        let example = parse_host(text).map(|_| format!(" (write {})", quoted(&format!("{text}:80"))));
        return Err(format!("{found} has no port{}", example.unwrap_or_default()));
    };
    let host = parse_host(host).map_err(|message| format!("{found}: {message}"))?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port);
    match digits.and_then(|digits| digits.parse::<u16>().ok()) {
        None | Some(0) => Err(format!("{found}: the port is not between 1 and 65535")),
        Some(port) => Ok(Address { host, port }),
    }
}

/// A name or an IP address without a port; lower-cased, IPv6 without its brackets.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let found = quoted(text);
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = inner.parse::<Ipv6Addr>().map_err(|_| format!("{found} is not an IPv6 address"))?;
        return Ok(address.to_string());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        return Err(match parse_host(host) {
            Ok(_) if is_port => format!("{found} has a port (write {})", quoted(host)),
            _ => format!("{found} is not a host name"),
        });
    }
    // One dot at the end is a name's root.
    let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if text.len() > 253 || !labels().all(is_label) {
        return Err(format!("{found} is not a host name"));
    }
    // No top-level domain is a number, so this was meant as an address (WHATWG URL, "ends in a number").
    if labels().next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("{found} is not an IPv4 address"));
    }
    Ok(text.to_ascii_lowercase())
}

/// What [`parse_listener`] expects.
pub(super) const LISTENER: &str = r#"an IP address and a port ("127.0.0.1:4140", "[::1]:4140")"#;

/// Where to listen: no names, for a name that resolves to another address tomorrow is no place to listen on.
pub(super) fn parse_listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{} is not {LISTENER}", quoted(text)))
}

/// Whether a connection to `endpoint` would arrive at `listener`.
pub(super) fn leads_to(endpoint: &Address, listener: SocketAddr) -> bool {
    let listens_on = listener.ip().to_canonical();
    let arrives = match endpoint.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        // Connecting to the unspecified address means this host.
        Ok(ip) if ip.is_unspecified() => listens_on.is_unspecified() || listens_on == loopback_like(ip),
        Ok(ip) => ip == listens_on || listens_on.is_unspecified() && ip.is_loopback(),
        Err(_) => endpoint.host == "localhost" && (listens_on.is_loopback() || listens_on.is_unspecified()),
    };
    arrives && endpoint.port == listener.port()
}

/// Whether two listeners cannot both have their address. Port 0 is a different port each time.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    same_ip && a.port() == b.port() && a.port() != 0
}

fn loopback_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("127.0.0.1:5001", "127.0.0.1", 5001),
            ("Backend.Default.svc.cluster.local.:80", "backend.default.svc.cluster.local.", 80),
            ("my_backend:65535", "my_backend", 65535),
            ("[::1]:5001", "::1", 5001),
            ("[2001:DB8:0::1]:80", "2001:db8::1", 80),
        ] {
            assert_eq!(parse_endpoint(text), Ok(Address { host: host.to_owned(), port }), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "a:",
            "a:0",
            "a:+1",
            "a:65536",
            "a:b:1",
            "[::1]",
            "[::1]80",
            "[a]:1",
            "a b:1",
            "256.1.1.1:80",
            "é:80",
            "-.-..:1",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_that_is_our_own_listener_is_recognised_in_every_spelling() {
        for (endpoint, listener, leads) in [
            ("127.0.0.1:4140", "127.0.0.1:4140", true),
            ("127.0.0.1:4141", "127.0.0.1:4140", false),
            ("127.0.0.2:4140", "127.0.0.1:4140", false),
            ("localhost:4140", "127.0.0.1:4140", true),
            ("localhost:4140", "[::1]:4140", true),
            ("localhost:4140", "10.0.0.1:4140", false),
            ("0.0.0.0:4140", "127.0.0.1:4140", true),
            ("0.0.0.0:4140", "10.0.0.1:4140", false),
            ("127.0.0.9:4140", "0.0.0.0:4140", true),
            ("10.0.0.1:4140", "0.0.0.0:4140", false),
            ("localhost:4140", "[::]:4140", true),
            ("[::ffff:127.0.0.1]:4140", "127.0.0.1:4140", true),
            ("backend:4140", "127.0.0.1:4140", false),
        ] {
            let address = parse_endpoint(endpoint).expect(endpoint);
            assert_eq!(leads_to(&address, listener.parse().expect(listener)), leads, "{endpoint} to {listener}");
        }
    }
}
