// How it goes: attempts, success, latency and backlog over time, and what is wrong now.

import { get } from "../api.js";
import { chart } from "../chart.js";
import { h, reconcile, replace } from "../dom.js";
import { count, milliseconds, percent } from "../format.js";
import { follow } from "../live.js";
import { badge, empty, head, link, row, sendCommand, when } from "../parts.js";

export const title = () => "Overview";

const WINDOWS = [["15m", "15 minutes"], ["24h", "24 hours"]];

export async function show({ root, signal, session, query, go }) {
  const window = query.window === "24h" ? "24h" : "15m";
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Window" }, WINDOWS.map(([it, word]) =>
    h("button", { type: "button", "aria-pressed": String(it === window), click: () => go(it === "15m" ? "/" : `/?window=${it}`, { replaced: true }) }, word)));
  // Latency is measured of all tenants together.
  const cards = {
    rate: card("Attempts", "per second", rate),
    success: card("Success", "of attempts", percent),
    latency: card("Latency", "p50 · p99", milliseconds),
    backlog: card("Backlog", "deliveries that wait", count),
  };
  const dead = h("ul", { class: "brief" });
  const endpoints = h("ul", { class: "brief" });
  const start = h("div", {});
  const nodes = h("div", {});
  replace(root, head("Overview", tabs), start,
    h("div", { class: "cards" }, Object.values(cards).filter((it) => session.engine || it !== cards.latency).map((it) => it.element)),
    h("div", { class: "halves" },
      h("section", {}, h("div", { class: "section-head" }, h("h2", {}, "Dead letters"), link("/deliveries?status=dead", "All")), dead),
      h("section", {}, h("div", { class: "section-head" }, h("h2", {}, "Endpoints"), link("/endpoints", "All")), endpoints)),
    nodes);
  await follow(signal, () => refresh(window, signal, session, cards, dead, endpoints, start, nodes), { pause: 1000, every: 5000 });
}

function rate(value) {
  return value >= 100 ? count(Math.round(value)) : String(Math.round(value * 100) / 100);
}

function card(name, unit, show) {
  const value = h("span", { class: "card-value" }, "–");
  const drawing = chart(name, show);
  const element = h("section", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, name), h("span", { class: "card-unit" }, unit)), value, drawing.element);
  return { element, value, drawing };
}

