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

            /// No transform asks for a secret, so there is none.
            pub mod secrets {
                pub enum Part<'a> {
                    Bytes(&'a [u8]),
                    Body,
                }

                type Codes = Result<Vec<Vec<u8>>, String>;

                pub fn has(_: &str) -> bool {
                    false
                }

                pub fn hmac(_: &str, _: &str, _: &[Part<'_>]) -> Codes {
                    Err(String::new())
                }

                pub fn sign(_: &str, _: &str, _: &[Part<'_>]) -> Codes {
                    Err(String::new())
                }

                pub fn verify(_: &str, _: &str, _: &[Part<'_>], _: &[u8]) -> Result<bool, String> {
                    Err(String::new())
                }

                pub fn matches(_: &str, _: &str) -> Result<bool, String> {
                    Err(String::new())
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

pub mod auth_rules {
    pub mod exports {
        pub mod plugpost {
            pub mod plugin {
                pub mod auth_rules {
                    use crate::HeaderValue;

                    pub struct Rule {
                        pub name: String,
                        pub value: RuleValue,
                        pub needs: Option<String>,
                    }

                    pub enum RuleValue {
                        Fixed(HeaderValue),
                        Made(Vec<Stretch>),
                    }

                    pub enum Stretch {
                        Text(String),
                        Id,
                        Time(TimeUnit),
                        Signatures(Signing),
                    }

                    pub struct Signing {
                        pub secret: String,
                        pub schemes: Vec<(Algorithm, String)>,
                        pub notation: Notation,
                        pub between: Option<String>,
                        pub pieces: Vec<Piece>,
                    }

                    pub enum Piece {
                        Text(String),
                        Body,
                        Id,
                        Time(TimeUnit),
                        Method,
                        Url,
                    }

                    pub enum TimeUnit {
                        Seconds,
                        Milliseconds,
                    }

                    pub enum Algorithm {
                        Sha1,
                        Sha256,
                        Sha512,
                        Ed25519,
                    }

                    pub enum Notation {
                        Base64,
                        Base64url,
                        Hex,
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
