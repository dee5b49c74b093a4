"""Receives and sends a platform's webhooks: JSON, signed with HMAC-SHA256 in a header."""

import json

from componentize_py_types import Err
from wit_world.exports.plugin import Description, SecretNeed
from wit_world.exports.source import Received, Rejection
from wit_world.exports.transform import Message
from wit_world.imports import logging, secrets
from wit_world.imports.secrets import Part_Body
from wit_world.imports.types import (
    Body_Bytes,
    Body_Unchanged,
    Failure,
    Header,
    HeaderValue_Text,
    Problem,
)

SIGNATURE = "x-parcels-signature"

SETTINGS_SCHEMA = {
    "type": "object",
    "properties": {
        "tracking_url": {
            "description": "where a parcel is followed; its id is added",
            "type": "string",
        }
    },
    "additionalProperties": False,
}

settings = {}


class Plugin:
    def describe(self):
        return Description(
            name="parcels",
            version="0.1.0",
            summary="receives and sends a platform's webhooks",
            settings_schema=json.dumps(SETTINGS_SCHEMA),
            secrets=[
                SecretNeed(
                    name="key", encoding="text", required=True, summary="signs every request"
                )
            ],
            event_types=["parcel.*"],
            policy=[("endpoint.https_only", "true"), ("retry.schedule", "1m, 10m, 1h")],
        )

    def configure(self, text):
        settings.update(json.loads(text))
        if not settings.get("tracking_url", "https://").startswith("https://"):
            return [Problem(pointer="/tracking_url", message="is not an https:// URL")]
        return []


class Source:
    def receive(self, request):
        try:
            signature = bytes.fromhex(request.header(SIGNATURE) or "")
        except ValueError:
            signature = b""
        try:
            fits = secrets.verify("key", "sha256", [Part_Body()], signature)
        except Err as error:
            logging.log("error", error.value)
            raise Err(Rejection(500, "this source is not set up; its log says why"))
        if not fits:
            raise Err(Rejection(401, "no signature fits"))
        event_type = request.text("/event")
        if event_type is None:
            raise Err(Rejection(400, "the body has no event"))
        return [
            Received(
                type=event_type,
                subject=request.text("/parcel/id"),
                time=None,
                duplicate_key=None,
                attributes=[],
                data=Body_Unchanged(),
            )
        ]


class Transform:
    def apply(self, event):
        parcel = event.field("/parcel")
        if parcel is None:
            raise Err(Failure(False, "no-parcel", "the data has no parcel"))
        # The parcel's own text: digits and order of keys stay as they came.
        body = '{"event":' + as_json(event.type()) + ',"parcel":' + parcel
        if "tracking_url" in settings and (subject := event.subject()) is not None:
            body += ',"tracking":' + as_json(f"{settings['tracking_url']}/{subject}")
        headers = [Header("content-type", HeaderValue_Text("application/json"))]
        return Message("POST", headers, Body_Bytes((body + "}").encode()))


class Auth:
    def sign(self, request):
        try:
            codes = secrets.hmac("key", "sha256", [Part_Body()])
        except Err as error:
            raise Err(Failure(True, "key", error.value))
        if not codes:
            raise Err(Failure(True, "key", "no key can sign"))
        return [Header(SIGNATURE, HeaderValue_Text(codes[0].hex()))]


def as_json(text):
    return json.dumps(text, ensure_ascii=False)
