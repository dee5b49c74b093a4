//! Answers an API in ways that no plugin should: which of them, the path says.

use std::cell::RefCell;
use std::hint::black_box;

use plugpost_plugin::webhook_api::{
    Caller, Credential, Draft, Request, Response, Subscription, WebhookApi,
};
use plugpost_plugin::{
    Description, Event, Failure, Message, NoSettings, Plugin, Problem, Transform, export,
};

struct HostileApi {
    hoard: RefCell<Vec<Subscription>>,
}

impl Plugin for HostileApi {
    type Settings = NoSettings;

    fn describe() -> Description {
        let name = env!("CARGO_PKG_NAME");
        Description::new(name, env!("CARGO_PKG_VERSION"), "answers as no plugin should")
    }

    fn new(_: NoSettings) -> Result<Self, Vec<Problem>> {
        Ok(Self { hoard: RefCell::default() })
    }
}

impl Transform for HostileApi {
    fn apply(&self, _: &Event) -> Result<Message, Failure> {
        Ok(Message::unchanged())
    }
}

fn draft() -> Draft {
    Draft::new().url("http://127.0.0.1:9/").event_types(["order.created"])
}

impl WebhookApi for HostileApi {
    const CREDENTIALS: &'static [Credential] =
        &[Credential::header("x-api-key"), Credential::bearer()];

    fn answer(&self, request: &Request<'_>, caller: Option<&Caller<'_>>) -> Response {
        let made = |count: usize| {
            let caller = caller.expect("a caller");
            (0..count).map(|_| caller.create(draft()).expect("it is kept")).collect::<Vec<_>>()
        };
        match request.segments()[..] {
            ["headers"] => {
                let seen = ["x-api-key", "authorization", "x-other"];
                let seen: Vec<_> = seen.iter().filter_map(|it| request.header(it)).collect();
                let tenant = caller.map(|it| it.tenant()).unwrap_or_default();
                Response::json(200, format!("{tenant:?} {seen:?}"))
            }
            ["make"] => Response::json(201, made(1)[0].id()),
            ["make-and-refuse"] => Response::json(422, made(1)[0].id()),
            ["make-slowly"] => {
                // Longer than the asking thread waits, so this is called again.
                let made = made(1);
                (0..30_000_000_u64).for_each(|it| {
                    black_box(it);
                });
                Response::json(201, made[0].id())
            }
            ["make-and-trap"] => {
                made(1);
                panic!("as it was told")
            }
            ["make-endlessly"] => Response::json(201, made(100_000)[0].id()),
            ["hoard"] => {
                let caller = caller.expect("a caller");
                let mut hoard = Vec::new();
                loop {
                    hoard.extend(caller.page(0, 256));
                    black_box(&hoard);
                }
            }
            ["say-endlessly"] => {
                let long = "x".repeat(100_000);
                let caller = caller.expect("a caller");
                loop {
                    caller.set_note("note", Some(&long));
                }
            }
            ["remember"] => {
                self.hoard.borrow_mut().extend(made(1));
                Response::json(201, "")
            }
            ["recall"] => {
                let seen: Vec<_> = self.hoard.borrow().iter().map(Subscription::url).collect();
                Response::json(200, seen.join(" "))
            }
            ["status", status] => Response::empty(status.parse().expect("a number")),
            ["framing"] => Response::json(200, "").with_header("Content-Length", "7"),
            ["injection"] => Response::json(200, "").with_header("x-note", "a\r\nx-injected: b"),
            ["many-headers"] => (0..1000)
                .fold(Response::json(200, ""), |it, at| it.with_header(&format!("x-{at}"), "1")),
            ["large"] => Response::json(200, "x".repeat(64 << 20)),
            ["html"] => Response::json(200, "<p>").with_header("content-type", "text/html"),
            ["spin"] => loop {
                black_box(0);
            },
            _ => Response::json(200, format!("{} {}", request.method(), request.path())),
        }
    }
}

export!(HostileApi: transform, webhook_api);
