// Who comes by a portal link: what stands behind the `#` becomes a cookie, and leaves the
// address before anything else happens.

import { post } from "../api.js";
import { h, replace } from "../dom.js";

export const title = () => "Portal";

export async function show({ root, go }) {
  const link = location.hash.slice(1);
  history.replaceState(null, "", "/portal");
  try {
    await post("/portal", { link });
  } catch (error) {
    replace(root, h("div", { class: "login" },
      h("h1", { tabindex: -1 }, "This link opens nothing"),
      h("p", { class: "wrong", role: "alert" }, error.message),
      h("p", {}, "Go back to where you got it, and take a new one.")));
    return;
  }
  await go("/", { replaced: true });
}
