//! Headers that a customer gives with their values: the values are kept as secrets,
//! and an answer shows the names alone.

use super::{Draft, Subscription};
use crate::credentials::header_name_problem;
use crate::json::Object;

/// Stands for a secret in an answer. Where it comes back in a request, the secret
/// stays as it is.
pub const MASK: &str = "********";

impl Draft {
    /// The headers a customer gave, in the place of all those there were in `before`.
    /// `taken` are the headers, in lower case, that the plugin sets itself. The error
    /// is a header's name, and what is wrong with it.
    pub fn custom_headers(
        self,
        given: &[(String, String)],
        before: &[String],
        taken: &[&str],
    ) -> Result<Self, (String, String)> {
        let mut draft = self;
        for (at, (name, value)) in given.iter().enumerate() {
            let wrong = |what: &str| Err((name.clone(), what.to_owned()));
            if let Some(problem) = header_name_problem("", name) {
                return wrong(&problem.message);
            }
            if taken.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                return wrong("is a header that the platform sets itself");
            }
            if given[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return wrong("is given twice: the case of a header's name does not matter");
            }
            if value.is_empty() || !value.bytes().all(|it| (b' '..=b'~').contains(&it)) {
                return wrong("has a value that no header can have");
            }
            let is_kept = before.iter().any(|it| it.eq_ignore_ascii_case(name));
            if !(value == MASK && is_kept) {
                draft = draft.header(name, Some(value.clone()));
            }
        }
        for name in before {
            if !given.iter().any(|(it, _)| it.eq_ignore_ascii_case(name)) {
                draft = draft.header(name, None);
            }
        }
        Ok(draft)
    }
}

impl Subscription {
    /// The headers as a JSON object, each with the mask for its value; none where there
    /// are none.
    pub fn masked_headers(&self) -> Option<String> {
        let names = self.headers();
        let object = names.iter().fold(Object::new(), |object, name| object.text(name, MASK));
        (!names.is_empty()).then(|| object.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::StandIn;
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_masked_value_that_comes_back_changes_nothing() {
        let store = StandIn::new("acme", "shop");
        let caller = store.caller();
        let draft = Draft::new().url("https://a.example/");
        let given = pairs(&[("X-B", "two"), ("X-A", "one")]);
        let made = caller.create(draft.custom_headers(&given, &[], &[]).expect("fine"));
        let made = made.expect("fine");
        assert_eq!(
            made.masked_headers().as_deref(),
            Some(r#"{"X-A":"********","X-B":"********"}"#)
        );
        let given = pairs(&[("x-a", MASK), ("X-C", "three")]);
        let draft = Draft::new().custom_headers(&given, &made.headers(), &[]).expect("fine");
        assert!(!draft.headers.iter().any(|(name, _)| name == "x-a"), "{draft:?}");
        let now = caller.update("1", draft).expect("fine").expect("there");
        assert_eq!(now.headers(), ["X-A", "X-C"]);
        let draft = Draft::new().custom_headers(&[], &now.headers(), &[]).expect("fine");
        let now = caller.update("1", draft).expect("fine").expect("there");
        assert_eq!(now.masked_headers(), None);
    }

    #[test]
    fn what_no_header_can_be_is_refused_by_name() {
        for (name, value) in [("X-A", "a\nb"), ("X-A", ""), ("Host", "a"), ("x a", "a"), ("T", "a")]
        {
            let refused = Draft::new().custom_headers(&pairs(&[(name, value)]), &[], &["t"]);
            assert_eq!(refused.expect_err("refused").0, name);
        }
        let twice = pairs(&[("a", "1"), ("A", "1")]);
        assert!(Draft::new().custom_headers(&twice, &[], &[]).is_err());
    }
}
