//! Where requests go: an absolute `http://` URL, checked once.
//!
//! No TLS: the programs of this workspace meet on loopback and inside a pod.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};

/// An absolute `http://` URL: it has a host, a port (80 when not said) and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    authority: Authority,
}

impl Target {
    /// The whole URL, the form a request line has when it goes through a proxy.
    #[must_use]
    pub fn absolute(&self) -> &Uri {
        &self.uri
    }

    /// Path and query alone, the form a request line has on a direct connection.
    #[must_use]
    pub fn origin(&self) -> Uri {
        self.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
    }

    /// Host and port as written, for the `host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// What to connect to; the brackets of an IPv6 address are gone.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        let host = self.authority.host();
        (host.trim_start_matches('[').trim_end_matches(']'), self.authority.port_u16().unwrap_or(80))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("`{text}` is no URL: {error}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(format!("`{text}` must begin with http://"));
        }
        let authority = uri.authority().cloned().ok_or_else(|| format!("`{text}` names no host"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(format!("`{text}` must name a host and no user"));
        }
        Ok(Self { uri, authority })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_http_url_with_a_host_is_a_target() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let parsed = text.parse::<Target>();
            assert_eq!(parsed.as_ref().ok().map(Target::address), expected, "{text}: {parsed:?}");
        };
        check("http://127.0.0.1:5001/", Some(("127.0.0.1", 5001)));
        check("http://backend", Some(("backend", 80)));
        check("http://[::1]:8080/a?b=c", Some(("::1", 8080)));
        check("https://backend/", None);
        check("backend:5001", None);
        check("/path", None);
        check("http://me@backend/", None);
    }

    #[test]
    fn a_direct_request_line_has_the_path_and_a_proxied_one_the_whole_url() {
        let target: Target = "http://backend:5001/a?b=c".parse().expect("a target");
        assert_eq!(target.origin().to_string(), "/a?b=c");
        assert_eq!(target.absolute().to_string(), "http://backend:5001/a?b=c");
        let bare: Target = "http://backend".parse().expect("a target");
        assert_eq!(bare.origin().to_string(), "/");
    }
}
