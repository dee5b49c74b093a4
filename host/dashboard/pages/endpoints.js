// Endpoints: how each does, and what an operator can do about it.

import { get, post } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { count, percent, seconds } from "../format.js";
import { follow } from "../live.js";
import { ask, badge, button, empty, facts, field, head, link, select, toast, when } from "../parts.js";

export const title = () => "Endpoints";

const RANGES = [["3600", "the last hour"], ["86400", "the last 24 hours"], ["604800", "the last 7 days"], ["2592000", "the last 30 days"]];

export async function show({ root, signal, session, go }) {
  const list = h("div", { class: "endpoints" });
  const none = h("div", {});
  replace(root, head("Endpoints"), list, none);
  const refresh = async () => {
    const found = await get("/v1/endpoints?limit=500", signal);
    const worst = { disabled: 0, resting: 1, failing: 2, ok: 3 };
    const sorted = found.data.sort((a, b) => worst[a.health] - worst[b.health]);
    reconcile(list, sorted, (it) => it.route, (it) => endpoint(it, session, go, refresh, signal));
    replace(none, found.data.length === 0 && empty("No endpoint yet", "Each route has one: write routes/NAME.toml. See Routes."));
  };
  await follow(signal, refresh, { every: 3000, pause: 500 });
}

function endpoint(it, session, go, refresh, signal) {
  const breaker = it.breaker
    ? `below ${percent(it.breaker.success_ratio)} of ${it.breaker.requests} in ${seconds(it.breaker.window_s)}, rest ${seconds(it.breaker.rest_s)}`
    : "none";
  const how = [it.own_ca && "own CA", it.client_certificate && "client certificate", it.token_url && `OAuth 2 by ${it.token_url}`, it.proxy && `proxy ${it.proxy}`].filter(Boolean);
  return h("article", { class: "endpoint", "data-health": it.health },
    h("div", { class: "endpoint-head" },
      h("h2", {}, link(`/deliveries?${new URLSearchParams({ route: it.route })}`, it.route)), badge(it.health),
      h("bdi", { class: "mono endpoint-url", title: it.url }, it.url),
      session.operate && h("div", { class: "actions" }, actions(it, go, refresh, signal))),
    it.disabled && h("p", { class: "callout dead" }, h("strong", {}, "Disabled "), when(it.disabled.since), ": ", it.disabled.reason),
    it.rest && h("p", { class: "callout pending" }, h("strong", {}, "Resting "), `(${it.rest.cause}), next call `, when(it.rest.until)),
    !it.disabled && it.failing_since && h("p", { class: "callout pending" }, h("strong", {}, "Only failures "), "since ", when(it.failing_since)),
    h("dl", { class: "figures" },
      figure("Success, 5 min", percent(it.success_ratio_5m)),
      figure("Delivered, 24 h", count(it.delivered_24h)),
      figure("Failed, 24 h", count(it.failed_24h), it.failed_24h > 0 && "bad"),
      figure("Waiting", count(it.backlog), it.backlog > 0 && "wait"),
      figure("Oldest", it.oldest_waiting_at ? when(it.oldest_waiting_at) : "–"),
      figure("Under way", `${it.under_way} of ${it.pace}`)),
    h("details", { class: "limits" }, h("summary", {}, "Limits"), facts([
      ["Timeout", seconds(it.timeout_s)], ["Concurrency", String(it.concurrency)], ["Rate", it.rate_limit ?? "no limit"],
      ["Order", it.order], ["Breaker", breaker], ["Disabled after", it.disable_after_s === null ? "never" : `${seconds(it.disable_after_s)} of failures`],
      how.length > 0 && ["Reached with", how.join(", ")],
    ])));
}

function figure(name, value, kind) {
  return h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));
}

function actions(it, go, refresh, signal) {
  const path = `/v1/endpoints/${encodeURIComponent(it.route)}`;
  const test = async () => {
    const sent = await post(`${path}/test`, {});
    toast("A test event is on its way");
    await go(`/deliveries/${sent.id}`);
  };
  const disable = async () => {
    const given = await ask(`Disable ${it.route}?`, "It is called no more; what is promised to it becomes a dead letter until it is enabled.",
      field("Reason", h("input", { name: "reason", maxlength: 500, autocomplete: "off" })), "Disable", "danger");
    if (!given) return;
    await post(`${path}/disable`, given.reason ? { reason: given.reason } : {});
    await refresh();
  };
  const enable = async () => {
    await post(`${path}/enable`, {});
    toast(`${it.route} is called again`);
    await refresh();
  };
  return [
    button("Send test", test),
    button("Recover", () => recover(it, signal)),
    it.disabled ? button("Enable", enable, { class: "button primary" }) : button("Disable", disable, { class: "button danger" }),
  ];
}

async function recover(it, signal) {
  const given = await ask(`Recover ${it.route}`, "Each of its dead letters is sent again, once, as a new delivery.",
    field("Dead letters of", select("since", "Dead letters of", RANGES, "86400")), "Recover");
  if (!given) return;
  const since = new Date(Date.now() - Number(given.since) * 1000).toISOString();
  let run = await post("/v1/recover", { route: it.route, since });
  while (run.state === "running" && !signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    run = await get(`/v1/recover/${run.id}`, signal);
  }
  const skipped = run.skipped > 0 ? `, ${count(run.skipped)} skipped: their data was pruned` : "";
  toast(run.error ?? `${count(run.resent)} sent again${skipped}`, run.error ? "bad" : "good");
}
