// One subscription, or a new one: what is said of it, with what is wrong beside it.

import { get, patch, post, remove, Refused } from "../api.js";
import { h, replace } from "../dom.js";
import { ask, button, facts, field, head, link, select, toast, when } from "../parts.js";
import { speaks, state } from "./subscriptions.js";

export const title = ({ id }) => (id === "new" ? "New subscription" : "Subscription");

const OVERLAPS = [["24h", "24 hours"], ["1h", "1 hour"], ["7d", "7 days"], ["0s", "not at all"]];

export async function show({ root, signal, session, query, id, go }) {
  const isNew = id === "new";
  const it = isNew ? fresh(query) : await get(`/v1/subscriptions/${encodeURIComponent(id)}`, signal);
  const { data: plugins } = await get("/v1/plugins?limit=500", signal);
  const again = () => go(location.pathname, { replaced: true });
  replace(root,
    head(isNew ? "New subscription" : it.name ?? it.url, !isNew && session.operate && actions(it, go, again)),
    !isNew && about(it),
    await form(it, isNew, plugins.filter(speaks), session, signal, go, again));
}

const fresh = (query) => ({
  name: null, description: null, from: [], types: query.type ? [query.type] : [], url: "", active: true, rate_limit: null,
  platform: query.platform ?? null, settings: {}, headers: [], secrets: [],
});

function about(it) {
  return [
    it.disabled && h("p", { class: "callout dead" }, h("strong", {}, "Disabled "), when(it.disabled.since), ": ", it.disabled.reason),
    it.rests && h("p", { class: "callout pending" }, h("strong", {}, "Its deliveries wait: "), it.rests),
    facts([["State", state(it)], ["Id", h("span", { class: "mono" }, it.id)], ["Number", String(it.number)], ["Tenant", it.tenant],
      ["Made", when(it.created_at), it.made_by ? ` by ${it.made_by}` : ""], ["Changed", when(it.updated_at)],
      ["Deliveries", link(`/deliveries?${new URLSearchParams({ route: it.id })}`, "what became of them")]]),
  ];
}

function actions(it, go, again) {
  const path = `/v1/subscriptions/${it.id}`;
  const flip = async () => {
    await patch(path, { active: !it.active });
    await again();
  };
  const test = async () => {
    const sent = await post(`/v1/endpoints/${it.id}/test`, {});
    await go(`/deliveries/${sent.id}`);
  };
  const forget = async () => {
    const sure = await ask("Delete this subscription?", "It takes no more events, and what waits for its endpoint becomes a dead letter.", null, "Delete", "danger");
    if (!sure) return;
    await remove(path);
    await go("/subscriptions");
  };
  return [
    it.active && !it.rests && button("Send test", test),
    button(it.active ? "Switch off" : "Switch on", flip, { class: it.active ? "button" : "button primary" }),
    button("Delete", forget, { class: "button danger" }),
  ];
}

async function form(it, isNew, platforms, session, signal, go, again) {
  const ofPlatform = h("div", { class: "form-part" });
  const types = h("fieldset", { class: "form-part", "data-field": "types" });
  let read = { types: () => [], settings: () => ({}), secrets: () => ({}) };
  const draw = async (name) => {
    const plugin = name ? await get(`/v1/plugins/${encodeURIComponent(name)}`, signal) : null;
    const [typesPart, readTypes] = typesOf(it, plugin, isNew);
    const [settingsPart, readSettings] = plugin ? settingsOf(it, plugin) : [null, () => ({})];
    const [secretsPart, readSecrets] = plugin ? secretsOf(it, plugin, isNew, session, again) : [null, () => ({})];
    replace(types, typesPart);
    replace(ofPlatform, settingsPart, secretsPart);
    if (plugin?.policy["endpoint.https_only"] === "true") url.placeholder = "https://…";
    read = { types: readTypes, settings: readSettings, secrets: readSecrets };
  };
  const url = h("input", { name: "url", type: "url", required: true, value: it.url, autocomplete: "off", placeholder: "https://shop.example.com/hooks" });
  const words = [["", "none: what came in goes out"], ...platforms.map((one) => [one.name, `${one.name} – ${one.summary}`])];
  if (it.platform && !platforms.some((one) => one.name === it.platform)) words.push([it.platform, `${it.platform} (not loaded)`]);
  const send = h("button", { type: "submit", class: "button primary" }, isNew ? "Make it" : "Save");
  const wrong = h("div", { role: "alert" });
  const element = h("form", { class: "form", novalidate: true, submit: async (event) => {
    event.preventDefault();
    send.disabled = true;
    replace(wrong);
    for (const shown of element.querySelectorAll(".wrong")) shown.remove();
    try {
      const said = body(element, read, isNew);
      if (said.each) {
        for (const type of said.types) await one(element, said.body, type);
        await go(`/subscriptions${said.body.platform ? `?${new URLSearchParams({ platform: said.body.platform })}` : ""}`);
      } else if (isNew) {
        const made = await post("/v1/subscriptions", said.body);
        await go(`/subscriptions/${made.id}`);
      } else {
        await patch(`/v1/subscriptions/${it.id}`, said.body);
        await again();
      }
      toast(isNew ? "It is in force" : "Saved, and in force");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      point(element, wrong, error);
    } finally {
      send.disabled = false;
    }
  } },
  labelled("platform", "Platform", select("platform", "Platform", words, it.platform, (event) => draw(event.target.value))),
  labelled("name", "Name", h("input", { name: "name", maxlength: 200, value: it.name ?? "", autocomplete: "off" })),
  labelled("url", "URL", url),
  types, ofPlatform,
  h("details", { class: "form-part", open: it.from.length > 0 || it.headers.length > 0 || it.rate_limit }, h("summary", {}, "More"),
    labelled("description", "Description", h("textarea", { name: "description", maxlength: 2000, rows: 2, value: it.description ?? "" })),
    labelled("from", "Only from these sources", h("input", { name: "from", value: it.from.join(", "), autocomplete: "off", placeholder: "every source" })),
    labelled("rate_limit", "Rate limit", h("input", { name: "rate_limit", value: it.rate_limit ?? "", autocomplete: "off", placeholder: "60/m; the platform's own, unless given" })),
    labelled("headers", it.headers.length > 0 ? `Headers (${it.headers.join(", ")} are set)` : "Headers",
      h("textarea", { name: "headers", rows: 3, autocomplete: "off", spellcheck: "false", placeholder: "Name: value, one on each line; a name alone removes it" }))),
  wrong,
  session.operate && h("div", { class: "form-end" }, send));
  await draw(it.platform);
  return element;
}

