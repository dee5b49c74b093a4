// Elements, made of names and text and never of markup. Text of any origin may be given:
// what would be invisible in it, or would turn the text around it, is shown as a sign.

// Controls, marks of direction, zero widths, separators, tags, lone surrogates.
const UNSEEN = /[\p{Cc}\p{Cs}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;
const UNSEEN_ALL = new RegExp(UNSEEN.source, "gu");

function sign(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

// For attributes and titles.
export function plain(text) {
  return String(text).replace(UNSEEN_ALL, sign);
}

// Text as nodes; where lines are kept, an end of line and a tab are what they are.
export function text(value, keepLines = false) {
  const string = String(value);
  if (!UNSEEN.test(string)) return [document.createTextNode(string)];
  const nodes = [];
  let from = 0;
  for (const match of string.matchAll(UNSEEN_ALL)) {
    if (keepLines && (match[0] === "\n" || match[0] === "\t")) continue;
    if (match.index > from) nodes.push(document.createTextNode(string.slice(from, match.index)));
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const shown = document.createElement("span");
    shown.className = "unseen";
    shown.title = `U+${code}`;
    shown.textContent = sign(match[0]);
    nodes.push(shown);
    from = match.index + match[0].length;
  }
  if (from < string.length) nodes.push(document.createTextNode(string.slice(from)));
  return nodes;
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : plain(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(element, child);
    else if (child instanceof Node) element.append(child);
    else element.append(...text(child));
  }
}

export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function svg(name, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

export function replace(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

// Bring rows up to date by key: what did not change keeps its element, and its focus.
export function reconcile(parent, items, key, make) {
  const before = new Map([...parent.children].map((it) => [it.dataset.key, it]));
  const after = items.map((item) => {
    const version = JSON.stringify(item);
    const old = before.get(key(item));
    if (old?.version === version) return old;
    const element = make(item);
    element.dataset.key = key(item);
    element.version = version;
    if (old?.contains(document.activeElement)) element.wantsFocus = true;
    return element;
  });
  const same = after.length === parent.children.length && after.every((it, at) => it === parent.children[at]);
  if (same) return;
  const active = document.activeElement;
  parent.replaceChildren(...after);
  const focus = after.find((it) => it.wantsFocus || it.contains(active));
  if (focus) {
    focus.wantsFocus = false;
    (focus.contains(active) ? active : focus.querySelector("a, button"))?.focus({ preventScroll: true });
  }
}
