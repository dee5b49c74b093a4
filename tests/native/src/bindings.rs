//! What wit-bindgen makes of `wit/` for a guest, by hand and natively: as much as the
//! those plugins need. What the host answers is answered as the host does.

pub mod base {
    pub mod plugpost {
        pub mod plugin {
            pub mod types {
                pub struct Header {
                    pub name: String,
                    pub value: HeaderValue,
                }

                pub enum HeaderValue {
                    Text(String),
                    Secret(SecretValue),
                    Basic(BasicCredentials),
                }

                pub struct SecretValue {
                    pub prefix: String,
                    pub secret: String,
                }

                pub struct BasicCredentials {
                    pub username: String,
                    pub password: String,
                }

                pub enum Body {
                    Unchanged,
                    Bytes(Vec<u8>),
                }

                #[derive(Debug)]
                pub struct Problem {
                    pub pointer: String,
                    pub message: String,
                }

                #[derive(Debug)]
                pub struct Failure {
                    pub retry: bool,
                    pub code: String,
                    pub message: String,
                }
            }

            pub mod events {
                use crate::host_json;

                pub struct Event {
                    pub id: String,
                    pub event_type: String,
                    pub time: u64,
                    pub data: Vec<u8>,
                }

                impl Event {
                    pub fn id(&self) -> String {
                        self.id.clone()
                    }

                    pub fn time(&self) -> u64 {
                        self.time
                    }

                    pub fn source(&self) -> String {
                        "erp".into()
                    }

                    pub fn attribute(&self, _: &str) -> Option<String> {
                        None
                    }

                    pub fn type_(&self) -> String {
                        self.event_type.clone()
                    }

                    pub fn subject(&self) -> Option<String> {
                        None
                    }

                    pub fn field(&self, pointer: &str) -> Option<String> {
                        host_json::field(&self.data, pointer).map(str::to_owned)
                    }

                    pub fn text(&self, pointer: &str) -> Option<String> {
                        host_json::text(&self.data, pointer)
                    }

                    pub fn fields(&self, pointers: &[&str]) -> Vec<Option<String>> {
                        let found = host_json::fields(&self.data, pointers);
                        found.into_iter().map(|it| it.map(str::to_owned)).collect()
                    }
                }
            }

            pub mod requests {
                use crate::host_json;

                #[derive(Debug)]
                pub struct Inbound {
                    pub path: String,
                    pub body: Vec<u8>,
                }

                impl Inbound {
                    pub fn path(&self) -> String {
                        self.path.clone()
                    }

                    pub fn method(&self) -> String {
                        "POST".into()
                    }

                    pub fn query(&self) -> Option<String> {
                        None
                    }

                    pub fn body(&self) -> Vec<u8> {
                        self.body.clone()
                    }

                    pub fn header(&self, _: &str) -> Option<String> {
                        None
                    }

                    pub fn time(&self) -> u64 {
                        0
                    }

                    pub fn field(&self, pointer: &str) -> Option<String> {
                        host_json::field(&self.body, pointer).map(str::to_owned)
                    }

                    pub fn text(&self, pointer: &str) -> Option<String> {
                        host_json::text(&self.body, pointer)
                    }

                    pub fn fields(&self, pointers: &[&str]) -> Vec<Option<String>> {
                        let found = host_json::fields(&self.body, pointers);
                        found.into_iter().map(|it| it.map(str::to_owned)).collect()
                    }

                    pub fn json_error(&self) -> Option<String> {
                        host_json::error(&self.body)
                    }
                }

                pub struct Outgoing {
                    pub id: String,
                    pub time: u64,
                }

                impl Outgoing {
                    pub fn id(&self) -> String {
                        self.id.clone()
                    }

                    pub fn time(&self) -> u64 {
                        self.time
                    }
                }
            }

            pub mod secrets {
                use std::cell::RefCell;

                use smallvec::SmallVec;
                use zeroize::Zeroizing;

                use super::requests::Outgoing;
                use crate::host_secrets::{self, Encoding, Key, Secrets};

                pub enum Part<'a> {
                    Bytes(&'a [u8]),
                    Body,
                }

                #[derive(Clone, Copy)]
                pub enum Algorithm {
                    Sha1,
                    Sha256,
                    Sha512,
                    Ed25519,
                }

                #[derive(Clone, Copy)]
                pub enum Notation {
                    Base64,
                    Base64url,
                    Hex,
                }

                pub enum Piece<'a> {
                    Bytes(&'a [u8]),
                    Body,
                    Id,
                    Time,
                }

