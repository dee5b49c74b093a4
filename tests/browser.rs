//! The dashboard in a real browser: what a person sees, finds and does, with a mouse and
//! with the keyboard alone, by day and by night, on a desk and on a phone.

mod driver;
mod portal;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::demo;
use crate::support::engine::{self, Engine};
use crate::support::hub::{Hub, route, to};
use crate::support::postgres;
use crate::support::receiver::{Receiver, Reply};
use crate::support::{client, eventually, root};
use driver::Browser;

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

const PAGES: [&str; 8] =
    ["/", "/deliveries", "/events", "/tail", "/routes", "/subscriptions", "/endpoints", "/plugins"];

#[test]
fn ten_tabs_are_shown_and_the_first_of_them_goes_on_when_it_is_seen_again() {
    let hub = Hub::new();
    let engine = Engine::start(&hub);
    let browser = Browser::open(1280, false);
    let address = format!("http://{}/events", engine.admin);
    browser.load(&address);
    let first = browser.tab();
    for _ in 0..9 {
        browser.another_tab();
        browser.load(&address);
    }
    engine.send("order.created", "{}");
    browser.until_text("order.created");
    browser.go_to_tab(&first);
    browser.until_text("order.created");
}

#[test]
fn a_live_tail_that_was_left_holds_no_connection() {
    let engine = Engine::start(&Hub::new());
    let browser = Browser::open(1280, false);
    for at in 0..10 {
        browser.load(&format!("http://{}/tail?route=r{at}", engine.admin));
    }
}

#[test]
fn what_five_platforms_sent_is_there_and_an_order_is_found_by_its_id() {
    let folder = demo::example();
    let running = Demo::start(folder.path());
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/events", running.admin));
    browser.until("five events", "document.querySelectorAll('tbody tr').length === 5");
    browser.load(&format!("http://{}/deliveries", running.admin));
    browser.until(
        "five deliveries",
        "document.querySelectorAll('tbody .badge.delivered').length === 5",
    );
    browser.picture("five-platforms");
    let sent = fs::read(folder.path().join("demo/order-activated.json")).expect("a payload");
    let sent: Value = serde_json::from_slice(&sent).expect("JSON");
    let order = sent["order"]["id"].as_str().expect("the order's id");
    browser.press("/");
    browser.press(&format!("{order}{ENTER}"));
    browser.until(
        "the one delivery",
        "document.querySelectorAll('tbody tr').length === 1 && location.search.includes('search=')",
    );
    browser.until_text(order);
    // The address says what is shown: whoever gets it sees the same.
    browser.load(browser.run("return location.href").as_str().expect("an address"));
    browser.until("the one delivery again", "document.querySelectorAll('tbody tr').length === 1");
    browser.click("a.row-link", "order.activated");
    browser.shown();
    browser.until_text("What the plugins made of it");
    browser.until_text("#1");
    browser.picture("delivery");
    browser.nothing_went_wrong();
}

#[test]
fn a_dead_letter_is_resent_and_seen_delivered_without_a_reload() {
    resent(|browser| browser.click("button", "Resend"));
}

#[test]
fn a_dead_letter_is_resent_with_the_keyboard_alone() {
    resent(|browser| {
        browser.press("gd");
        browser.shown();
        browser.until(
            "the list",
            "location.pathname === '/deliveries' && document.querySelector('tbody .badge.dead')",
        );
        browser.press("j");
        browser.until("a row in focus", "document.activeElement.matches('tbody a.row-link')");
        browser.press(ENTER);
        browser.until("the delivery", "location.pathname.startsWith('/deliveries/dlv_')");
        browser.shown();
        // From the heading on to the button.
        for _ in 0..8 {
            browser.press(TAB);
            if browser.run("return document.activeElement.innerText") == "Resend" {
                break;
            }
        }
        let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "what has the focus is seen to have it");
        browser.press(ENTER);
    });
}