// One of several: what is made is no longer asked for, and what is wrong stands with its type.
async function one(element, body, type) {
  const url = element.elements[`url.${type}`]?.value.trim() || body.url;
  try {
    await post("/v1/subscriptions", { ...body, url, types: [type] });
  } catch (error) {
    if (url !== body.url || !body.url) {
      for (const problem of error.problem?.problems ?? []) if (problem.field === "url") problem.field = `url/${type}`;
    }
    throw error;
  }
  const box = [...element.querySelectorAll('[name="type"]')].find((it) => it.value === type);
  if (box) box.checked = false;
}

function labelled(name, label, input) {
  const element = field(label, input);
  element.dataset.field = name;
  return element;
}

// What the platform knows as boxes, and anything else as text. Where each type is to be a
// subscription of its own, it may have a URL of its own as well.
function typesOf(it, plugin, isNew) {
  const known = plugin?.event_types ?? [];
  const placeholder = plugin?.policy["endpoint.https_only"] === "true" ? "https://… of its own" : "a URL of its own";
  const boxes = known.map((type) => h("input", { type: "checkbox", name: "type", value: type, checked: it.types.includes(type) }));
  const urls = known.map((type) => h("input", { type: "url", name: `url.${type}`, "aria-label": `URL of ${type}`, autocomplete: "off", placeholder, hidden: true }));
  const rows = known.map((type, at) => h("div", { "data-field": `url/${type}` },
    h("label", { class: "check" }, boxes[at], h("span", { class: "mono" }, type)), isNew && urls[at]));
  const others = it.types.filter((type) => !known.includes(type));
  const text = h("input", { name: "types", "aria-label": "Event types", value: others.join(", "), autocomplete: "off", placeholder: "order.created, order.*" });
  const box = h("input", { type: "checkbox", name: "each", change: () => urls.forEach((input) => { input.hidden = !box.checked; }) });
  const each = isNew && known.length > 0 && h("label", { class: "check" }, box, "One subscription for each of them, with a URL of its own where it has one");
  const part = [h("legend", {}, "Event types"), rows.length > 0 && h("div", { class: "checks" }, rows), text, each];
  const read = () => [...boxes.filter((one) => one.checked).map((one) => one.value), ...words(text.value)];
  return [part, read];
}

const words = (text) => text.split(",").map((it) => it.trim()).filter(Boolean);

// Simple settings as fields, anything else as JSON.
function settingsOf(it, plugin) {
  const schema = plugin.settings_schema;
  const properties = Object.entries(schema?.properties ?? {});
  const isSimple = ([, of]) => Array.isArray(of.enum) ? of.enum.every((value) => typeof value === "string") : ["string", "boolean", "integer", "number"].includes(of.type);
  if (properties.length === 0 && Object.keys(it.settings).length === 0) return [null, () => ({})];
  const hasOthers = Object.keys(it.settings).some((name) => !properties.some(([known]) => known === name));
  if (properties.length === 0 || !properties.every(isSimple) || hasOthers) {
    const input = h("textarea", { name: "settings", rows: 8, spellcheck: "false", class: "mono", value: JSON.stringify(it.settings, null, 2) });
    return [labelled("settings", "Settings (JSON)", input), () => JSON.parse(input.value || "{}")];
  }
  const inputs = properties.map(([name, of]) => [name, of, settingInput(`settings.${name}`, of, it.settings[name])]);
  const part = h("fieldset", { class: "form-part", "data-field": "settings" }, h("legend", {}, "Settings"),
    inputs.map(([name, of, input]) => labelled(`settings/${name}`, `${name}${(schema.required ?? []).includes(name) ? " *" : ""}${of.description ? `: ${of.description}` : ""}`, input)));
  const read = () => Object.fromEntries(inputs.map(([name, of, input]) => [name, settingValue(of, input.value)]).filter(([, value]) => value !== undefined));
  return [part, read];
}