                pub struct Signed {
                    pub text: String,
                    pub time: u64,
                }

                /// What the host holds of the call in hand.
                #[derive(Default)]
                struct Held {
                    secrets: Secrets,
                    body: Vec<u8>,
                    id: String,
                    time: u64,
                }

                thread_local! {
                    static HELD: RefCell<Held> = RefCell::default();
                }

                /// The one secret there is.
                pub fn give(name: &str, text: &str, encoding: &str) {
                    let encoding = Encoding::from_name(encoding).expect("an encoding");
                    let key =
                        Key::decode(Zeroizing::new(text.to_owned()), encoding).expect("a key");
                    HELD.with_borrow_mut(|held| {
                        held.secrets = Secrets::new([(name.into(), vec![key])]);
                    });
                }

                /// The body of the request in hand.
                pub fn attach(body: Vec<u8>) {
                    HELD.with_borrow_mut(|held| held.body = body);
                }

                /// The request in hand.
                pub fn identify(request: &Outgoing) {
                    HELD.with_borrow_mut(|held| {
                        held.id.clone_from(&request.id);
                        held.time = request.time;
                    });
                }

                pub fn has(secret: &str) -> bool {
                    HELD.with_borrow(|held| held.secrets.has(secret))
                }

                pub fn hmac(
                    secret: &str,
                    algorithm: &str,
                    parts: &[Part<'_>],
                ) -> Result<Vec<Vec<u8>>, String> {
                    over(parts, |secrets, parts| secrets.hmac(secret, algorithm, parts))
                }

                pub fn sign(
                    secret: &str,
                    algorithm: &str,
                    parts: &[Part<'_>],
                ) -> Result<Vec<Vec<u8>>, String> {
                    over(parts, |secrets, parts| secrets.sign(secret, algorithm, parts))
                }

                pub fn signatures(
                    secret: &str,
                    notation: Notation,
                    schemes: &[(Algorithm, &str)],
                    between: &str,
                    pieces: &[Piece<'_>],
                ) -> Result<Signed, String> {
                    HELD.with_borrow(|held| {
                        let time = held.time / 1000;
                        let mut digits = itoa::Buffer::new();
                        let digits = digits.format(time).as_bytes();
                        let pieces = pieces.iter().map(|piece| match piece {
                            Piece::Bytes(bytes) => bytes,
                            Piece::Body => held.body.as_slice(),
                            Piece::Id => held.id.as_bytes(),
                            Piece::Time => digits,
                        });
                        let parts: SmallVec<[&[u8]; 8]> = pieces.collect();
                        let notation = match notation {
                            Notation::Base64 => host_secrets::Notation::Base64,
                            Notation::Base64url => host_secrets::Notation::Base64Url,
                            Notation::Hex => host_secrets::Notation::Hex,
                        };
                        let mut text = String::new();
                        for (algorithm, before) in schemes {
                            let algorithm = match algorithm {
                                Algorithm::Sha1 => host_secrets::Algorithm::Sha1,
                                Algorithm::Sha256 => host_secrets::Algorithm::Sha256,
                                Algorithm::Sha512 => host_secrets::Algorithm::Sha512,
                                Algorithm::Ed25519 => host_secrets::Algorithm::Ed25519,
                            };
                            for code in held.secrets.codes(secret, algorithm, &parts)? {
                                text.reserve(before.len() + 2 * code.len());
                                if !text.is_empty() {
                                    text.push_str(between);
                                }
                                text.push_str(before);
                                notation.write(&code, &mut text);
                            }
                        }
                        Ok(Signed { text, time })
                    })
                }

                fn over<T>(parts: &[Part<'_>], by: impl FnOnce(&Secrets, &[&[u8]]) -> T) -> T {
                    HELD.with_borrow(|held| {
                        let bytes_of = parts.iter().map(|part| match part {
                            Part::Bytes(bytes) => bytes,
                            Part::Body => held.body.as_slice(),
                        });
                        by(&held.secrets, &bytes_of.collect::<Vec<_>>())
                    })
                }

                pub fn verify(
                    secret: &str,
                    algorithm: &str,
                    parts: &[Part<'_>],
                    signature: &[u8],
                ) -> Result<bool, String> {
                    over(parts, |secrets, parts| {
                        secrets.verify(secret, algorithm, parts, signature)
                    })
                }

                pub fn matches(secret: &str, text: &str) -> Result<bool, String> {
                    HELD.with_borrow(|held| held.secrets.matches(secret, text))
                }
            }

            pub mod logging {
                pub fn log(_: &str, _: &str) {}
            }
        }
    }

    pub mod exports {
        pub mod plugpost {
            pub mod plugin {
                #[expect(clippy::module_inception, reason = "as wit-bindgen names it")]
                pub mod plugin {
                    #[derive(Debug)]
                    pub struct Description {
                        pub name: String,
                        pub version: String,
                        pub summary: String,
                        pub settings_schema: String,
                        pub secrets: Vec<SecretNeed>,
                        pub event_types: Vec<String>,
                        pub policy: Vec<(String, String)>,
                    }

                    #[derive(Debug)]
                    pub struct SecretNeed {
                        pub name: String,
                        pub encoding: String,
                        pub required: bool,
                        pub summary: String,
                    }
                }
            }
        }
    }
}

pub mod source {
    pub mod exports {
        pub mod plugpost {
            pub mod plugin {
                pub mod source {
                    use crate::Body;

                    pub struct Received {
                        pub type_: String,
                        pub subject: Option<String>,
                        pub time: Option<u64>,
                        pub duplicate_key: Option<String>,
                        pub attributes: Vec<(String, String)>,
                        pub data: Body,
                    }

                    pub struct Rejection {
                        pub status: u16,
                        pub message: String,
                    }
                }
            }
        }
    }
}

pub mod transform {
    pub mod exports {
        pub mod plugpost {
            pub mod plugin {
                pub mod transform {
                    use crate::{Body, Header};

                    pub struct Message {
                        pub method: String,
                        pub headers: Vec<Header>,
                        pub body: Body,
                    }
                }
            }
        }
    }
}

/// Nobody calls a platform's API here, so there is never a caller.
pub mod webhook_api {
    macro_rules! absent {
        ($name:ident { $($function:ident($($argument:ty),*) -> $result:ty;)+ }) => {
            #[derive(Debug)]
            pub enum $name {}

            impl $name {
                $(pub fn $function(&self, $(_: $argument),*) -> $result {
                    match *self {}
                })+
            }
        };
    }

    pub mod exports {
        pub mod plugpost {
            pub mod plugin {
                pub mod webhook_api {
                    pub struct Credential {
                        pub header: String,
                        pub prefix: String,
                    }

                    pub struct Response {
                        pub status: u16,
                        pub headers: Vec<(String, String)>,
                        pub body: Vec<u8>,
                    }

                    pub trait Guest {}
                }
            }
        }
    }

    pub mod plugpost {
        pub mod plugin {
            pub mod subscriptions {
                #[derive(Clone, Debug)]
                pub struct Refusal {
                    pub field: String,
                    pub message: String,
                }

                type Kept = Result<Subscription, Vec<Refusal>>;

                absent!(Caller {
                    tenant() -> String;
                    name() -> String;
                    count() -> u32;
                    subscriptions(u32, u32) -> Vec<Subscription>;
                    get(&str) -> Option<Subscription>;
                    create(Draft) -> Kept;
                    update(&str, Draft) -> Result<Option<Subscription>, Vec<Refusal>>;
                    delete(&str) -> Option<Subscription>;
                    note(&str) -> Option<String>;
                    set_note(&str, Option<&str>) -> ();
                });

                absent!(Subscription {
                    id() -> String;
                    uuid() -> String;
                    number() -> u64;
                    made_by() -> String;
                    created() -> u64;
                    updated() -> u64;
                    url() -> String;
                    event_types() -> Vec<String>;
                    sources() -> Vec<String>;
                    active() -> bool;
                    name() -> Option<String>;
                    description() -> Option<String>;
                    rate_limit() -> Option<String>;
                    settings() -> String;
                    headers() -> Vec<String>;
                    secrets() -> Vec<String>;
                    attribute(&str) -> Option<String>;
                });

                /// Never given to anybody.
                #[derive(Debug, Default)]
                pub struct Draft(());

                macro_rules! unheard {
                    ($($function:ident($argument:ty$(, $more:ty)?);)+) => {
                        impl Draft {
                            pub fn new() -> Self {
                                Self::default()
                            }

                            $(pub fn $function(&self, _: $argument $(, _: $more)?) {})+
                        }
                    };
                }

                unheard! {
                    set_url(&str);
                    set_event_types(&[String]);
                    set_sources(&[String]);
                    set_active(bool);
                    set_name(Option<&str>);
                    set_description(Option<&str>);
                    set_rate_limit(Option<&str>);
                    set_settings(&str);
                    set_header(&str, Option<&str>);
                    set_secret(&str, Option<&str>);
                    set_attribute(&str, Option<&str>);
                }
            }
        }
    }
}
