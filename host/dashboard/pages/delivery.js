// One delivery: the event, what the plugins made of it, every attempt, and what can be done.

import { get, post } from "../api.js";
import { diff } from "../diff.js";
import { h, replace, text } from "../dom.js";
import { indented, milliseconds } from "../format.js";
import { follow } from "../live.js";
import { ask, badge, button, code, copy, facts, head, link, toast, when } from "../parts.js";

export const title = ({ id }) => id;

export async function show({ root, signal, id, session, go }) {
  const path = `/v1/deliveries/${encodeURIComponent(id)}`;
  let delivery = await get(path, signal);
  const event = await get(`/v1/events/${delivery.event_id}`, signal);
  const top = h("div", { class: "stack" });
  const made = h("section", {});
  const attempts = h("div", { class: "attempts" });
  const resend = (as_new) => async () => {
    const sent = await post(`${path}/resend`, { as_new });
    toast(as_new ? `Sent again as a new event, ${sent.event_id}` : "Sent again, as a new delivery");
    await go(`/deliveries/${sent.id}`);
  };
  const cancel = async () => {
    const sure = await ask("Cancel this delivery?", "It becomes a dead letter and is not tried again by itself. It can be resent.", null, "Cancel the delivery", "danger");
    if (!sure) return;
    await post(`${path}/cancel`, {});
    await refresh();
  };
  let shown = "";
  const refresh = async () => {
    delivery = await get(path, signal);
    const version = JSON.stringify(delivery);
    if (version === shown) return;
    shown = version;
    const actions = session.operate && [
      delivery.status === "pending" && button("Cancel", cancel, { class: "button danger" }),
      button("Resend as new", resend(true), { title: "With a new event id, so that the receiver does not take it for a duplicate" }),
      button("Resend", resend(false), { class: "button primary", "data-key-r": true }),
    ];
    replace(top, head([delivery.type, " ", badge(delivery.status)], actions), about(delivery));
    const last = delivery.attempts.findLast((it) => it.request);
    replace(made, h("h2", {}, "What the plugins made of it"), comparison(event, last));
    const open = new Map([...attempts.children].map((it) => [it.dataset.number, it.open]));
    const items = delivery.attempts.toReversed().map((it, at) => attempt(it, open.get(String(it.number)) ?? at === 0, event));
    replace(attempts, items.length > 0 ? items : h("p", { class: "quiet-text" },
      delivery.status === "filtered" ? "None: a filter declined the event." : "None yet."));
  };
  replace(root,
    h("nav", { class: "crumbs", "aria-label": "Where this is" }, link("/deliveries", "Deliveries"), h("span", { class: "mono" }, delivery.id)),
    top, made, h("section", {}, h("h2", {}, "Attempts"), attempts));
  await follow(signal, refresh, { every: 3000, pause: 150, concerns: (it) => it.delivery_id === id });
}

function about(it) {
  const failed = it.last_error && it.status !== "delivered";
  return [
    failed && h("div", { class: `callout ${it.status}` }, h("strong", {}, it.status === "dead" ? "Given up: " : "Not yet: "), it.last_error),
    facts([
      ["Delivery", h("span", { class: "mono" }, it.id), copy(it.id, "Copy the delivery's id")],
      ["Event", link(`/events/${it.event_id}`, h("span", { class: "mono" }, it.event_id))],
      it.subject !== null && ["Subject", link(`/deliveries?${new URLSearchParams({ search: it.subject })}`, h("bdi", { class: "mono" }, it.subject))],
      ["Source", it.source],
      ["Route", link(`/deliveries?${new URLSearchParams({ route: it.route })}`, it.route)],
      ["Endpoint", h("bdi", { class: "mono" }, it.endpoint)],
      ["Created", when(it.created_at)],
      it.next_attempt_at && ["Next attempt", when(it.next_attempt_at)],
    ]),
  ];
}