function settingInput(name, of, value) {
  const unsaid = `${of.default ?? "not set"}`;
  const choice = of.enum ?? (of.type === "boolean" ? ["true", "false"] : null);
  if (choice) return select(name, name, [["", unsaid], ...choice.map((one) => [one, one])], value === undefined ? "" : String(value));
  return h("input", { name, value: value ?? "", autocomplete: "off", placeholder: unsaid, inputmode: of.type === "string" ? null : "numeric" });
}

function settingValue(of, text) {
  if (text === "") return undefined;
  if (of.type === "boolean") return text === "true";
  if (of.type !== "integer" && of.type !== "number") return text;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

// Nobody's password: no browser is to keep it, nor to ask for whom.
const CONCEALED = { type: "text", class: "concealed", autocomplete: "off", spellcheck: "false" };

function secretsOf(it, plugin, isNew, session, again) {
  if (plugin.secrets.length === 0) return [null, () => ({})];
  const inputs = plugin.secrets.map((need) => {
    const kept = it.secrets.find((one) => one.name === need.name);
    const versions = kept?.until ? [`; ${kept.versions} in use, the oldest until `, when(kept.until)] : "";
    const input = h("input", { ...CONCEALED, name: `secrets.${need.name}`, placeholder: kept ? "stays as it is" : need.required ? "needed" : "none" });
    const rotate = !isNew && kept && session.operate && button("Rotate", () => rotated(it, need, again), { "aria-label": `Rotate ${need.name}` });
    return [need.name, input, h("div", { class: "with-button" }, labelled(`secrets/${need.name}`, h("span", {}, `${need.name}: ${need.summary}`, versions), input), rotate)];
  });
  const part = h("fieldset", { class: "form-part", "data-field": "secrets" }, h("legend", {}, "Secrets"), inputs.map(([, , element]) => element));
  const read = () => Object.fromEntries(inputs.map(([name, input]) => [name, input.value]).filter(([, value]) => value !== ""));
  return [part, read];
}

async function rotated(it, need, again) {
  const given = await ask(`Rotate ${need.name}`, "The new value signs at once; the one before signs beside it for a while, so that the receiver can change over.",
    [field("New value", h("input", { ...CONCEALED, name: "value", required: true })),
      field("The old one is used for", select("overlap", "Overlap", OVERLAPS, "24h"))], "Rotate");
  if (!given) return;
  await post(`/v1/subscriptions/${it.id}/secrets/${encodeURIComponent(need.name)}`, given);
  toast(`${need.name} is rotated`);
  await again();
}

function body(element, read, isNew) {
  const value = (name) => element.elements[name]?.value.trim() ?? "";
  let settings;
  try {
    settings = read.settings();
  } catch (error) {
    throw new Refused(422, { detail: "", problems: [{ field: "settings", message: `this is not JSON: ${error.message}` }] });
  }
  const headers = Object.fromEntries(value("headers").split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const at = line.indexOf(":");
    return at < 0 ? [line, null] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
  const types = read.types();
  const said = {
    name: value("name") || null, description: value("description") || null, url: value("url"), types,
    platform: value("platform") || null, settings, secrets: read.secrets(), from: words(value("from")),
    rate_limit: value("rate_limit") || null, headers,
  };
  return { body: said, types, each: isNew && element.elements.each?.checked && types.length > 0 };
}

// Each problem beside its field; what has none at the end.
function point(element, wrong, error) {
  const problems = error.problem.problems ?? [{ field: "", message: error.message }];
  let first = null;
  for (const { field: name, message } of problems) {
    const parts = name.split("/");
    const fields = parts.map((_, at) => parts.slice(0, parts.length - at).join("/"));
    const all = [...element.querySelectorAll("[data-field]")];
    const place = fields.map((it) => all.find((one) => one.dataset.field === it)).find(Boolean);
    const shown = h("p", { class: "wrong", role: "alert" }, place || !name ? message : `${name}: ${message}`);
    (place ?? wrong).append(shown);
    if (place) place.closest("details")?.setAttribute("open", "");
    first ??= place;
  }
  first?.querySelector("input, select, textarea")?.focus();
}
