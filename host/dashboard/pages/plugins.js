// Plugins: what is loaded, what it takes, and how the last reload went.

import { get, post } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { bytes, count, milliseconds } from "../format.js";
import { follow } from "../live.js";
import { button, copy, empty, head, table, toast, when } from "../parts.js";

export const title = () => "Plugins";

export async function show({ root, signal, session }) {
  const list = table("Plugins", [["Plugin"], ["Roles", "wide"], ["Calls", "number"], ["Mean time", "number"], ["Faults", "number wide"], ["Memory", "number wide"], ["Size", "number wide"], ["SHA-256", "wide"]]);
  const none = h("div", {});
  const last = h("div", {});
  const reload = async () => {
    try {
      const done = await post("/v1/reload", {});
      const files = [...(done.added ?? []), ...(done.changed ?? []), ...(done.removed ?? [])];
      toast(files.length === 0 ? "Nothing has changed" : `In force: ${files.join(", ")}`);
    } catch (error) {
      toast(error.message, "bad");
    }
    await refresh();
  };
  replace(root, head("Plugins", session.operate && button("Reload the folder", reload)), last, list.element, none);
  const refresh = async () => {
    const found = await get("/v1/plugins?limit=500", signal);
    replace(last, reloaded(found));
    reconcile(list.body, found.data, (it) => it.name, pluginRow);
    list.element.hidden = found.data.length === 0;
    replace(none, found.data.length === 0 && empty("No plugin is loaded", "A plugin is a file in the hub's folder; it is loaded a moment after it is there.", "cp my-plugin.wasm plugins/"));
  };
  await follow(signal, refresh, { every: 5000, pause: 1000 });
}

function reloaded({ last_reload: last, snapshot }) {
  if (!last) return h("p", { class: "quiet-text" }, `Snapshot ${snapshot} is in force since the start.`);
  if (last.problems.length === 0) return h("p", { class: "quiet-text" }, `Snapshot ${snapshot} is in force; last reload `, when(last.at), ".");
  return h("div", { class: "callout dead", role: "alert" },
    h("p", {}, h("strong", {}, "The last reload was refused "), when(last.at), `; snapshot ${snapshot} goes on.`),
    h("ul", { class: "problems" }, last.problems.map((it) => h("li", {},
      h("span", { class: "mono" }, [it.file, it.line, it.column].filter((part) => part !== null).join(":")), " ", it.message))));
}

function pluginRow(it) {
  return h("tr", {},
    h("td", { class: "cell-main plugin" }, h("b", {}, it.name), h("span", { class: "version" }, it.version), h("small", {}, it.summary)),
    h("td", { class: "cell-pills roles wide" }, h("span", { class: "pills" }, it.roles.map((role) => h("span", { class: "pill" }, role)))),
    h("td", { class: "number" }, count(it.calls)),
    h("td", { class: "number" }, it.calls > 0 ? milliseconds(it.time_us / it.calls / 1000) : "–"),
    h("td", { class: `number wide ${it.faults > 0 ? "bad" : ""}` }, count(it.faults)),
    h("td", { class: "number wide" }, it.calls > 0 ? bytes(it.memory_bytes_most) : "–"),
    h("td", { class: "number wide" }, bytes(it.size_bytes)),
    h("td", { class: "cell-when wide" }, h("span", { class: "mono", title: it.sha256 }, it.sha256.slice(0, 12)), copy(it.sha256, `Copy the SHA-256 of ${it.name}`)));
}