function comparison(event, last) {
  if (event.data_pruned) return h("p", { class: "quiet-text" }, "The data is gone: store.retention_payloads has taken it.");
  if (event.data === undefined) return h("p", { class: "quiet-text" }, "The data is not text; the event's page has it in base64.");
  if (!last) return [h("p", { class: "quiet-text" }, "Nothing was sent yet. The event's data:"), code(event.data, "Event data")];
  if (last.request.body === null || last.request.body === event.data) {
    return [h("p", { class: "quiet-text" }, "The body went out as it came in, byte for byte."), code(event.data, "Event data, as sent")];
  }
  const lines = (it) => (indented(it) ?? it).split("\n");
  const [left, right] = [lines(event.data), lines(last.request.body)];
  const pairs = event.data.length + last.request.body.length < 400_000 ? diff(left, right) : null;
  const same = pairs?.every(([a, b]) => a === b);
  const columns = h("div", { class: "diff-head" }, h("span", {}, "Event data, as received"), h("span", {}, `Body of attempt ${last.number}, as sent`));
  if (!pairs) return h("div", { class: "halves" }, code(event.data, "Event data"), code(last.request.body, "Sent body"));
  return [
    same && h("p", { class: "quiet-text" }, "The same JSON; only white space differs."),
    h("div", { class: "diff", role: "region", tabindex: 0, "aria-label": "Event data beside the sent body" }, columns, folded(pairs)),
  ];
}

// Long runs without a change are shown when they are asked for.
const AROUND = 3;

function folded(pairs) {
  const near = new Uint8Array(pairs.length);
  pairs.forEach(([a, b], at) => {
    if (a !== b) near.fill(1, Math.max(0, at - AROUND), at + AROUND + 1);
  });
  const all = !near.includes(1);
  const out = [];
  let at = 0;
  while (at < pairs.length) {
    let end = at;
    while (end < pairs.length && near[end] === near[at]) end += 1;
    const part = pairs.slice(at, end);
    if (near[at] || part.length < 8 || all) out.push(part.map(pair));
    else {
      const more = h("button", { type: "button", class: "diff-more", click: () => more.replaceWith(...part.map(pair)) }, `${part.length} lines without a change`);
      out.push(more);
    }
    at = end;
  }
  return out;
}

function pair([left, right]) {
  const side = (line, kind, sign) => h("span", { class: line === null ? "gap" : kind }, line === null ? "" : [h("i", { "aria-hidden": "true" }, sign), text(line, true)]);
  const same = left === right;
  return h("div", { class: same ? "pair same" : "pair" },
    side(left, same ? "kept" : "gone", same ? " " : "−"), side(right, same ? "kept" : "come", same ? " " : "+"));
}

function attempt(it, open, event) {
  const good = it.outcome === "delivered";
  const request = it.request;
  return h("details", { class: "attempt", open, "data-number": it.number },
    h("summary", {},
      h("span", { class: "attempt-number" }, `#${it.number}`),
      badge(good ? "delivered" : it.outcome === "retry" ? "pending" : "dead", it.outcome),
      h("span", { class: "attempt-code" }, it.status_code ?? it.error_code ?? ""),
      h("span", { class: "attempt-error" }, it.error ?? ""),
      h("span", { class: "attempt-took" }, milliseconds(it.duration_us / 1000)),
      when(it.started_at)),
    it.error && h("p", { class: "attempt-why" }, it.error),
    h("div", { class: "halves" },
      h("section", {}, h("h3", {}, "Request"), request
        ? [h("p", { class: "mono request-line" }, h("b", {}, request.method), " ", request.url), headers(request.headers),
          request.body === null
            ? h("p", { class: "quiet-text" }, event.data_pruned ? "The body was pruned." : "The body is the event's data, unchanged.")
            : code(request.body, `Body of attempt ${it.number}`)]
        : h("p", { class: "quiet-text" }, "There was none: a plugin failed before.")),
      h("section", {}, h("h3", {}, "Response"),
        it.status_code ? h("p", { class: "mono request-line" }, h("b", {}, String(it.status_code))) : h("p", { class: "quiet-text" }, "None."),
        it.response_excerpt ? code(it.response_excerpt, `Response to attempt ${it.number}`) : it.status_code && h("p", { class: "quiet-text" }, "Its body was empty."),
        h("h3", {}, "Made with"),
        h("p", { class: "pills" }, it.plugins.map((plugin) => h("span", { class: "pill" }, plugin)), h("span", { class: "pill" }, `snapshot ${it.snapshot}`)))));
}

function headers(list) {
  return h("dl", { class: "headers" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
