// Events: what came in, newest first.

import { get, query as asQuery } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { follow } from "../live.js";
import { button, empty, head, row, select, sendCommand, table, when } from "../parts.js";
import { since } from "./deliveries.js";

export const title = () => "Events";

const SINCE = [["", "Any time"], ["15m", "15 minutes"], ["1h", "Hour"], ["24h", "24 hours"], ["7d", "7 days"]];

export async function show({ root, signal, query, go }) {
  const list = table("Events", [["Event"], ["Subject", "wide"], ["Source"], ["Received", "end"]]);
  const none = h("div", {});
  const more = h("div", { class: "more-box" });
  let older = [];
  let cursor = null;
  const page = (after) => {
    const search = /^evt_/.test(query.search ?? "") ? { q: query.search } : { subject: query.search };
    return get(`/v1/events?${asQuery({ type: query.type, source: query.source, since: since(query.since), cursor: after, ...search })}`, signal);
  };
  const refresh = async () => {
    const found = await page(null);
    const ids = new Set(found.data.map((it) => it.id));
    if (older.length === 0) cursor = found.next;
    const rows = [...found.data, ...older.filter((it) => !ids.has(it.id))];
    reconcile(list.body, rows, (it) => it.id, eventRow);
    list.element.hidden = rows.length === 0;
    replace(none, rows.length > 0 ? null : Object.keys(query).length > 0
      ? empty("Nothing fits", "A subject is compared whole; a type may end in a star: order.*")
      : empty("No event has come in yet", "Send the first one; a source's name is its file's name in sources/.", sendCommand()));
    replace(more, cursor && button("Older", async () => {
      const next = await page(cursor);
      older = [...rows, ...next.data];
      cursor = next.next;
      await refresh();
    }));
  };
  replace(root, head("Events"), filters(query, go), list.element, none, more);
  await follow(signal, refresh, { every: 5000 });
}

function filters(query, go) {
  const change = () => {
    const given = asQuery(Object.fromEntries(new FormData(form)));
    const focused = document.activeElement?.name;
    go(given ? `/events?${given}` : "/events", { replaced: true })
      .then(() => focused && document.querySelector(`.filters [name="${focused}"]`)?.focus());
  };
  const form = h("form", { class: "filters", role: "search", submit: (event) => {
    event.preventDefault();
    change();
  } },
  h("input", { type: "search", name: "search", "data-search": true, "aria-label": "Search by id or subject", placeholder: "Id or subject", value: query.search ?? "", autocomplete: "off" }),
  h("input", { name: "type", "aria-label": "Event type", placeholder: "Type, such as order.*", value: query.type ?? "", change }),
  h("input", { name: "source", "aria-label": "Source", placeholder: "Source", value: query.source ?? "", change, class: "short" }),
  select("since", "Since", SINCE, query.since, change),
  // Without it, Enter would not submit a form of several fields.
  h("button", { type: "submit", class: "unseen-text", tabindex: -1 }, "Search"),
  Object.keys(query).length > 0 && h("a", { href: "/events", class: "clear" }, "Clear"));
  return form;
}

function eventRow(it) {
  return row(h("tr", {},
    h("td", { class: "cell-main" }, h("a", { class: "row-link", href: `/events/${it.id}` }, it.type), h("small", { class: "mono" }, it.id)),
    h("td", { class: "wide cell-route" }, h("bdi", { class: "mono", title: it.subject ?? "" }, it.subject ?? "–")),
    h("td", { class: "cell-status" }, it.source),
    h("td", { class: "cell-when end" }, when(it.received_at))));
}