/// A delivery fails for good; then the receiver is well again, and it is resent so.
fn resent(resend: impl Fn(&Browser)) {
    let well = Arc::new(AtomicBool::new(false));
    let receiver = {
        let well = well.clone();
        Receiver::start(move |_| match well.load(Ordering::SeqCst) {
            true => Reply::status(200).with_body("thanks"),
            false => Reply::status(500).with_body("out of paper"),
        })
    };
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/deliveries", engine.admin));
    browser.until_text("No deliveries yet");
    browser.run("window.notReloaded = true");
    let event = engine.send("order.created", "{\"id\": 7}");
    // It comes by itself.
    browser.until("the dead letter", "document.querySelector('tbody .badge.dead')");
    let dead = engine.ended(&event, "out")["id"].as_str().expect("an id").to_owned();
    browser.click("a.row-link", "order.created");
    browser.until("the delivery", &format!("location.pathname === '/deliveries/{dead}'"));
    browser.shown();
    browser.until_text("out of paper");
    browser.until_text("Given up:");
    well.store(true, Ordering::SeqCst);
    resend(&browser);
    browser.until("another delivery", &format!("location.pathname.startsWith('/deliveries/dlv_') && location.pathname !== '/deliveries/{dead}'"));
    browser
        .until("the new delivery to be delivered", "document.querySelector('h1 .badge.delivered')");
    browser.until_text("thanks");
    assert_eq!(browser.run("return window.notReloaded"), true);
    assert_eq!(receiver.received().len(), 2);
    browser.nothing_went_wrong();
}