async function refresh(window, signal, session, cards, dead, endpoints, start, nodes) {
  const [stats, letters, lanes, cluster] = await Promise.all([
    get(`/v1/stats?window=${window}`, signal),
    get("/v1/deliveries?status=dead&limit=8", signal),
    get("/v1/endpoints?limit=500", signal),
    session.engine ? get("/v1/nodes", signal) : null,
  ]);
  const data = stats.data;
  const at = data.map((it) => it.at);
  const sum = (name, of = data) => of.reduce((total, it) => total + it[name], 0);
  const step = stats.interval_s;
  // Nothing is known of the time before the process began.
  const begun = Date.parse(stats.counted_since) - step * 1000;
  const counted = (name) => data.map((it) => (Date.parse(it.at) > begun ? it[name] / step : null));
  cards.rate.drawing.set(at, [
    { name: "delivered", kind: "good", area: true, values: counted("delivered") },
    { name: "failed", kind: "bad", area: true, values: counted("failed") },
  ]);
  // The last interval is under way.
  const lately = data.slice(-7, -1).filter((it) => Date.parse(it.at) >= Date.parse(stats.counted_since));
  replace(cards.rate.value, rate(lately.length > 0 ? sum("attempts", lately) / (lately.length * step) : sum("attempts") / step), h("small", {}, "/s"),
    h("span", { class: "card-more" }, `${count(sum("attempts"))} in all`));
  const success = (it) => (it.attempts === 0 ? null : it.delivered / it.attempts);
  cards.success.drawing.set(at, [{ name: "success", kind: "good", area: true, values: data.map(success) }], 1);
  const attempts = sum("attempts");
  replace(cards.success.value, attempts === 0 ? "–" : percent(sum("delivered") / attempts),
    h("span", { class: "card-more" }, `${count(sum("failed"))} failed`));
  cards.latency.drawing.set(at, [
    { name: "p99", kind: "second", values: data.map((it) => it.p99_ms) },
    { name: "p50", kind: "first", values: data.map((it) => it.p50_ms) },
  ]);
  const known = data.findLast((it) => it.p50_ms !== null);
  replace(cards.latency.value, milliseconds(known?.p50_ms), known && h("span", { class: "card-more" }, `p99 ${milliseconds(known.p99_ms)}`));
  cards.backlog.drawing.set(at, [{ name: "waiting", kind: "wait", area: true, values: stats.backlog_over_time }]);
  replace(cards.backlog.value, count(stats.backlog), h("span", { class: "card-more" }, `${count(stats.attempts_under_way)} under way`));

  if (letters.data.length === 0) replace(dead, h("li", { class: "brief-none" }, "None. What is given up is listed here, and can be sent again."));
  else reconcile(dead, letters.data, (it) => it.id, letter);
  const worst = { disabled: 0, resting: 1, failing: 2, ok: 3 };
  const sorted = lanes.data.sort((a, b) => worst[a.health] - worst[b.health] || b.backlog - a.backlog);
  if (sorted.length === 0) replace(endpoints, h("li", { class: "brief-none" }, session.engine ? "No route yet: write routes/NAME.toml, and it is here a moment later." : "No route yet: make a subscription, and it is here at once."));
  else reconcile(endpoints, sorted.slice(0, 8), (it) => it.route, lane);
  if (!session.engine) return;
  replace(nodes, cluster.data.length > 1 && together(cluster));
  await first(start, attempts, signal);
}

// The engines on one database; one alone is not worth a word.
function together({ data, disagree_since: since }) {
  return h("section", { class: "nodes" },
    h("div", { class: "section-head" }, h("h2", {}, "Nodes"),
      since ? h("span", {}, badge("failing", "not the same folder"), " since ", when(since)) : badge("ok", "the same folder")),
    h("ul", { class: "brief" }, data.map(node)));
}

function node(it) {
  const [kind, word] = !it.alive ? ["dead", "silent"] : it.differs ? ["failing", "differs"] : ["ok", "ok"];
  return h("li", {},
    badge(kind, word),
    h("span", { class: "brief-main" }, it.name, h("small", {}, `node ${it.number}, ${it.version ?? "–"}, folder ${it.snapshot?.slice(0, 12) ?? "–"}`)),
    h("span", { class: "brief-end" }, "since ", when(it.snapshot_since), ", seen ", when(it.seen_at)));
}

function letter(it) {
  return row(h("li", {},
    badge("dead"),
    h("a", { class: "row-link brief-main", href: `/deliveries/${it.id}` }, it.type, h("small", {}, it.last_error ?? "")),
    h("span", { class: "brief-end" }, it.route, " ", when(it.created_at))));
}

function lane(it) {
  return row(h("li", {},
    badge(it.health),
    h("a", { class: "row-link brief-main", href: "/endpoints" }, it.route, h("small", {}, it.url)),
    h("span", { class: "brief-end" }, it.backlog > 0 ? `${count(it.backlog)} wait` : percent(it.success_ratio_5m))));
}

// Until there is an event, say how to send one.
async function first(start, attempts, signal) {
  if (attempts > 0 || start.dataset.done) {
    replace(start);
    return;
  }
  const events = await get("/v1/events?limit=1", signal);
  if (events.data.length > 0) {
    start.dataset.done = "yes";
    replace(start);
  } else if (!start.firstChild) {
    const routes = await get("/v1/routes?limit=1", signal);
    replace(start, empty("No event has come in yet", "Send the first one; a source's name is its file's name in sources/.",
      sendCommand(routes.data[0]?.from?.[0])));
  }
}
