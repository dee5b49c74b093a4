//! A platform's customer, who has a link and no token: their tenant's pages, the settings
//! that a platform without an API has, and a resend.

use std::path::Path;

use serde_json::{Value, json};

use super::driver::Browser;
use crate::support::client;
use crate::support::engine::{self, Engine};
use crate::support::hub::Hub;
use crate::support::receiver::{Received, Receiver};
use crate::support::tls::{Authority, Secure};

const TOKENS: &str = "[[token]]\nname = \"root\"\nsecret = { file = \"secrets/root\" }\n\
                      scopes = [\"operate\"]\ntenant = \"*\"\n\
                      [[token]]\nname = \"acme-in\"\nsecret = { file = \"secrets/acme-in\" }\n\
                      scopes = [\"ingest\"]\ntenant = \"acme\"\n";

#[test]
fn a_customer_comes_by_a_link_says_where_events_go_and_resends_one() {
    let receiver = Receiver::ok();
    let ours = Authority::new("ours");
    let secure = Secure::before(&receiver, ours.server(&["127.0.0.1"]).serving(&["http/1.1"]));
    let hub = Hub::with("", TOKENS);
    hub.secret("root", "root-0123456789").secret("acme-in", "acme-in-0123456789");
    hub.secret("ca", &ours.pem).plugin("b2b-ninja").plugin("nue");
    let mut command = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
    command.env("SSL_CERT_FILE", hub.path().join("secrets/ca")).arg("serve").arg(hub.path());
    let engine = Engine::start_command(command, &hub);
    // Another's event, which is not to be seen.
    engine.send("quote.of-somebody-else", "{}");
    let link = link(&engine);
    let browser = Browser::open(1280, false);
    browser.load(&link);
    browser.until("to be in", "location.pathname === '/' && location.hash === ''");
    browser.until(
        "to be told for whom it is",
        "document.querySelector('.who').innerText.includes('acme')",
    );
    let pages = "return [...document.querySelectorAll('#nav a')].filter((it) => it.checkVisibility()).map((it) => it.innerText)";
    let pages = browser.run(pages);
    assert!(
        !pages.to_string().contains("Plugins") && pages.to_string().contains("Subscriptions"),
        "{pages}"
    );
    browser.picture("portal");
    let fill = |name: &str, value: &str| {
        browser.run(&format!(
            "const it = document.querySelector('form.form [name=\"{name}\"]'); it.value = '{value}'; \
             it.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        ));
    };
    let tick = |value: &str| {
        browser.run(&format!(
            "document.querySelector('form.form input[type=checkbox]{value}').click()"
        ));
    };
    let new = |platform: &str, types: usize| {
        browser.load(&format!("http://{}/subscriptions/new", engine.admin));
        fill("platform", platform);
        let boxes = "document.querySelectorAll('.checks input[type=checkbox]').length";
        browser.until("its types", &format!("{boxes} === {types}"));
    };

    // A platform whose settings have a box and a URL for each event.
    new("b2b-ninja", 6);
    let hidden = "document.querySelector('[name=\"url.quote.created\"]').checkVisibility()";
    assert_eq!(browser.run(&format!("return {hidden}")), false);
    tick("[name=each]");
    browser.until("a URL for each", hidden);
    tick("[value=\"quote.created\"]");
    tick("[value=\"quote.sent\"]");
    fill("url.quote.created", &secure.url("/created"));
    fill("url.quote.sent", "http://127.0.0.1/sent");
    fill("secrets.shared", "canary-shared");
    browser.picture("portal-settings");
    browser.click("button", "Make it");
    // The first is made; of the second it is said what is wrong, where it is wrong.
    browser
        .until("the problem", "document.querySelector('[data-field=\"url/quote.sent\"] .wrong')");
    browser.until_text("https");
    fill("url.quote.sent", &secure.url("/sent"));
    browser.click("button", "Make it");
    browser.until("the list", "location.search === '?platform=b2b-ninja'");
    browser.until("both", "document.querySelectorAll('tbody tr').length === 2");
    send(&engine, "quote.created");
    send(&engine, "quote.sent");
    let mut came: Vec<_> = receiver.first(2).iter().map(|it| it.path.clone()).collect();
    came.sort();
    assert_eq!(came, ["/created", "/sent"]);
    let secret = |it: &Received| it.header("qn-secret").map(str::to_owned);
    assert!(receiver.received().iter().all(|it| secret(it).as_deref() == Some("canary-shared")));
    // Each is switched off by itself.
    browser.run("[...document.querySelectorAll('tbody tr')].find((it) => it.innerText.includes('quote.sent')).querySelector('button').click()");
    browser.until("it to be off", "document.querySelectorAll('.badge.off').length === 1");
    send(&engine, "quote.sent");
    send(&engine, "quote.created");
    assert_eq!(receiver.first(3)[2].path, "/created");

    // And one whose endpoints have a name, several types, and a log with a resend.
    new("nue", 25);
    fill("name", "Billing");
    fill("url", &receiver.url("/nue"));
    tick("[value=\"order.activated\"]");
    tick("[value=\"invoice.paid\"]");
    browser.click("button", "Make it");
    browser.until("its page", "location.pathname.startsWith('/subscriptions/sub_')");
    browser.shown();
    browser.until_text("Billing");
    send(&engine, "order.activated");
    assert_eq!(receiver.first(4)[3].path, "/nue");
    browser.click("a", "what became of them");
    browser.until("its log", "document.querySelectorAll('tbody .badge.delivered').length === 1");
    browser.click("a.row-link", "order.activated");
    browser.until("the delivery", "location.pathname.startsWith('/deliveries/dlv_')");
    browser.shown();
    browser.click("button", "Resend as new");
    let came = receiver.first(5);
    assert_eq!((came[4].path.as_str(), &came[4].body), ("/nue", &came[3].body));
    browser.load(&format!("http://{}/events", engine.admin));
    browser.until("its own events", "document.querySelectorAll('tbody tr').length === 6");
    assert_eq!(browser.run("return document.body.innerText.includes('somebody-else')"), false);
    browser.nothing_went_wrong();

    browser.click("button", "Log out");
    browser.until("to be out", "location.pathname === '/login'");
    browser.load(&format!("{}x", link));
    browser.until_text("This link opens nothing");
    assert_eq!(browser.run("return location.hash"), "");
}

fn link(engine: &Engine) -> String {
    let wanted = json!({ "tenant": "acme", "base": format!("http://{}", engine.admin) });
    let headers = [("authorization", "Bearer root-0123456789")];
    let body = wanted.to_string();
    let made: Value =
        client::ask(engine.admin, "POST", "/v1/portal", &headers, body.as_bytes()).json();
    made["url"].as_str().expect("a URL").to_owned()
}

fn send(engine: &Engine, event_type: &str) {
    let id = fastrand::u64(..).to_string();
    let headers = [
        ("authorization", "Bearer acme-in-0123456789"),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "x"),
        ("ce-type", event_type),
    ];
    let sent = client::ask(engine.public, "POST", "/events", &headers, b"{\"id\": 7}");
    assert_eq!(sent.status, 202, "{}", sent.text());
}