#[test]
fn a_subscription_is_made_changed_and_deleted_on_its_page() {
    let receiver = Receiver::ok();
    let hub = Hub::new();
    hub.plugin("standard-webhooks").plugin("buildr").plugin("jq");
    let engine = Engine::start(&hub);
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/subscriptions", engine.admin));
    browser.until_text("No subscription here");
    browser.click("button", "New subscription");
    browser.until("the form", "document.querySelector('form.form')");
    let choose = |name: &str, value: &str| {
        browser.run(&format!(
            "const it = document.querySelector('form.form [name=\"{name}\"]'); it.value = '{value}'; \
             it.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        ));
    };
    // What a platform knows is there to be chosen.
    choose("platform", "buildr");
    browser.until("its types", "document.querySelectorAll('.checks input').length > 3");
    choose("platform", "standard-webhooks");
    browser.until("its secret", "document.querySelector('form.form [name=\"secrets.key\"]')");
    browser.until(
        "its setting",
        "document.querySelector('form.form select[name=\"settings.header_prefix\"]')",
    );
    choose("url", "ftp://nowhere");
    browser.click("button", "Make it");
    // Each problem stands with its field.
    for field in ["url", "types", "secrets"] {
        browser.until(field, &format!("document.querySelector('[data-field={field}] .wrong')"));
    }
    browser.picture("subscription-wrong");
    choose("url", &receiver.url("/hook"));
    choose("types", "order.*, invoice.paid");
    choose("secrets.key", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    choose("settings.header_prefix", "svix");
    browser.click("button", "Make it");
    browser.until("its page", "location.pathname.startsWith('/subscriptions/sub_')");
    browser.shown();
    browser.picture("subscription");
    engine.send("order.created", "{}");
    assert!(receiver.first(1)[0].header("svix-signature").is_some());
    browser.click("button", "Rotate");
    choose_in_dialog(&browser, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    browser.click("dialog button", "Rotate");
    browser.until_text("2 in use");
    browser.click("button", "Switch off");
    browser.until("it to be off", "document.querySelector('.badge.off')");
    browser.click("button", "Delete");
    browser.click("dialog button", "Delete");
    browser.until("the list", "location.pathname === '/subscriptions'");
    browser.until_text("No subscription here");
    assert_eq!(engine.get("/v1/subscriptions").json()["data"], json!([]));
    browser.nothing_went_wrong();
}

fn choose_in_dialog(browser: &Browser, value: &str) {
    browser.until("the dialog", "document.querySelector('dialog[open] input')");
    browser.run(&format!("document.querySelector('dialog[open] input').value = '{value}'"));
}

#[test]
fn an_operator_disables_enables_tries_and_recovers_an_endpoint() {
    let well = Arc::new(AtomicBool::new(false));
    let receiver = {
        let well = well.clone();
        Receiver::start(move |_| Reply::status(if well.load(Ordering::SeqCst) { 200 } else { 500 }))
    };
    let hub = Hub::new();
    hub.route("out", route(&receiver.url("/"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let events = [0, 1, 2].map(|_| engine.send("order.created", "{}"));
    events.iter().for_each(|it| drop(engine.ended(it, "out")));
    well.store(true, Ordering::SeqCst);
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/endpoints", engine.admin));
    browser.click("button", "Disable");
    browser.press("they asked for it");
    browser.click("dialog button", "Disable");
    browser.until("it to be disabled", "document.querySelector('.badge.disabled')");
    browser.until_text("they asked for it");
    browser.click("button", "Enable");
    browser.until("it to be enabled", "!document.querySelector('.badge.disabled')");
    browser.click("button", "Recover");
    browser.click("dialog button", "Recover");
    browser.until_text("3 sent again");
    eventually("three to be delivered", || {
        (engine.deliveries("status=delivered").len() == 3).then_some(())
    });
    browser.click("button", "Send test");
    browser.until("the test to be delivered", "document.querySelector('h1 .badge.delivered')");
    browser.until_text("plugpost.test");
    browser.nothing_went_wrong();
}

#[test]
fn hostile_text_stays_text_and_breaks_no_page() {
    let receiver = Receiver::start(|request| {
        // What came in comes back, as the response's body.
        Reply::status(400).with_body(request.body.clone())
    });
    let hub = Hub::new();
    hub.plugin("hostile")
        .route("out", route(&receiver.url("/<img src=x onerror=alert(1)>"), "", "schedule = []"));
    let engine = Engine::start(&hub);
    let strings = hostile_strings();
    assert_eq!(strings.len(), 500);
    for part in strings.chunks(20) {
        let event = json!({
            "specversion": "1.0", "id": part[0], "source": "/erp",
        "type": within(&printable(&part[0]), 256), "subject": within(&printable(&part[1]), 1024),
            "note": part[2],
            "data": { (part[3].as_str()): part[4], "all": part },
        });
        let headers = [("content-type", "application/cloudevents+json")];
        let answer = engine.post("/events", &headers, event.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    engine.drained();
    let reason = json!({ "reason": strings[1] }).to_string();
    let disabled =
        client::ask(engine.admin, "POST", "/v1/endpoints/out/disable", &[], reason.as_bytes());
    assert_eq!(disabled.status, 200, "{}", disabled.text());
    hub.write(
        "routes/wrong.toml",
        format!(
            "types = [{}]\n[endpoint]\nurl = \"<svg/onload=alert(1)>\"\n",
            Value::from("<script>alert(1)</script>*x")
        ),
    );
    client::ask(engine.admin, "POST", "/v1/reload", &[], b"").problem(422);

    let browser = Browser::open(360, false);
    let ids: Vec<_> = engine
        .deliveries("limit=500")
        .iter()
        .map(|it| (it["id"].clone(), it["event_id"].clone()))
        .collect();
    assert_eq!(ids.len(), 25);
    let base = format!("http://{}", engine.admin);
    for page in PAGES {
        browser.load(&format!("{base}{page}"));
        sound(&browser, page);
        browser.look(1280, false);
        sound(&browser, page);
        browser.look(360, false);
        if page == "/deliveries" {
            browser.picture("hostile-deliveries-phone");
        }
    }
    browser.load(&format!("{base}/deliveries"));
    for (delivery, event) in ids {
        for path in [
            format!("/deliveries/{}", delivery.as_str().expect("an id")),
            format!("/events/{}", event.as_str().expect("an id")),
        ] {
            // As a click on a link to it would.
            browser.run(&format!("const it = document.createElement('a'); it.href = '{path}'; document.body.append(it); it.click(); it.remove();"));
            browser.shown();
            sound(&browser, &path);
        }
    }
    browser.picture("hostile-event-phone");
    // What is searched for stands in the address, and is as hostile.
    for text in strings.iter().take(20) {
        let query = url_encoded(&within(text, 1000));
        browser.load(&format!("{base}/deliveries?search={query}&type={query}&route={query}"));
        sound(&browser, "a search");
    }
}

/// It runs nothing, refuses nothing, has no element of foreign making, and fits its window.
#[track_caller]
fn sound(browser: &Browser, page: &str) {
    browser.nothing_went_wrong();
    let found = browser.run(
        "return [document.querySelectorAll('script').length, document.querySelectorAll('img').length,
                 document.querySelectorAll('iframe, object, embed, base, [onerror], [onload], [onclick], [style*=url]').length,
                 document.documentElement.scrollWidth <= innerWidth]",
    );
    assert_eq!(found, json!([1, 1, 0, true]), "{page}");
}

/// Markup, controls, marks of direction, and length, of every kind with every other.
fn hostile_strings() -> Vec<String> {
    let cores = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "\"><script>alert(1)</script>",
        "' onmouseover='alert(1)",
        "javascript:alert(1)",
        "</title><script>alert(1)</script>",
        "<style>*{display:none}</style>",
        "<iframe src=javascript:alert(1)>",
        "<base href=//evil.example>",
        "{{constructor.constructor('alert(1)')()}}",
        "${alert(1)}",
        "<a href=javascript:alert(1)>x</a>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "<!--",
        "]]>",
        "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
        "<form action=//evil.example><button>",
        "\\u003cscript\\u003ealert(1)",
        "<meta http-equiv=refresh content=0;url=//evil.example>",
    ];
    let around: [(&str, &str); 25] = [
        ("", ""),
        ("\u{202e}", "\u{202c}"),
        ("\u{2066}", ""),
        ("\0", "\0"),
        ("\u{7}\u{8}", "\u{1b}[31m"),
        ("\r\n", "\r\n\r\n"),
        ("\u{200b}", "\u{feff}"),
        ("\u{85}\u{2028}", "\u{2029}"),
        ("\t", "\u{b}\u{c}"),
        ("\u{e0001}", "\u{e007f}"),
        ("ا\u{061c}", "\u{200f}ש"),
        ("Z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}", ""),
        ("\u{fdd0}\u{ffff}", ""),
        ("👩‍👩‍👧‍👦", "🏴‍☠️"),
        ("%3Cscript%3E", "%00"),
        ("\\", "\\\""),
        ("__proto__", "constructor"),
        ("'", "`"),
        ("﷽", "𒐫"),
        ("a/../../", "?#&="),
        ("toString", ""),
        ("\u{ad}", "\u{180e}"),
        ("\u{fff9}", "\u{fffb}"),
        ("W", ""),
        ("", "\u{338}"),
    ];
    let mut strings = Vec::new();
    for (at, (before, after)) in around.iter().enumerate() {
        for (which, core) in cores.iter().enumerate() {
            let text = format!("{before}{core}{after}");
            // Some very long, without a place to break.
            strings.push(if (at + which) % 7 == 3 {
                format!("{text}{}", "W".repeat(3000))
            } else {
                text
            });
        }
    }
    strings
}

/// Of a type and a subject the engine takes no controls; in data, anything.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "")
}

fn within(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|it| format!("%{it:02X}")).collect()
}

#[test]
fn every_page_is_read_by_day_by_night_and_on_a_phone() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/fails" => Reply::status(503).with_body("later"),
        _ => Reply::status(200).with_body("{\"ok\": true}"),
    });
    let hub = Hub::new();
    hub.plugin("nue").secret("key", "nue-secret-0123456789");
    hub.route("good", to(&receiver.url("/")));
    hub.route("bad", route(&receiver.url("/fails"), "", "schedule = []"));
    hub.route("slow", route(&receiver.url("/fails"), "", "schedule = [\"1h\"]"));
    let engine = Engine::start(&hub);
    let last = (0..12)
        .map(|it| {
            engine.send("order.created", format!("{{\"id\": \"ord_{it}\", \"total\": 12.50}}"))
        })
        .next_back();
    let last = last.expect("an event");
    let delivery = engine.ended(&last, "bad")["id"].as_str().expect("an id").to_owned();
    let disabled = client::ask(engine.admin, "POST", "/v1/endpoints/bad/disable", &[], b"");
    assert_eq!(disabled.status, 200);
    let of_one = [
        format!("/deliveries/{delivery}"),
        format!("/events/{last}"),
        "/deliveries?status=filtered".to_owned(),
    ];
    let browser = Browser::open(1280, false);
    for page in PAGES.map(str::to_owned).iter().chain(&of_one) {
        browser.load(&format!("http://{}{page}", engine.admin));
        let file = page.trim_matches('/').split(['/', '?']).next().unwrap_or_default();
        let file = if file.is_empty() { "overview" } else { file };
        let of_one = if page.contains('_') { "-one" } else { "" };
        for (width, dark, name) in LOOKS {
            browser.look(width, dark);
            browser.until("the window to have its width", &format!("innerWidth === {width}"));
            browser.picture(&format!("{file}{of_one}-{name}"));
            assert_eq!(browser.run(CONTRAST), json!([]), "{page}, {name}");
            assert_eq!(nameless(&browser), [""; 0], "{page}, {name}");
            let across = browser.run("return document.documentElement.scrollWidth");
            assert_eq!(across, width, "{page}, {name}");
        }
        browser.nothing_went_wrong();
    }
}

const LOOKS: [(u32, bool, &str); 4] = [
    (1280, false, "light"),
    (1280, true, "dark"),
    (360, false, "phone-light"),
    (360, true, "phone-dark"),
];

#[test]
fn what_is_faint_or_nameless_is_found() {
    let engine = Engine::start(&Hub::new());
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/deliveries", engine.admin));
    browser.run(
        "const it = document.querySelector('h1'); it.style.color = '#bbbbbb';
                 document.querySelector('input[type=search]').removeAttribute('aria-label');
                 document.querySelector('input[type=search]').removeAttribute('placeholder');",
    );
    assert_eq!(browser.run(CONTRAST).as_array().map(Vec::len), Some(1));
    assert_eq!(nameless(&browser), ["searchbox"]);
}

/// Text whose contrast with what is behind it is below 4.5.
const CONTRAST: &str = r#"
    const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
    const colour = (text) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = text;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((it, at) => it * a + below[at] * (1 - a));
    const behind = (element) => {
        if (!element) return colour(getComputedStyle(document.body).backgroundColor).slice(0, 3);
        const own = colour(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((it) => it / 255).map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let texts = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true }) || element.closest('noscript, script, .skip, option, :disabled')) continue;
        texts += 1;
        const style = getComputedStyle(element);
        const ground = behind(element);
        const ink = over(colour(element instanceof SVGElement ? style.fill : style.color), ground);
        const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) found.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    if (texts < 10) found.push(`only ${texts} texts`);
    return found;
