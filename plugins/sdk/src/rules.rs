//! Headers written down once, which the host makes for every request without a call: the
//! role [`AuthRules`](crate::AuthRules).
//!
//! ```
//! use plugpost_plugin::rules::{Algorithm, Notation, Piece, Rule, Signing, Stretch};
//!
//! let signing = Signing {
//!     secret: "key".into(),
//!     schemes: vec![(Algorithm::Sha256, "sha256=".into())],
//!     notation: Notation::Hex,
//!     between: None,
//!     pieces: vec![Piece::Body],
//! };
//! let rule = Rule::made("x-signature", [Stretch::Signatures(signing)]).needing("key");
//! assert_eq!(rule.needs.as_deref(), Some("key"));
//! ```

pub use crate::bindings::auth_rules::exports::plugpost::plugin::auth_rules::{
    Algorithm, Notation, Piece, Rule, RuleValue, Signing, Stretch, TimeUnit,
};

use crate::Header;

impl From<Header> for Rule {
    /// This header, as it is, in every request.
    fn from(Header { name, value }: Header) -> Self {
        Self { name, value: RuleValue::Fixed(value), needs: None }
    }
}

impl Rule {
    /// This header in every request, its value end to end these stretches.
    pub fn made(name: impl Into<String>, value: impl IntoIterator<Item = Stretch>) -> Self {
        let value = RuleValue::Made(value.into_iter().collect());
        Self { name: name.into(), value, needs: None }
    }

    /// The same, but only where the route or source gives this secret.
    pub fn needing(self, secret: &str) -> Self {
        Self { needs: Some(secret.into()), ..self }
    }
}
