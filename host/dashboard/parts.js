// What several pages show: badges, times, code, dialogs, lists.

import { h, replace, text } from "./dom.js";
import { exact, indented, relative } from "./format.js";

export function badge(kind, word = kind) {
  return h("span", { class: `badge ${kind}` }, word);
}

export function when(iso) {
  if (!iso) return h("span", { class: "none" }, "–");
  return h("time", { datetime: iso, title: exact(iso) }, relative(iso));
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const now = relative(time.dateTime);
    if (time.textContent !== now) time.textContent = now;
  }
}, 1000);

export function link(href, ...children) {
  return h("a", { href }, ...children);
}

export function head(title, ...actions) {
  return h("div", { class: "head" }, h("h1", { tabindex: -1 }, title), h("div", { class: "actions" }, actions));
}

export function button(label, action, properties = {}) {
  const element = h("button", { type: "button", class: "button", ...properties, click: async () => {
    element.disabled = true;
    try {
      await action();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "bad");
    } finally {
      element.disabled = false;
    }
  } }, label);
  return element;
}

export function toast(message, kind = "good") {
  const element = h("div", { class: `toast ${kind}` }, message);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 9000 : 5000);
}

// `form` is what it asks for; resolves to the fields by name, or null.
export function ask(title, explanation, form, action, kind = "primary") {
  return new Promise((resolve) => {
    let answer = null;
    const dialog = h("dialog", { "aria-labelledby": "ask-title", close: () => {
      dialog.remove();
      resolve(answer);
    } },
    h("form", { submit: (event) => {
      event.preventDefault();
      answer = Object.fromEntries(new FormData(event.target));
      dialog.close();
    } },
    h("h2", { id: "ask-title" }, title),
    h("p", {}, explanation),
    form,
    h("div", { class: "dialog-end" },
      h("button", { type: "button", class: "button", click: () => dialog.close() }, "Back"),
      h("button", { type: "submit", class: `button ${kind}` }, action))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

export function select(name, label, options, value, change) {
  return h("select", { name, "aria-label": label, change },
    options.map(([it, word]) => h("option", { value: it, selected: it === (value ?? "") }, word)));
}

export function copy(what, label) {
  const element = h("button", { type: "button", class: "copy", "aria-label": label, title: label, click: async () => {
    await navigator.clipboard?.writeText(what).catch(() => {});
    element.textContent = "Copied";
    setTimeout(() => { element.textContent = "Copy"; }, 1200);
  } }, "Copy");
  return element;
}

export function empty(title, explanation, command) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, explanation),
    command && h("div", { class: "command" }, h("pre", { tabindex: 0 }, h("code", {}, text(command, true))), copy(command, "Copy the command")));
}

export function sendCommand(source = "SOURCE") {
  return `curl http://${location.hostname}:8080/in/${source}/order.created \\\n`
    + "  -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n"
    + "  -d '{\"id\": \"ord_1\"}'";
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, ...value))));
}

// Beyond this, text is shown when it is asked for.
const SHOWN_MAX = 100_000;
const COLOURED_MAX = 40_000;

export function code(value, label) {
  const pretty = indented(value);
  const whole = pretty ?? value;
  const pre = h("pre", { class: "code", tabindex: 0, role: "region", "aria-label": label });
  const show = (part) => replace(pre, pretty && part.length <= COLOURED_MAX ? coloured(part) : text(part, true));
  const block = h("div", { class: "code-box" }, pre, copy(value, `Copy: ${label}`));
  show(whole.slice(0, SHOWN_MAX));
  if (whole.length > SHOWN_MAX) {
    const more = h("button", { type: "button", class: "button more", click: () => {
      show(whole);
      more.remove();
    } }, `Show all ${whole.length} characters`);
    block.append(more);
  }
  return block;
}

function coloured(json) {
  const nodes = [];
  let from = 0;
  for (const match of json.matchAll(/("(?:[^"\\]|\\.)*")(:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*/gs)) {
    nodes.push(...text(json.slice(from, match.index), true));
    const kind = match[1] ? (match[2] ? "key" : "string") : "atom";
    nodes.push(h("span", { class: kind }, text(match[1] ?? match[0], true)), match[2] ?? "");
    from = match.index + match[0].length;
  }
  return [nodes, text(json.slice(from), true)];
}

// A whole row leads where its link leads.
export function row(element) {
  element.dataset.row = "";
  element.addEventListener("click", (event) => {
    if (event.target.closest("a, button, input, select") || getSelection().type === "Range") return;
    element.querySelector("a.row-link")?.click();
  });
  return element;
}

export function table(label, columns, rows = []) {
  const body = h("tbody", {}, rows);
  const heads = columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  const element = h("div", { class: "table-box" },
    h("table", {}, h("caption", { class: "unseen-text" }, label), h("thead", {}, h("tr", {}, heads)), body));
  return { element, body };
}
