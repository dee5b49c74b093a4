//! Receives and sends a platform's webhooks: JSON, signed with HMAC-SHA256 in a header.

use plugpost_plugin::secrets::{self, Part};
use plugpost_plugin::{
    Auth, Description, Encoding, Event, Failure, Header, Inbound, Message, Outgoing, Plugin,
    Problem, Received, Rejection, Source, Transform, export,
};
use serde::Deserialize;

const SIGNATURE: &str = "x-parcels-signature";

#[derive(Deserialize)]
struct Settings {
    tracking_url: Option<String>,
}

struct Platform {
    tracking_url: Option<String>,
}

impl Plugin for Platform {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("parcels", "0.1.0", "receives and sends a platform's webhooks")
            .settings_schema(
                r#"{
                  "type": "object",
                  "properties": {
                    "tracking_url": {
                      "description": "where a parcel is followed; its id is added",
                      "type": "string"
                    }
                  },
                  "additionalProperties": false
                }"#,
            )
            .required_secret("key", Encoding::Text, "signs every request")
            .event_types(&["parcel.*"])
            .policy("endpoint.https_only", "true")
            .policy("retry.schedule", "1m, 10m, 1h")
    }

    fn new(settings: Settings) -> Result<Self, Vec<Problem>> {
        let tracking_url = settings.tracking_url;
        match &tracking_url {
            Some(url) if !url.starts_with("https://") => {
                Err(vec![Problem::at("/tracking_url", "is not an https:// URL")])
            }
            _ => Ok(Self { tracking_url }),
        }
    }
}

impl Source for Platform {
    fn verify(&self, request: &Inbound) -> Result<(), Rejection> {
        let signature = request.header(SIGNATURE).and_then(|it| hex::decode(it).ok());
        let signature = signature.unwrap_or_default();
        match secrets::verify("key", "sha256", &[Part::Body], &signature) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Rejection::unauthorized("no signature fits")),
            Err(error) => Err(Rejection::misconfigured(&error)),
        }
    }

    fn decode(&self, request: &Inbound) -> Result<Vec<Received>, Rejection> {
        let event_type = request
            .text("/event")
            .ok_or_else(|| Rejection::malformed("the body has no event"))?;
        let subject = request.text("/parcel/id");
        Ok(vec![Received { subject, ..Received::unchanged(event_type) }])
    }
}

impl Transform for Platform {
    fn apply(&self, event: &Event) -> Result<Message, Failure> {
        let parcel = event
            .field("/parcel")
            .ok_or_else(|| Failure::reject("no-parcel", "the data has no parcel"))?;
        // The parcel's own text: digits and order of keys stay as they came.
        let mut body = format!(r#"{{"event":{},"parcel":{parcel}"#, json(&event.type_()));
        if let (Some(url), Some(id)) = (&self.tracking_url, event.subject()) {
            body += &format!(r#","tracking":{}"#, json(&format!("{url}/{id}")));
        }
        Ok(Message::json(body + "}"))
    }
}

impl Auth for Platform {
    fn sign(&self, _: &Outgoing) -> Result<Vec<Header>, Failure> {
        let codes = secrets::hmac("key", "sha256", &[Part::Body])
            .map_err(|error| Failure::retry("key", error))?;
        let newest = codes.first().ok_or_else(|| Failure::retry("key", "no key can sign"))?;
        Ok(vec![Header::text(SIGNATURE, hex::encode(newest))])
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

export!(Platform: source, transform, auth);
