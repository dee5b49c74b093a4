//! Which pages a browser may ask from. Any page can send a request to a listener on this
//! machine, and a name that an attacker owns can be made to lead here; a browser says
//! both, and neither is answered.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};
use http::uri::Authority;

use crate::problem::HttpProblem;

/// What a browser says of the page that asks; it cannot be set by that page.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Was this asked by no page at all, or by one of ours? Where no token is needed, the
/// name it was asked under must also be one of this machine.
pub(super) fn check(headers: &HeaderMap, token_needed: bool) -> Result<(), HttpProblem> {
    if !token_needed && !is_local(text(headers, &HOST).unwrap_or_default()) {
        return Err(HttpProblem::forbidden(
            "without tokens this is answered only under a loopback name, such as localhost: \
             check the Host header, or set a [[token]] that may read",
        ));
    }
    match is_foreign(headers) {
        true => Err(HttpProblem::forbidden("another site's page asked for this")),
        false => Ok(()),
    }
}

fn is_foreign(headers: &HeaderMap) -> bool {
    // The browser's own word first: behind a proxy the name in `host` may be another.
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    match text(headers, &ORIGIN) {
        None => headers.contains_key(ORIGIN),
        Some(origin) => {
            let asked_from = origin.split_once("://").map(|(_, authority)| authority);
            asked_from.is_none() || asked_from != text(headers, &HOST)
        }
    }
}

/// A name or an address that leads to this machine wherever it is resolved.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = name.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:8081", "a.localhost", "127.0.0.1:1", "127.9.9.9"] {
            assert!(is_local(host), "{host}");
        }
        assert!(is_local("[::1]:8081"));
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io"] {
            assert!(!is_local(host), "{host}");
        }
        assert!(!is_local("notlocalhost") && !is_local("0.0.0.0") && !is_local("[::]:8081"));
    }

    #[test]
    fn a_page_of_another_site_is_told_apart() {
        let foreign = |pairs: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), http::HeaderValue::from_static(value))
            };
            is_foreign(&pairs.iter().map(pair).collect())
        };
        let host = ("host", "localhost:8081");
        assert!(!foreign(&[host]));
        assert!(!foreign(&[host, ("origin", "http://localhost:8081")]));
        assert!(!foreign(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[host, ("sec-fetch-site", "none")]));
        assert!(!foreign(&[
            host,
            ("origin", "https://hooks.example"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(foreign(&[host, ("origin", "http://localhost:3000")]));
        assert!(foreign(&[host, ("origin", "http://evil.example")]));
        assert!(foreign(&[host, ("origin", "null")]));
        assert!(foreign(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(foreign(&[host, ("sec-fetch-site", "same-site")]));
        assert!(foreign(&[
            host,
            ("origin", "http://localhost:8081"),
            ("sec-fetch-site", "cross-site")
        ]));
    }
}