"#;

/// The roles of what can be used but has no name, as the browser tells a screen reader.
fn nameless(browser: &Browser) -> Vec<String> {
    const ROLES: [&str; 8] =
        ["button", "link", "textbox", "searchbox", "combobox", "checkbox", "image", "dialog"];
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({}));
    let nodes = tree["nodes"].as_array().expect("nodes");
    let role = |it: &Value| it["role"]["value"].as_str().unwrap_or_default().to_owned();
    let of_use: Vec<_> = nodes
        .iter()
        .filter(|it| it["ignored"] == false && ROLES.contains(&role(it).as_str()))
        .collect();
    assert!(of_use.len() > 7, "{} that can be used", of_use.len());
    let has_name =
        |it: &Value| it["name"]["value"].as_str().is_some_and(|it| !it.trim().is_empty());
    of_use.into_iter().filter(|it| !has_name(it)).map(role).collect()
}

#[test]
fn a_reader_logs_in_sees_no_button_that_changes_something_and_is_refused() {
    let receiver = Receiver::ok();
    let tokens = "[[token]]\nname = \"looks\"\nsecret = { file = \"secrets/looks\" }\nscopes = [\"read\"]\n\
                  [[token]]\nname = \"runs\"\nsecret = { file = \"secrets/runs\" }\nscopes = [\"operate\"]\n";
    let hub = Hub::with("", tokens);
    hub.secret("looks", "looks-0123456789").secret("runs", "runs-0123456789");
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    engine.send("order.created", "{}");
    let base = format!("http://{}", engine.admin);
    let browser = Browser::open(1280, false);
    browser.load(&format!("{base}/endpoints"));
    browser.until("to be asked to log in", "location.pathname === '/login'");
    browser.shown();
    browser.picture("login");
    let log_in = |secret: &str| {
        browser.run("const it = document.getElementById('token'); it.value = ''; it.focus()");
        browser.press(&format!("{secret}{ENTER}"));
    };
    log_in("guess-0123456789");
    browser.until_text("no token that may read or operate is that one");
    log_in("looks-0123456789");
    browser.until("to be where one wanted to be", "location.pathname === '/endpoints'");
    browser.shown();
    browser.until("the endpoint", "document.querySelector('.endpoint')");
    let buttons = "return [...document.querySelectorAll('main button')].map((it) => it.innerText)";
    assert_eq!(browser.run(buttons), json!([]));
    assert_eq!(browser.run("return document.cookie"), "", "no script sees the cookie");
    let disable = "const [done] = [arguments[0]]; return fetch('/v1/endpoints/out/disable', { method: 'POST' }).then((it) => it.status)";
    assert_eq!(browser.run(disable), 403);
    browser.click("button", "Log out");
    browser.until("to be asked again", "location.pathname === '/login'");
    browser.shown();
    assert_eq!(browser.run("return fetch('/v1/events').then((it) => it.status)"), 401);
    log_in("runs-0123456789");
    browser.until("to be in", "location.pathname === '/'");
    browser.shown();
    assert_eq!(browser.run(disable), 200);
    // A token that is taken away takes its sessions with it.
    let file = hub.path().join("plugpost.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, text.split("[[token]]\nname = \"runs\"").next().expect("the start"))
        .expect("a file");
    eventually("the session to end", || {
        (browser.run("return fetch('/v1/events').then((it) => it.status)") == 401).then_some(())
    });
}

