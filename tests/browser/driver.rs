//! A real browser: Chromium, told what to do in the words of W3C WebDriver. It tells what
//! went wrong in a page: scripts that ran, policies that were broken, errors.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::support::client::{self, Connection};
use crate::support::{eventually, root};

/// A browser with one window. Closed when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _alone: MutexGuard<'static, ()>,
}

/// In every page, before anything of it: what hostile text would call, and a record of what
/// was refused and what failed.
const RECORD: &str = "
    window.ran = [];
    window.refused = [];
    window.failed = [];
    window.alert = window.confirm = window.prompt = (text) => { window.ran.push(String(text)); };
    addEventListener('securitypolicyviolation', (it) => window.refused.push(
        `${it.violatedDirective} ${it.blockedURI} ${it.sample}`));
    addEventListener('error', (it) => window.failed.push(String(it.message ?? it.target?.src)), true);
    addEventListener('unhandledrejection', (it) => window.failed.push(String(it.reason)));
";

/// Far less than the minute after which a browser lets go of a page it has kept.
const LOADS_IN: Duration = Duration::from_secs(30);

/// Chromium's driver, and where it listens.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver is missing: apt-get install chromium chromium-driver");
    let lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
    let port = lines.map_while(Result::ok).find_map(|line| {
        line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
    });
    if port.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    Some((driver, port?))
}

impl Browser {
    /// A window of that width, in the dark or not.
    pub(crate) fn open(width: u32, dark: bool) -> Self {
        // One at a time: a browser takes what there is of a small machine.
        static ONE: Mutex<()> = Mutex::new(());
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // It finds itself a port and opens it a moment later: another may have it by then.
        let (driver, port) = (0..5).find_map(|_| start_driver()).expect("chromedriver starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Self { driver, address, session: String::new(), _alone: alone };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--disable-background-networking", "--disable-component-update", "--no-first-run",
                     "--window-size=1280,1000"],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" }, "unhandledPromptBehavior": "ignore" } } });
        let made = browser.ask("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": RECORD }));
        browser.look(width, dark);
        browser
    }

    /// Another width, another time of day.
    pub(crate) fn look(&self, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", feature);
        let height = if width < 500 { 780 } else { 900 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// Load a page, and wait until the dashboard has shown it.
    #[track_caller]
    pub(crate) fn load(&self, url: &str) {
        let begun = Instant::now();
        self.command("POST", "url", &json!({ "url": url }));
        // A browser opens six connections to one host: pages that were left must hold none.
        assert!(begun.elapsed() < LOADS_IN, "{url} took {:?}", begun.elapsed());
        self.shown();
    }

    /// The tab in front.
    pub(crate) fn tab(&self) -> Value {
        self.command("GET", "window", &Value::Null)
    }

    pub(crate) fn go_to_tab(&self, tab: &Value) {
        self.command("POST", "window", &json!({ "handle": tab }));
    }

    /// Another tab, in front of this one.
    pub(crate) fn another_tab(&self) {
        let made = self.command("POST", "window/new", &json!({ "type": "tab" }));
        self.go_to_tab(&made["handle"]);
    }

    /// Wait until the page of the address is there.
    pub(crate) fn shown(&self) {
        self.until(
            "the page to be shown",
            "document.getElementById('main')?.dataset.ready === location.pathname",
        );
    }

    /// What a function's body returns in the page.
    pub(crate) fn run(&self, body: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Wait until an expression holds in the page.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, expression: &str) {
        let holds = format!("return Boolean({expression})");
        eventually(what, || (self.run(&holds) == true).then_some(()));
    }

    #[track_caller]
    pub(crate) fn until_text(&self, text: &str) {
        let text = Value::from(text);
        self.until(
            &format!("the text {text}"),
            &format!("document.body.innerText.includes({text})"),
        );
    }

    /// Click where a person would, on the first that fits and holds the text.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str, text: &str) {
        let find = format!(
            "return [...document.querySelectorAll({})].find((it) => it.innerText.trim() === {})",
            Value::from(selector),
            Value::from(text)
        );
        eventually(&format!("{selector} with {text:?}"), || {
            let found = self.run(&find);
            let element = found.as_object()?.values().next()?.as_str()?;
            let path = format!("/session/{}/element/{element}/click", self.session);
            let (status, said) = self.answer("POST", &path, &json!({}));
            // The page was made anew since it was found.
            if said["error"] == "stale element reference" {
                return None;
            }
            assert_eq!(status, 200, "{path}: {}", said["message"]);
            Some(())
        });
    }

    /// Keys, one after the other, for whatever has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        let keyboard =
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.command("POST", "actions", &keyboard);
    }

    /// A picture of the window, kept in target/browser.
    pub(crate) fn picture(&self, name: &str) {
        let folder = root().join("target/browser");
        fs::create_dir_all(&folder).expect("a folder");
        let encoded = self.command("GET", "screenshot", &Value::Null);
        let png = BASE64_STANDARD.decode(encoded.as_str().expect("a picture")).expect("base64");
        fs::write(folder.join(name).with_extension("png"), png).expect("a file");
    }

    /// A command of Chromium's own.
    pub(crate) fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Nothing of what was shown ran, was refused by the policy, or failed.
    #[track_caller]
    pub(crate) fn nothing_went_wrong(&self) {
        let wrong = self.run("return [...window.ran, ...window.refused, ...window.failed]");
        assert_eq!(wrong, json!([]), "at {}", self.run("return location.href"));
        let log = self.command("POST", "se/log", &json!({ "type": "browser" }));
        // A question that the engine refuses is its affair; the page shows the refusal.
        let refused = |it: &&Value| {
            let text = it.as_str().unwrap_or_default();
            text.contains("a status of 400") || text.contains("a status of 422")
        };
        let said = log.as_array().into_iter().flatten().map(|it| &it["message"]);
        let said: Vec<_> = said.filter(|it| !refused(it)).collect();
        assert!(said.is_empty(), "{said:?}");
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}/{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, said) = self.answer(method, path, body);
        assert_eq!(status, 200, "{path}: {}", said["message"]);
        said
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("content-type", "application/json")];
        let answer = client::ask(self.address, method, path, &headers, &body);
        (answer.status, answer.json()["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without this, the browser would go on without its driver.
        if let Ok(mut connection) = Connection::open(self.address) {
            let _ = connection.ask("DELETE", &format!("/session/{}", self.session), &[], b"");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
