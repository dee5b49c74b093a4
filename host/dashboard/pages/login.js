// Log in with a token; the browser keeps a cookie in its place.

import { post } from "../api.js";
import { h, replace } from "../dom.js";

export const title = () => "Log in";

export async function show({ root, query, go }) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const input = h("input", { type: "password", name: "token", id: "token", autocomplete: "current-password", required: true });
  // What keeps passwords wants a name beside each.
  const name = h("input", { type: "text", value: "plugpost", autocomplete: "username", hidden: true });
  const submit = async (event) => {
    event.preventDefault();
    replace(wrong);
    try {
      await post("/login", { token: input.value.trim() });
    } catch (error) {
      replace(wrong, error.message);
      input.select();
      return;
    }
    // Only a path of ours: what stands in an address may come from anybody.
    const to = /^\/(?![/\\])/.test(query.from ?? "") ? query.from : "/";
    await go(to, { replaced: true });
  };
  replace(root, h("form", { class: "login", submit },
    h("h1", { tabindex: -1 }, "Log in to Plugpost"),
    h("p", {}, "With the secret of a ", h("code", {}, "[[token]]"), " whose scopes are ", h("code", {}, "read"), " or ", h("code", {}, "operate"), "."),
    h("p", {}, "If you came by a link, its time is over: take a new one where you got it."),
    h("label", { for: "token" }, "Token"), name, input, wrong,
    h("button", { type: "submit", class: "button primary" }, "Log in")));
}
