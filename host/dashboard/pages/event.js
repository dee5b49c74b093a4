// One event as it came in, and what became of it.

import { get } from "../api.js";
import { h, reconcile, replace } from "../dom.js";
import { bytes } from "../format.js";
import { follow } from "../live.js";
import { code, copy, empty, facts, head, link, table, when } from "../parts.js";
import { COLUMNS, deliveryRow } from "./deliveries.js";

export const title = ({ id }) => id;

export async function show({ root, signal, id }) {
  const event = await get(`/v1/events/${encodeURIComponent(id)}`, signal);
  const list = table("Deliveries of this event", COLUMNS);
  const none = h("div", {});
  const attributes = Object.entries(event.attributes);
  replace(root,
    h("nav", { class: "crumbs", "aria-label": "Where this is" }, link("/events", "Events"), h("span", { class: "mono" }, event.id)),
    head(event.type),
    facts([
      ["Id", h("span", { class: "mono" }, event.id), copy(event.id, "Copy the id")],
      event.subject !== null && ["Subject", link(`/deliveries?${new URLSearchParams({ search: event.subject })}`, h("bdi", { class: "mono" }, event.subject))],
      ["Source", event.source],
      ["Received", when(event.received_at)],
      event.time !== event.received_at && ["Happened", when(event.time)],
      event.data !== undefined && ["Size", bytes(new TextEncoder().encode(event.data).length)],
    ]),
    h("section", {}, h("h2", {}, "Deliveries"), list.element, none),
    h("section", {}, h("h2", {}, "Data"), event.data_pruned
      ? empty("The data is gone", "store.retention_payloads has taken it; the event's row stays.")
      : code(event.data ?? event.data_base64, event.data === undefined ? "Data, in base64" : "Data")),
    attributes.length > 0 && h("section", {}, h("h2", {}, "Attributes"), facts(attributes.map(([name, value]) => [name, h("bdi", { class: "mono" }, value)]))));
  const refresh = async () => {
    const { deliveries } = await get(`/v1/events/${encodeURIComponent(id)}`, signal);
    reconcile(list.body, deliveries, (it) => it.id, deliveryRow);
    list.element.hidden = deliveries.length === 0;
    replace(none, deliveries.length === 0 && empty("No route took this event", "A route takes it when `from` names its source and `types` its type. See Routes."));
  };
  await follow(signal, refresh, { concerns: (it) => it.event_id === id });
}
