//! What is signed: a template such as `{timestamp}.{body}`, and the pieces a
//! request puts in its places. The body is never copied into a template.

use std::borrow::Cow;

use plugpost_plugin::credentials::is_header_name;
use plugpost_plugin::secrets::Part;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

/// One stretch of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Text that stands for itself.
    Literal(String),
    /// The body's bytes.
    Body,
    /// The timestamp as it stands in the request.
    Timestamp,
    /// The method in capitals.
    Method,
    /// The whole URL.
    Url,
    /// The URL's path.
    Path,
    /// What follows the URL's `?`; nothing where there is none.
    Query,
    /// The parameters of a form, sorted, name and value without anything between.
    Form,
    /// The value of a header.
    Header(String),
}

impl Template {
    /// Read a template, or say what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            let doubled = ["{{", "}}"].into_iter().find(|it| from.starts_with(it));
            if let Some(after) = doubled.and_then(|it| from.strip_prefix(it)) {
                literal.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').ok_or("has a } without a {: write }} for one")?;
            let (name, after) = inside.split_once('}').ok_or("has a { without a }")?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::named(name)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        let template = Self(pieces);
        // The host bounds what is signed at about twice the body.
        if template.0.iter().filter(|it| matches!(it, Piece::Body | Piece::Form)).count() > 1 {
            return Err("has the body more than once".into());
        }
        if !template.has(&Piece::Body) && !template.has(&Piece::Form) {
            return Err("has neither {body} nor {form}: anyone could change the body".into());
        }
        Ok(template)
    }

    /// Stretch by stretch.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// True when the piece occurs.
    pub(crate) fn has(&self, piece: &Piece) -> bool {
        self.0.contains(piece)
    }

    /// What is to be signed. `text_of` says what stands for a piece of this request.
    pub(crate) fn filled<E>(
        &self,
        mut text_of: impl FnMut(&Piece) -> Result<String, E>,
    ) -> Result<Filled<'_>, E> {
        let stretches = self.0.iter().map(|piece| match piece {
            Piece::Body => Ok(None),
            Piece::Literal(text) => Ok(Some(Cow::Borrowed(text.as_str()))),
            other => text_of(other).map(|it| Some(Cow::Owned(it))),
        });
        stretches.collect::<Result<_, E>>().map(Filled)
    }
}

/// A template filled in: stretches of text, and none for the body.
pub(crate) struct Filled<'a>(Vec<Option<Cow<'a, str>>>);

impl Filled<'_> {
    /// The parts to sign.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let texts = self.0.iter().map(Option::as_deref);
        texts.map(|it| it.map_or(Part::Body, |text| Part::Bytes(text.as_bytes()))).collect()
    }
}

impl Piece {
    fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "body" => Self::Body,
            "timestamp" => Self::Timestamp,
            "method" => Self::Method,
            "url" => Self::Url,
            "path" => Self::Path,
            "query" => Self::Query,
            "form" => Self::Form,
            _ => match name.strip_prefix("header:").filter(|it| is_header_name(it)) {
                Some(header) => Self::Header(header.into()),
                None => {
                    return Err(format!(
                        "has {{{name}}}, but there is {{body}}, {{timestamp}}, {{method}}, {{url}}, \
                         {{path}}, {{query}}, {{form}} and {{header:NAME}}"
                    ));
                }
            },
        })
    }
}

/// The path and the query of an absolute URL, whatever else it is.
pub(crate) fn path_and_query(url: &str) -> (&str, &str) {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = after_scheme.find(['/', '?']).map_or("", |at| &after_scheme[at..]);
    target.split_once('?').unwrap_or((target, ""))
}

/// The parameters of a form body, each pair once, sorted by name and value, with
/// nothing between: what is signed in place of the body.
pub(crate) fn form(body: &[u8]) -> String {
    let mut pairs: Vec<_> = form_urlencoded::parse(body).collect();
    pairs.sort();
    pairs.dedup();
    pairs.iter().flat_map(|(name, value)| [&**name, &**value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(template: &str) -> Result<String, String> {
        let text_of = |piece: &Piece| Ok::<_, String>(format!("<{piece:?}>"));
        let text = |part: &Part<'_>| match part {
            Part::Body => "BODY".to_owned(),
            Part::Bytes(bytes) => str::from_utf8(bytes).expect("made of text").to_owned(),
        };
        let filled = Template::parse(template)?;
        let filled = filled.filled(text_of)?;
        Ok(filled.parts().iter().map(text).collect())
    }

    #[test]
    fn pieces_stand_in_the_places_of_the_template() {
        assert_eq!(signed("{body}").as_deref(), Ok("BODY"));
        assert_eq!(signed("v0:{timestamp}:{body}").as_deref(), Ok("v0:<Timestamp>:BODY"));
        assert_eq!(signed("{method}{url}é{body}").as_deref(), Ok("<Method><Url>éBODY"));
        assert_eq!(signed("{header:X-Id}\n{body}").as_deref(), Ok("<Header(\"X-Id\")>\nBODY"));
    }

    #[test]
    fn a_doubled_brace_is_one() {
        assert_eq!(signed("{{{body}}}{{}}").as_deref(), Ok("{BODY}{}"));
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told() {
        for (template, message) in [
            ("", "has neither {body} nor {form}: anyone could change the body"),
            ("{timestamp}", "has neither {body} nor {form}: anyone could change the body"),
            ("{body}{body}", "has the body more than once"),
            ("{body}{form}", "has the body more than once"),
            ("{body", "has a { without a }"),
            ("{body}}", "has a } without a {: write }} for one"),
        ] {
            assert_eq!(signed(template), Err(message.to_owned()), "{template}");
        }
        for unknown in ["{Body}", "{}", "{header:}", "{header:a b}", "{{{}", "{body }"] {
            let error = signed(unknown).expect_err(unknown);
            assert!(error.contains("but there is {body}"), "{unknown}: {error}");
        }
    }

    #[test]
    fn a_url_has_a_path_and_a_query() {
        for (url, expected) in [
            ("https://a.example/b/c?d=e?f", ("/b/c", "d=e?f")),
            ("https://a.example:8443/b", ("/b", "")),
            ("https://a.example?d", ("", "d")),
            ("https://a.example", ("", "")),
            ("", ("", "")),
        ] {
            assert_eq!(path_and_query(url), expected, "{url}");
        }
    }

    #[test]
    fn a_form_is_sorted_and_each_pair_stands_once() {
        assert_eq!(form(b"b=2&a=x+y&a=%C3%A9&b=2&c"), "ax yaéb2c");
        assert_eq!(form(b""), "");
        assert_eq!(form(b"&&=&%zz=%"), "%zz%");
    }
}
