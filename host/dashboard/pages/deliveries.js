// Deliveries: found by what the address says, kept up to date as attempts happen.

import { get, query as asQuery } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { follow } from "../live.js";
import { badge, button, empty, head, row, select, sendCommand, table, when } from "../parts.js";

export const title = () => "Deliveries";

const SINCE = [["", "Any time"], ["15m", "15 minutes"], ["1h", "Hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const STATUS = [["", "Any status"], ["pending", "Pending"], ["delivered", "Delivered"], ["filtered", "Filtered"], ["dead", "Dead"]];
const SECONDS = { "15m": 900, "1h": 3600, "24h": 86400, "7d": 604800 };

export function since(name) {
  return SECONDS[name] && new Date(Date.now() - SECONDS[name] * 1000).toISOString();
}

// What a person searches for is an id, a subject, or words of an error: asked in that order.
export function searches(text) {
  if (!text) return [{}];
  if (/^(dlv|evt)_/.test(text)) return [{ q: text }];
  return [{ subject: text }, { q: text }];
}

export async function show({ root, signal, query, go }) {
  const form = await filters(query, signal, go);
  const list = table("Deliveries", COLUMNS);
  const none = h("div", {});
  const more = h("div", { class: "more-box" });
  let older = [];
  let cursor = null;

  const page = async (after) => {
    const of = { status: query.status, type: query.type, route: query.route, source: query.source, since: since(query.since), cursor: after };
    for (const search of searches(query.search)) {
      try {
        const found = await get(`/v1/deliveries?${asQuery({ ...of, ...search })}`, signal);
        if (found.data.length > 0 || after) return found;
      } catch (error) {
        // Too short to be the start of an id, or no word: then nothing has it.
        if (error.status !== 400 || !search.q) throw error;
      }
    }
    return { data: [], next: null };
  };
  const refresh = async () => {
    const found = await page(null);
    const ids = new Set(found.data.map((it) => it.id));
    if (older.length === 0) cursor = found.next;
    const rows = [...found.data, ...older.filter((it) => !ids.has(it.id))];
    reconcile(list.body, rows, (it) => it.id, deliveryRow);
    list.element.hidden = rows.length === 0;
    replace(none, rows.length > 0 ? null : nothing(query));
    replace(more, cursor && button("Older", async () => {
      const next = await page(cursor);
      older = [...rows, ...next.data];
      cursor = next.next;
      await refresh();
    }));
  };
  replace(root, head("Deliveries", h("span", { class: "live", title: "attempts are shown as they happen" }, "Live")), form, list.element, none, more);
  await follow(signal, refresh);
}

async function filters(query, signal, go) {
  const routes = await get("/v1/routes?limit=500", signal);
  const names = routes.data.map((it) => it.name);
  if (query.route && !names.includes(query.route)) names.push(query.route);
  const change = () => {
    const given = asQuery(Object.fromEntries(new FormData(form)));
    const focused = document.activeElement?.name;
    go(given ? `/deliveries?${given}` : "/deliveries", { replaced: true })
      .then(() => focused && document.querySelector(`.filters [name="${focused}"]`)?.focus());
  };
  const form = h("form", { class: "filters", role: "search", submit: (event) => {
    event.preventDefault();
    change();
  } },
  h("input", { type: "search", name: "search", "data-search": true, "aria-label": "Search by id, subject or error", placeholder: "Id, subject or words of an error", value: query.search ?? "", autocomplete: "off" }),
  select("status", "Status", STATUS, query.status, change),
  select("route", "Route", [["", "Any route"], ...names.map((it) => [it, it])], query.route, change),
  h("input", { name: "type", "aria-label": "Event type", placeholder: "Type, such as order.*", value: query.type ?? "", change }),
  h("input", { name: "source", "aria-label": "Source", placeholder: "Source", value: query.source ?? "", change, class: "short" }),
  select("since", "Since", SINCE, query.since, change),
  // Without it, Enter would not submit a form of several fields.
  h("button", { type: "submit", class: "unseen-text", tabindex: -1 }, "Search"),
  Object.keys(query).length > 0 && h("a", { href: "/deliveries", class: "clear" }, "Clear"));
  return form;
}

function nothing(query) {
  if (Object.keys(query).length > 0) {
    return empty("Nothing fits", "Subjects and ids are compared whole, an error by its words. A type may end in a star: order.*");
  }
  return empty("No deliveries yet", "An event that a route takes becomes a delivery. Send one:", sendCommand());
}

export const COLUMNS = [["Status"], ["Event"], ["Route", "wide"], ["Attempts", "number wide"], ["Last", "wide"], ["Created", "end"]];

export function deliveryRow(it) {
  const last = it.last_error ?? (it.last_status_code ? String(it.last_status_code) : "");
  return row(h("tr", {},
    h("td", { class: "cell-status" }, badge(it.status)),
    h("td", { class: "cell-main" },
      h("a", { class: "row-link", href: `/deliveries/${it.id}` }, it.type),
      h("small", {}, it.subject ? h("bdi", { class: "mono", title: it.subject }, it.subject) : h("span", { class: "mono" }, it.id))),
    h("td", { class: "cell-route wide" }, h("span", {}, it.route), h("small", { title: it.endpoint }, it.endpoint)),
    h("td", { class: "number wide" }, String(it.attempts)),
    h("td", { class: `cell-last wide ${it.last_error ? "is-error" : ""}`, title: last }, last || "–"),
    h("td", { class: "cell-when end" }, when(it.created_at),
      it.status === "pending" && it.next_attempt_at && it.attempts > 0 ? h("small", {}, "next ", when(it.next_attempt_at)) : null)));
}