#[test]
fn nodes_that_serve_different_folders_are_told_apart_on_the_overview() {
    let url = postgres::shared().database();
    let hubs = [(); 2].map(|()| Hub::stored(Some(&url), "", ""));
    let engines = hubs.each_ref().map(Engine::start);
    let browser = Browser::open(1280, false);
    browser.load(&format!("http://{}/", engines[0].admin));
    browser.until("two that agree", "document.querySelectorAll('.nodes .badge.ok').length === 3");
    hubs[1].source("more", "tokens = [\"erp\"]");
    browser.until("one that differs", "document.querySelector('.nodes li .badge.failing')");
    browser.until_text("not the same folder");
    browser.shown();
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let receiver = Receiver::start(|_| {
        let page = "<!doctype html><title>elsewhere</title><p>elsewhere";
        Reply::status(200).with_header("content-type", "text/html").with_body(page)
    });
    let hub = Hub::new();
    hub.route("out", to(&receiver.url("/")));
    let engine = Engine::start(&hub);
    let browser = Browser::open(1280, false);
    // Another port of this machine is the same site and another origin; so is its other name.
    browser.run(&format!("location.href = '{}'", receiver.url("/")));
    browser.until("the other page", "document.title === 'elsewhere'");
    for host in [engine.admin.to_string(), format!("localhost:{}", engine.admin.port())] {
        let ask = |mode: &str, path: &str, method: &str| {
            browser.run(&format!(
                "return fetch('http://{host}{path}', {{ method: '{method}', mode: '{mode}' }}).then((it) => it.type, () => 'refused')"
            ))
        };
        // It is sent; the browser keeps the answer from the page.
        assert_eq!(ask("no-cors", "/v1/endpoints/out/disable", "POST"), "refused");
        assert_eq!(ask("cors", "/v1/deliveries", "GET"), "refused");
    }
    let endpoint = engine.get("/v1/endpoints").json()["data"][0].clone();
    assert_eq!(endpoint["disabled"], Value::Null);
    // The same from a page of ours does change it.
    browser.load(&format!("http://{}/endpoints", engine.admin));
    assert_eq!(
        browser.run(
            "return fetch('/v1/endpoints/out/disable', { method: 'POST' }).then((it) => it.status)"
        ),
        200
    );
}

/// `plugpost demo`, which stays up. Killed when it is dropped.
struct Demo {
    child: Child,
    admin: SocketAddr,
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let mut command = engine::command(Path::new(env!("CARGO_BIN_EXE_plugpost")));
        command
            .arg("demo")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let mut lines =
            BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let admin = lines.find_map(|line| {
            let (_, rest) = line.split_once("takes events in, http://")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let arrived = lines.any(|it| it.contains("5 of 5 deliveries arrived"));
        assert!(arrived, "the demo ended early");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, admin: admin.expect("the demo says where it listens") }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_script_makes_markup_of_text() {
    const MAKERS: [&str; 9] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "new Function",
        "setHTML",
        "createContextualFragment",
    ];
    let scripts = crate::support::files_below(&root().join("host/dashboard"), "js");
    assert!(scripts.len() > 15);
    for file in scripts {
        let text = fs::read_to_string(&file).expect("source is text");
        for maker in MAKERS {
            assert!(!text.contains(maker), "{} has {maker}", file.display());
        }
    }
}
