// Routes in force: where events come from, what is made of them, where they go.

import { get } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { seconds } from "../format.js";
import { follow } from "../live.js";
import { empty, head, row, table } from "../parts.js";

export const title = () => "Routes";

export async function show({ root, signal }) {
  const list = table("Routes", [["Route"], ["From"], ["Types"], ["Plugins", "wide"], ["To", "wide"], ["Retries", "end wide"]]);
  const none = h("div", {});
  const number = h("span", { class: "quiet-text" });
  replace(root, head("Routes", number), list.element, none);
  const refresh = async () => {
    const routes = await get("/v1/routes?limit=500", signal);
    replace(number, `snapshot ${routes.snapshot}`);
    reconcile(list.body, routes.data, (it) => it.name, routeRow);
    list.element.hidden = routes.data.length === 0;
    replace(none, routes.data.length === 0 && empty("No route yet", "A route is a file in the hub's folder; it is in force a moment after it is saved.",
      "cat > routes/acme.toml <<'TOML'\nfrom = \"*\"\ntypes = [\"*\"]\n\n[endpoint]\nurl = \"https://acme.example.com/hooks\"\nTOML"));
  };
  await follow(signal, refresh, { concerns: () => false });
}

function routeRow(it) {
  const waits = it.retry.schedule_s;
  return row(h("tr", {},
    h("td", { class: "cell-main name" }, h("a", { class: "row-link", href: `/deliveries?${new URLSearchParams({ route: it.name })}` }, it.name)),
    h("td", { class: "cell-pills" }, pills(it.from ?? ["any source"])),
    h("td", { class: "cell-pills" }, pills(it.types)),
    h("td", { class: "cell-pills wide" }, it.plugins.length > 0 ? pills(it.plugins) : h("span", { class: "none" }, "as it came in")),
    h("td", { class: "wide cell-route" }, h("bdi", { class: "mono", title: it.endpoint.url }, it.endpoint.url)),
    h("td", { class: "cell-when end wide", title: waits.map(seconds).join(", ") }, waits.length === 0 ? "none"
      : `${waits.length} over ${seconds(waits.reduce((sum, wait) => sum + wait, 0))}`)));
}

function pills(names) {
  return h("span", { class: "pills" }, names.map((it) => h("span", { class: "pill" }, it)));
}
