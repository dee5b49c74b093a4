//! Does what no plugin should: which of it, the setting `behaviour` says. Each
//! exists to show one limit of the host, and none of it harms anybody else.

use std::collections::HashSet;
use std::hint::black_box;

use plugpost_plugin::rules::{Algorithm, Notation, Piece, Rule, Signing, Stretch, TimeUnit};
use plugpost_plugin::secrets::{self, Part};
use plugpost_plugin::{
    Auth, AuthRules, Body, Description, Encoding, Event, Failure, Filter, Header, Inbound, Message,
    Outgoing, Plugin, Problem, Received, Rejection, Source, Transform, export, log,
};
use serde::Deserialize;

const SETTINGS_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "behaviour": { "type": "string" },
    "count": { "type": "integer", "minimum": 0 }
  },
  "required": ["behaviour"],
  "additionalProperties": false
}"#;

#[derive(Deserialize)]
struct Hostile {
    behaviour: String,
    /// How many, how long or how large.
    #[serde(default)]
    count: usize,
}

impl Plugin for Hostile {
    type Settings = Self;

    fn describe() -> Description {
        Description::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            "does what no plugin should",
        )
        .settings_schema(SETTINGS_SCHEMA)
        .optional_secret("key", Encoding::Text, "a key to compute with")
        .optional_secret("pair", Encoding::StandardWebhooks, "a key pair to sign with")
    }

    fn new(settings: Self) -> Result<Self, Vec<Problem>> {
        match settings.behaviour.strip_prefix("configure-") {
            Some("problems") => {
                Err((0..settings.count).map(|_| Problem::at("/behaviour", "no")).collect())
            }
            Some(behaviour) => {
                let outcome = settings.instead(behaviour).anywhere();
                Err(vec![Problem::at("", format!("came to its end: {outcome:?}"))])
            }
            None => Ok(settings),
        }
    }
}

impl Hostile {
    /// The same with another behaviour.
    fn instead(&self, behaviour: &str) -> Self {
        Self { behaviour: behaviour.to_owned(), count: self.count }
    }

    /// What can be done in every role.
    fn anywhere(&self) -> Result<(), Failure> {
        match self.behaviour.as_str() {
            "spin" => loop {
                black_box(self.count);
            },
            "recurse" => {
                black_box(deeper(self.count));
            }
            "grow" => {
                // Taken and not written to: the limit is met long before the deadline.
                let mut hoard = Vec::new();
                loop {
                    hoard.push(Vec::<u8>::with_capacity(1 << 20));
                    black_box(&hoard);
                }
            }
            "trap" => panic!("as it was told"),
            "log" => (0..self.count).for_each(|_| log(&"flood ".repeat(1000))),
            "log-empty" => (0..self.count).for_each(|_| log("")),
            "refuse" => return Err(Failure::reject("refused", "never")),
            "wait" => return Err(Failure::retry("not-yet", "later")),
            "long-failure" => {
                return Err(Failure::reject(&"c".repeat(self.count), "m".repeat(self.count)));
            }
            "forged-failure" => {
                return Err(Failure::reject("a\r\nb\u{1b}[2J", "c\r\nd\u{1b}[2J"));
            }
            // One call on the host that makes it work for long.
            "hmac-of-much" => drop(secrets::hmac("key", "sha256", &self.much())),
            "signature-of-much" => drop(secrets::sign("pair", "ed25519", &self.much())),
            "verify-much" => drop(secrets::verify("pair", "ed25519", &self.much(), &[0; 64])),
            _ => {}
        }
        Ok(())
    }

    fn much(&self) -> Vec<Part<'static>> {
        (0..self.count).map(|_| Part::Body).collect()
    }

    /// Headers that a plugin may not set.
    fn headers(&self) -> Vec<Header> {
        let one = |name: &str, value: &str| vec![Header::text(name, value)];
        match self.behaviour.as_str() {
            "header-injection" => one("x-note", "a\r\nx-injected: yes"),
            "header-newline" => one("x-note", "a\nx-injected: yes"),
            "header-nul" => one("x-note", "a\0b"),
            "header-name" => one("x-note: a\r\nx-injected", "yes"),
            "content-length" => one("content-length", "0"),
            "transfer-encoding" => one("transfer-encoding", "chunked"),
            "connection" => one("Connection", "close"),
            "host" => one("Host", "elsewhere.example.com"),
            "webhook-id" => one("Webhook-Id", "evt_0000000000000"),
            "unknown-secret" => vec![secrets::header("x-secret", "", "of-another-route")],
            "many-headers" => {
                (0..self.count).map(|at| Header::text(format!("x-{at}"), "1")).collect()
            }
            "long-header" => one("x-note", &"a".repeat(self.count)),
            _ => Vec::new(),
        }
    }
}

