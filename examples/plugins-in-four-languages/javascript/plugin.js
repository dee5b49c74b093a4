// Receives and sends a platform's webhooks: JSON, signed with HMAC-SHA256 in a header.

import * as secrets from "plugpost:plugin/secrets@0.1.0";
import { log } from "plugpost:plugin/logging@0.1.0";

const SIGNATURE = "x-parcels-signature";
const BODY = [{ tag: "body" }];

let trackingUrl;

export const plugin = {
  describe: () => ({
    name: "parcels",
    version: "0.1.0",
    summary: "receives and sends a platform's webhooks",
    settingsSchema: JSON.stringify({
      type: "object",
      properties: {
        tracking_url: {
          description: "where a parcel is followed; its id is added",
          type: "string",
        },
      },
      additionalProperties: false,
    }),
    secrets: [{ name: "key", encoding: "text", required: true, summary: "signs every request" }],
    eventTypes: ["parcel.*"],
    policy: [
      ["endpoint.https_only", "true"],
      ["retry.schedule", "1m, 10m, 1h"],
    ],
  }),

  configure(settings) {
    trackingUrl = JSON.parse(settings).tracking_url;
    if (trackingUrl !== undefined && !trackingUrl.startsWith("https://")) {
      return [{ pointer: "/tracking_url", message: "is not an https:// URL" }];
    }
    return [];
  },
};

export const source = {
  receive(request) {
    const signature = bytes(request.header(SIGNATURE) ?? "");
    let fits;
    try {
      fits = secrets.verify("key", "sha256", BODY, signature);
    } catch (error) {
      log("error", String(error.payload ?? error));
      throw { status: 500, message: "this source is not set up; its log says why" };
    }
    if (!fits) throw { status: 401, message: "no signature fits" };
    const type = request.text("/event");
    if (type === undefined) throw { status: 400, message: "the body has no event" };
    return [
      {
        type,
        subject: request.text("/parcel/id"),
        attributes: [],
        data: { tag: "unchanged" },
      },
    ];
  },
};

export const transform = {
  apply(event) {
    const parcel = event.field("/parcel");
    if (parcel === undefined) {
      throw { retry: false, code: "no-parcel", message: "the data has no parcel" };
    }
    // The parcel's own text: digits and order of keys stay as they came.
    let body = `{"event":${JSON.stringify(event.type())},"parcel":${parcel}`;
    const id = event.subject();
    if (trackingUrl !== undefined && id !== undefined) {
      body += `,"tracking":${JSON.stringify(`${trackingUrl}/${id}`)}`;
    }
    return {
      method: "POST",
      headers: [header("content-type", "application/json")],
      body: { tag: "bytes", val: new TextEncoder().encode(body + "}") },
    };
  },
};

export const auth = {
  sign() {
    let newest;
    try {
      [newest] = secrets.hmac("key", "sha256", BODY);
    } catch (error) {
      throw { retry: true, code: "key", message: String(error.payload ?? error) };
    }
    if (newest === undefined) throw { retry: true, code: "key", message: "no key can sign" };
    return [header(SIGNATURE, hex(newest))];
  },
};

function header(name, text) {
  return { name, value: { tag: "text", val: text } };
}

function hex(bytes) {
  return Array.from(bytes, (it) => it.toString(16).padStart(2, "0")).join("");
}

// Nothing for what is not hexadecimal: no signature fits then.
function bytes(hex) {
  if (!/^([0-9a-f]{2})*$/i.test(hex)) return new Uint8Array();
  return Uint8Array.from(hex.match(/../g) ?? [], (it) => parseInt(it, 16));
}
