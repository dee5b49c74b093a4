// The live tail: attempts as they happen, newest first.

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { clock, exact, milliseconds } from "../format.js";
import { listen } from "../live.js";
import { badge, button, empty, head, row, select, table } from "../parts.js";

export const title = () => "Live tail";

// Older ones go: the log has them.
const ROWS_MAX = 300;

const STATUS = [["", "Any status"], ["delivered", "Delivered"], ["pending", "Pending"], ["dead", "Dead"]];

export async function show({ root, signal, query, go }) {
  const routes = await get("/v1/routes?limit=500", signal);
  const list = table("Attempts", [["Time"], ["Outcome"], ["Event"], ["Route", "wide"], ["Answer", "wide"], ["Took", "number"]]);
  const none = h("div", {}, empty("Waiting for an attempt", "Whatever is attempted from now on is shown here, as it happens. The same in a terminal:", "plugpost tail"));
  let paused = false;
  let held = [];
  const change = () => {
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
    go(given ? `/tail?${given}` : "/tail", { replaced: true });
  };
  const form = h("form", { class: "filters", submit: (event) => event.preventDefault() },
    select("status", "Status", STATUS, query.status, change),
    select("route", "Route", [["", "Any route"], ...routes.data.map((it) => [it.name, it.name])], query.route, change));
  const pause = button("Pause", () => {
    paused = !paused;
    pause.firstChild.textContent = paused ? "Continue" : "Pause";
    if (!paused) put(held.splice(0));
  });
  const put = (rows) => {
    replace(none);
    list.element.hidden = false;
    list.body.prepend(...rows.reverse());
    while (list.body.children.length > ROWS_MAX) list.body.lastElementChild.remove();
  };
  // Many at once are put in one go, before the next frame.
  let coming = [];
  const soon = (element) => {
    coming.push(element);
    coming = coming.slice(-ROWS_MAX);
    if (coming.length > 1) return;
    setTimeout(() => {
      if (paused) held = [...held, ...coming].slice(-ROWS_MAX);
      else put(coming);
      coming = [];
    }, 50);
  };
  replace(root, head("Live tail", h("span", { class: "live" }, "Live"), pause,
    button("Clear", () => list.body.replaceChildren())), form, list.element, none);
  list.element.hidden = true;
  listen(signal, (kind, it) => {
    if (kind === "lagged") soon(h("tr", {}, h("td", { colspan: 6, class: "none" }, `${it.missed ?? "Some"} attempts were too fast to show; the log has them`)));
    if (kind !== "attempt") return;
    if ((query.route && it.route !== query.route) || (query.status && it.status !== query.status)) return;
    soon(attempted(it));
  }, { always: true });
}

function attempted(it) {
  return row(h("tr", {},
    h("td", { class: "mono cell-time", title: exact(it.started_at) }, clock(it.started_at)),
    h("td", { class: "cell-status" }, badge(it.status, it.outcome)),
    h("td", { class: "cell-main" }, h("a", { class: "row-link", href: `/deliveries/${it.delivery_id}` }, it.type), it.subject && h("small", {}, h("bdi", { class: "mono" }, it.subject))),
    h("td", { class: "wide cell-route" }, it.route, h("small", {}, it.url ?? "")),
    h("td", { class: `wide cell-last ${it.error ? "is-error" : ""}`, title: it.error ?? "" }, it.error ?? it.status_code ?? "–"),
    h("td", { class: "number" }, milliseconds(it.duration_us / 1000))));
}
