// The keyboard: `/` searches, `j` and `k` go through rows, `g` and a letter goes to a page.

import { h } from "./dom.js";

const PAGES = { o: "/", d: "/deliveries", e: "/events", t: "/tail", r: "/routes", s: "/subscriptions", n: "/endpoints", p: "/plugins" };

const HELP = [
  ["/", "search"],
  ["j  k", "next row, row before"],
  ["Enter", "open the row"],
  ["g o", "overview"],
  ["g d", "deliveries"],
  ["g e", "events"],
  ["g t", "live tail"],
  ["g r", "routes"],
  ["g s", "subscriptions"],
  ["g n", "endpoints"],
  ["g p", "plugins"],
  ["r", "resend, on a delivery"],
  ["?", "this help"],
];

export function keys(go) {
  let afterG = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || document.querySelector("dialog[open]")) return;
    if (Date.now() - afterG < 1000 && PAGES[event.key]) {
      afterG = 0;
      event.preventDefault();
      go(PAGES[event.key]);
      return;
    }
    switch (event.key) {
      case "g":
        afterG = Date.now();
        return;
      case "/":
        event.preventDefault();
        search(go);
        return;
      case "j":
      case "k":
        event.preventDefault();
        move(event.key === "j" ? 1 : -1);
        return;
      case "r": {
        const resend = document.querySelector("[data-key-r]");
        if (resend) event.preventDefault();
        resend?.click();
        return;
      }
      case "?":
        help();
    }
  });
}

async function search(go) {
  if (!document.querySelector("[data-search]")) await go("/deliveries");
  const input = document.querySelector("[data-search]");
  input?.focus();
  input?.select();
}

function move(by) {
  const rows = [...document.querySelectorAll("[data-row] a.row-link")];
  if (rows.length === 0) return;
  const row = document.activeElement?.closest("[data-row]");
  const at = rows.findIndex((it) => row?.contains(it));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by;
  const link = rows[Math.max(0, Math.min(rows.length - 1, next))];
  link.focus();
  link.closest("[data-row]").scrollIntoView({ block: "nearest" });
}

export function help() {
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title", close: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", {}, HELP.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("div", { class: "dialog-end" }, h("button", { class: "button", click: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}
