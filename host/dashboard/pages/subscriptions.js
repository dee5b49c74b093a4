// Subscriptions: routes made here or by a platform's own API, and whether each is called.

import { get, patch, query as asQuery } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { follow } from "../live.js";
import { badge, button, empty, head, link, row, select, table, when } from "../parts.js";

export const title = () => "Subscriptions";

export async function show({ root, signal, session, query, go }) {
  const list = table("Subscriptions", [["Subscription"], ["Types"], ["Platform", "wide"], ["State"], ["Changed", "wide"], ["", "end"]]);
  const none = h("div", {});
  const more = h("div", { class: "list-end" });
  const { data: plugins } = await get("/v1/plugins?limit=500", signal);
  const platforms = plugins.filter(speaks).map((it) => [it.name, it.name]);
  const choose = (name) => (event) => go(`/subscriptions?${asQuery({ ...query, cursor: null, [name]: event.target.value })}`);
  const filters = h("div", { class: "filters" },
    select("platform", "Platform", [["", "every platform"], ...platforms], query.platform, choose("platform")),
    select("active", "State", [["", "on and off"], ["true", "on"], ["false", "off"]], query.active, choose("active")));
  const add = () => go(`/subscriptions/new?${asQuery({ platform: query.platform })}`);
  replace(root, head("Subscriptions", session.operate && button("New subscription", add, { class: "button primary" })),
    filters, list.element, none, more);
  const refresh = async () => {
    const asked = asQuery({ platform: query.platform, active: query.active, type: query.type, cursor: query.cursor, limit: 50 });
    const found = await get(`/v1/subscriptions?${asked}`, signal);
    reconcile(list.body, found.data, (it) => it.id, (it) => subscriptionRow(it, session, refresh));
    list.element.hidden = found.data.length === 0;
    replace(none, found.data.length === 0 && empty("No subscription here", "A subscription is a route that is made while the engine runs: which events, for which platform, to which URL."));
    replace(more, found.next && link(`/subscriptions?${asQuery({ ...query, cursor: found.next })}`, "Older ones"));
  };
  await follow(signal, refresh, { every: 5000, concerns: (it) => it.route?.startsWith("sub_") });
}

// It shapes or signs, so a subscription can have it.
export function speaks(plugin) {
  return plugin.roles.includes("transform") || plugin.roles.includes("auth");
}

export function state(it) {
  if (it.rests) return badge("resting", "rests");
  if (it.disabled) return badge("disabled", "disabled");
  return it.active ? badge("ok", "on") : badge("off", "off");
}

function subscriptionRow(it, session, refresh) {
  const flip = async () => {
    await patch(`/v1/subscriptions/${it.id}`, { active: !it.active });
    await refresh();
  };
  const name = it.name ?? it.url;
  return row(h("tr", {},
    h("td", { class: "cell-main name" }, h("a", { class: "row-link", href: `/subscriptions/${it.id}` }, name),
      it.name && h("small", {}, h("bdi", { class: "mono", title: it.url }, it.url))),
    h("td", { class: "cell-pills" }, h("span", { class: "pills" }, it.types.map((type) => h("span", { class: "pill" }, type)))),
    h("td", { class: "wide" }, it.platform ?? h("span", { class: "none" }, "as it came in")),
    h("td", { title: it.rests ?? it.disabled?.reason }, state(it)),
    h("td", { class: "cell-when wide" }, when(it.updated_at)),
    h("td", { class: "end" }, session.operate && button(it.active ? "Switch off" : "Switch on", flip, { "aria-label": `Switch ${it.active ? "off" : "on"}: ${name}` }))));
}
