//! The signature base (RFC 9421 §2.5): what is signed, made of the components
//! that a signature covers.

/// The parts of a URL that components can name, normalised as RFC 9421 §2.2 says.
#[derive(Debug, PartialEq)]
pub(crate) struct Target<'u> {
    url: &'u str,
    scheme: String,
    authority: String,
    path: &'u str,
    query: Option<&'u str>,
}

impl<'u> Target<'u> {
    /// None when it is not an absolute URL.
    pub(crate) fn of(url: &'u str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = target.split('#').next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let default_port = match scheme.as_str() {
            "https" => ":443",
            _ => ":80",
        };
        let authority = host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Some(Self { url, scheme, authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

/// A component that a signature can cover.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// A header, by its lower-case name.
    Header(String),
}

/// Names of the components of a URL and a method, as they stand in a signature.
const DERIVED: [(&str, Component); 7] = [
    ("@method", Component::Method),
    ("@target-uri", Component::TargetUri),
    ("@authority", Component::Authority),
    ("@scheme", Component::Scheme),
    ("@request-target", Component::RequestTarget),
    ("@path", Component::Path),
    ("@query", Component::Query),
];

impl Component {
    /// The component of that name; none when there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let derived = DERIVED.into_iter().find(|(it, _)| *it == name).map(|(_, it)| it);
        // Names of headers are in lower case here (RFC 9421 §2.1).
        let is_header = plugpost_plugin::credentials::is_header_name(name)
            && !name.contains(|it: char| it.is_ascii_uppercase());
        derived.or_else(|| is_header.then(|| Self::Header(name.into())))
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Header(name) => name,
            derived => DERIVED.iter().find(|(_, it)| it == derived).map_or("", |(name, _)| name),
        }
    }

    /// True when its value is a part of the URL.
    pub(crate) fn is_of_the_url(&self) -> bool {
        !matches!(self, Self::Method | Self::Header(_))
    }

    /// Its value, unless it is a header or the method.
    fn of(&self, target: &Target<'_>) -> String {
        let query = || target.query.map_or_else(|| "?".to_owned(), |it| format!("?{it}"));
        match self {
            Self::TargetUri => target.url.to_owned(),
            Self::Authority => target.authority.clone(),
            Self::Scheme => target.scheme.clone(),
            Self::RequestTarget => {
                target.path.to_owned() + &target.query.map_or_else(String::new, |_| query())
            }
            Self::Path => target.path.to_owned(),
            Self::Query => query(),
            Self::Method | Self::Header(_) => String::new(),
        }
    }
}

/// A request, as far as components can name it.
pub(crate) struct Request<'r> {
    pub(crate) method: &'r str,
    pub(crate) target: Option<Target<'r>>,
    pub(crate) header: &'r dyn Fn(&str) -> Option<String>,
}

/// The signature base, or the component that the request does not have.
pub(crate) fn signature_base<'c>(
    components: &'c [Component],
    request: &Request<'_>,
    params: &str,
) -> Result<String, &'c Component> {
    let mut base = String::new();
    for component in components {
        let value = match (component, &request.target) {
            (Component::Method, _) => Some(request.method.to_owned()),
            (Component::Header(name), _) => (request.header)(name),
            (of_the_url, Some(target)) => Some(of_the_url.of(target)),
            (_, None) => None,
        };
        let value = value.ok_or(component)?;
        base.push_str(&format!("\"{}\": {}\n", component.name(), value.trim()));
    }
    base.push_str(&format!("\"@signature-params\": {params}"));
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 9421 Appendix B.2.
    fn test_request() -> Request<'static> {
        Request {
            method: "POST",
            target: Target::of("https://example.com/foo?param=Value&Pet=dog"),
            header: &|name| {
                let value = match name {
                    "date" => "Tue, 20 Apr 2021 02:07:55 GMT",
                    "content-type" => "application/json",
                    "content-length" => "18",
                    _ => return None,
                };
                Some(value.to_owned())
            },
        }
    }

    fn components(names: &[&str]) -> Vec<Component> {
        names.iter().map(|it| Component::named(it).expect("a component")).collect()
    }

    #[test]
    fn the_base_of_b_2_5_is_the_one_published() {
        let params =
            r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
        let components = components(&["date", "@authority", "content-type"]);
        let expected = r#""date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
        let base = signature_base(&components, &test_request(), params);
        assert_eq!(base.as_deref(), Ok(expected));
    }

    #[test]
    fn the_base_of_b_2_6_is_the_one_published() {
        let params = r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
        let components = components(&[
            "date",
            "@method",
            "@path",
            "@authority",
            "content-type",
            "content-length",
        ]);
        let expected = r#""date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
        let base = signature_base(&components, &test_request(), params);
        assert_eq!(base.as_deref(), Ok(expected));
    }

    #[test]
    fn a_component_that_is_not_there_is_told() {
        let components = components(&["@method", "x-none"]);
        let missing = signature_base(&components, &test_request(), "()");
        assert_eq!(missing, Err(&Component::Header("x-none".into())));
    }

    #[test]
    fn components_of_a_url_are_normalised() {
        for (url, expected) in [
            // The examples of RFC 9421 §2.2.2 to §2.2.7.
            (
                "https://www.example.com/path?param=value",
                ["www.example.com", "https", "/path?param=value", "/path", "?param=value"],
            ),
            ("http://www.EXAMPLE.com:80", ["www.example.com", "http", "/", "/", "?"]),
            ("https://a.example:443/p?", ["a.example", "https", "/p?", "/p", "?"]),
            ("https://a.example:8443?q", ["a.example:8443", "https", "/?q", "/", "?q"]),
            ("https://u:p@[::1]:443/%2F#f", ["[::1]", "https", "/%2F", "/%2F", "?"]),
        ] {
            let target = Target::of(url).expect("absolute");
            let names = ["@authority", "@scheme", "@request-target", "@path", "@query"];
            let values = components(&names).iter().map(|it| it.of(&target)).collect::<Vec<_>>();
            assert_eq!(values, expected, "{url}");
        }
        assert_eq!(Target::of("/path"), None);
    }

    #[test]
    fn what_is_no_component_is_none() {
        for name in ["", "@status", "@query-param", "@Method", "Content-Type", "a b", "é", "@"] {
            assert_eq!(Component::named(name), None, "{name}");
        }
        assert_eq!(Component::named("webhook-id"), Some(Component::Header("webhook-id".into())));
    }
}
