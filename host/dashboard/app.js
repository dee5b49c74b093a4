// The frame: which page an address is, who looks at it, and the way between pages.

import { get, post, Refused } from "./api.js";
import { h, replace } from "./dom.js";
import { help, keys } from "./keys.js";
import { empty, when } from "./parts.js";
import * as deliveries from "./pages/deliveries.js";
import * as delivery from "./pages/delivery.js";
import * as endpoints from "./pages/endpoints.js";
import * as event from "./pages/event.js";
import * as events from "./pages/events.js";
import * as login from "./pages/login.js";
import * as overview from "./pages/overview.js";
import * as plugins from "./pages/plugins.js";
import * as portal from "./pages/portal.js";
import * as routes from "./pages/routes.js";
import * as subscription from "./pages/subscription.js";
import * as subscriptions from "./pages/subscriptions.js";
import * as tail from "./pages/tail.js";

const PAGES = [
  [/^\/$/, overview],
  [/^\/login$/, login],
  [/^\/portal$/, portal],
  [/^\/deliveries$/, deliveries],
  [/^\/deliveries\/([^/]+)$/, delivery],
  [/^\/events$/, events],
  [/^\/events\/([^/]+)$/, event],
  [/^\/tail$/, tail],
  [/^\/routes$/, routes],
  [/^\/subscriptions$/, subscriptions],
  [/^\/subscriptions\/([^/]+)$/, subscription],
  [/^\/endpoints$/, endpoints],
  [/^\/plugins$/, plugins],
];

const NAV = [
  ["/", "Overview"], ["/deliveries", "Deliveries"], ["/events", "Events"], ["/tail", "Live tail"],
  ["/routes", "Routes"], ["/subscriptions", "Subscriptions"], ["/endpoints", "Endpoints"], ["/plugins", "Plugins"],
];

// Pages without a session, and pages about all tenants together.
const OPEN = [login, portal];
const OF_THE_ENGINE = ["/plugins"];

const main = document.getElementById("main");
let current = new AbortController();
let session = null;

// Go to an address of the dashboard; the page is there when this is done.
export async function go(to, { replaced = false } = {}) {
  history[replaced ? "replaceState" : "pushState"](null, "", to);
  scrollTo(0, 0);
  await show(true);
}

async function show(moved) {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const path = location.pathname;
  const [pattern, page] = PAGES.find(([it]) => it.test(path)) ?? [null, null];
  for (const link of document.querySelectorAll("#nav a")) {
    const root = link.getAttribute("href");
    const here = root === "/" ? path === "/" : path === root || path.startsWith(`${root}/`);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    if (OPEN.includes(page)) session = null;
    else await enter(signal);
    if (OF_THE_ENGINE.includes(path) && !session?.engine) throw new Error("This page is about all tenants together.");
    const root = h("div", { class: "page" });
    const query = Object.fromEntries(new URLSearchParams(location.search));
    const place = { root, signal, query, session, go, id: pattern?.exec(path)[1] };
    const title = page.title(place);
    document.title = `${title} · Plugpost`;
    await page.show(place);
    if (signal.aborted) return;
    replace(main, root);
    main.dataset.ready = path;
    if (moved && !root.contains(document.activeElement)) root.querySelector("h1")?.focus({ preventScroll: true });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error instanceof Refused && error.status === 401 && !OPEN.includes(page)) {
      session = null;
      const from = `${path}${location.search}`;
      await go(from === "/" ? "/login" : `/login?${new URLSearchParams({ from })}`, { replaced: true });
      return;
    }
    replace(main, h("div", { class: "page" }, h("h1", { tabindex: -1 }, "This did not work"),
      empty(error.message, "The engine may be starting or stopping, or there is nothing at this address.")));
    main.dataset.ready = path;
  }
}

// Who looks: a reader is not shown what only an operator may do.
async function enter(signal) {
  session ??= await get("/v1/session", signal);
  const end = document.getElementById("side-end");
  for (const link of document.querySelectorAll("#nav a")) {
    link.hidden = !session.engine && OF_THE_ENGINE.includes(link.getAttribute("href"));
  }
  const who = session.token ? h("span", { title: "the token you logged in with" }, session.token)
    : session.until && h("span", { title: "the tenant that your link shows" }, session.tenant, h("small", {}, "ends ", when(session.until)));
  replace(end,
    h("button", { type: "button", class: "quiet", click: help }, "Keyboard ", h("kbd", {}, "?")),
    who && h("div", { class: "who" }, who, session.token && !session.engine && h("span", { title: "the tenant of your token" }, session.tenant),
      h("button", { type: "button", class: "quiet", click: leave }, "Log out")));
}

async function leave() {
  await post("/logout", {});
  session = null;
  replace(document.getElementById("side-end"));
  await go("/login");
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  const plainly = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plainly || link.target || link.pathname === "/openapi.json") return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => show(true));

replace(document.getElementById("nav"), NAV.map(([href, name]) => h("a", { href }, name)));
keys(go);
show(false);