/// Not a loop, whatever the compiler thinks.
fn deeper(level: usize) -> usize {
    match black_box(level) {
        usize::MAX => 0,
        level => black_box(deeper(level + 1)) + 1,
    }
}

impl Source for Hostile {
    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        let failed = |it: Failure| Rejection { status: 400, message: it.message };
        self.anywhere().map_err(failed)?;
        let event = Received::unchanged("order.created");
        match self.behaviour.as_str() {
            "calls" => {
                while black_box(request.field("/never")).is_none() {}
                Ok(Vec::new())
            }
            "accepting-rejection" => Err(Rejection { status: 202, message: "taken".into() }),
            "odd-rejection" => Err(Rejection { status: 999, message: "a\r\nb: c".into() }),
            "long-rejection" => Err(Rejection { status: 400, message: "m".repeat(self.count) }),
            "many-events" => {
                Ok((0..self.count).map(|_| Received::unchanged("order.created")).collect())
            }
            "forged-type" => Ok(vec![Received::unchanged("a\r\nb: c")]),
            "long-type" => Ok(vec![Received::unchanged("t".repeat(self.count))]),
            "forged-media-type" => {
                let attribute =
                    ("datacontenttype".to_owned(), "text/plain\r\nx-injected: yes".to_owned());
                Ok(vec![Received { attributes: vec![attribute], ..event }])
            }
            "end-of-time" => Ok(vec![Received { time: Some(u64::MAX), ..event }]),
            _ => Ok(vec![event]),
        }
    }
}

impl Filter for Hostile {
    fn accept(&self, event: &Event) -> Result<bool, Failure> {
        self.anywhere()?;
        if self.behaviour == "calls" {
            while black_box(event.field("/never")).is_none() {}
        }
        Ok(self.behaviour != "decline")
    }
}

impl Transform for Hostile {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        self.anywhere()?;
        let mut message = Message { headers: self.headers(), ..Message::unchanged() };
        match self.behaviour.as_str() {
            "calls" => {
                let mut seen = HashSet::new();
                while seen.insert(event.data().len()) || event.field("/never").is_none() {}
            }
            "long-pointer" => drop(event.field(&"/a".repeat(self.count))),
            // Several, and the whole each time.
            "pointers" => drop(event.fields(&vec![""; self.count])),
            "absent-pointers" => drop(event.fields(&vec!["/never"; self.count])),
            "output" => message.body = Body::Bytes(vec![b'x'; self.count]),
            "method" => message.method = "BREW".into(),
            "method-injection" => {
                message.method = "GET /else HTTP/1.1\r\nhost: b\r\n\r\nPOST".into()
            }
            "no-method" => message.method = String::new(),
            _ => {}
        }
        Ok(message)
    }
}

impl Auth for Hostile {
    fn sign(&self, request: &Outgoing) -> Result<Vec<Header>, Failure> {
        self.anywhere()?;
        if self.behaviour == "calls" {
            while request.header("x-never").is_none() {}
        }
        Ok(self.headers())
    }
}

impl AuthRules for Hostile {
    fn rules(&self) -> Option<Vec<Rule>> {
        let behaviour = self.behaviour.strip_prefix("rules-")?;
        let signed = |schemes, pieces, before: &str, between: &str| {
            let signing = Signing {
                secret: "key".into(),
                schemes: vec![(Algorithm::Sha256, before.into()); schemes],
                notation: Notation::Hex,
                between: Some(between.into()),
                pieces: (0..pieces).map(|_| Piece::Body).collect(),
            };
            vec![Rule::made("x-signature", [Stretch::Signatures(signing)])]
        };
        Some(match behaviour {
            "schemes" => signed(self.count, 1, "", ","),
            "pieces" => signed(1, self.count, "", ","),
            "before" => signed(1, 1, "a\r\nb: ", ","),
            "between" => signed(1, 1, "", "\r\nb: "),
            "stretches" => vec![Rule::made("x-id", (0..self.count).map(|_| Stretch::Id))],
            "needs" => {
                let time = Stretch::Time(TimeUnit::Seconds);
                vec![Rule::made("x-time", [time]).needing("of-another-route")]
            }
            "prefix" => vec![secrets::header("x-note", "a\r\nb: ", "key").into()],
            "user-name" => vec![secrets::basic("a:b", "key").into()],
            "text" => vec![Rule::made("x-note", [Stretch::Text("a\r\nb: ".into())])],
            other => {
                let other = self.instead(other);
                let _ = other.anywhere();
                other.headers().into_iter().map(Rule::from).collect()
            }
        })
    }
}

export!(Hostile: source, filter, transform, auth, auth_rules);
