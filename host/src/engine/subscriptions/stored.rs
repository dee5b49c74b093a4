//! A subscription as the store has it: what is secret is sealed, each value for its
//! place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Hub;
use crate::queue::QueueError;
use crate::queue::subscriptions::{AllKept, KeptSecret, KeptSubscription};
use crate::subscription::{Form, SecretVersion, Subscription};
use crate::vault::{self, KeyId, Place, Vault};

/// What a plugin uses by name.
const SECRET: &str = "secret";
/// The value of a header.
const HEADER: &str = "header";

/// What is not secret of a form.
#[derive(Serialize, Deserialize)]
struct Written {
    name: Option<String>,
    description: Option<String>,
    from: Vec<String>,
    types: Vec<String>,
    url: String,
    active: bool,
    rate_limit: Option<String>,
    platform: Option<String>,
    settings: serde_json::Value,
    attributes: BTreeMap<String, String>,
}

/// With the keys that were given, or else with the one in the file beside the store,
/// which is made where nothing was sealed yet.
pub(super) fn vault(hub: &Hub, all: &AllKept) -> Result<Vault, QueueError> {
    let broken = |message: String| QueueError::Broken(message.into());
    if let Some(keys) = &hub.secret_keys {
        return Ok(Vault::new(keys));
    }
    let Some(file) = hub.store.file().map(vault::key_file) else {
        return Ok(Vault::new(&[]));
    };
    let of_file = |error: std::io::Error| broken(format!("{}: {error}", file.display()));
    if let Some(keys) = vault::read_key_file(&file).map_err(of_file)? {
        return Ok(Vault::new(&keys));
    }
    if let Some(secret) = all.subscriptions.iter().find_map(|it| it.secrets.first()) {
        return Err(broken(format!(
            "secrets of subscriptions are sealed with the key {}, and there is no key: give it in \
             {}, or put it into {}",
            secret.sealed.key,
            vault::VARIABLE,
            file.display()
        )));
    }
    let key = vault::make_key_file(&file).map_err(of_file)?;
    tracing::warn!(
        file = %file.display(),
        key = %KeyId::of(&key),
        "made a key that subscriptions' secrets are sealed with: keep a copy of it elsewhere, or \
         give one in {}",
        vault::VARIABLE
    );
    Ok(Vault::new(&[key]))
}

pub(super) fn kept(vault: &Vault, it: &Subscription) -> KeptSubscription {
    let Form { secrets, headers, .. } = &it.form;
    let seal = |purpose: &str, name: &str, version: usize, until, text: &str| KeptSecret {
        sealed: vault.seal(Place { owner: it.id.0, purpose, name }, text),
        purpose: purpose.to_owned(),
        name: name.to_owned(),
        version: u32::try_from(version).unwrap_or(u32::MAX),
        until,
    };
    let secrets = secrets.iter().flat_map(|(name, versions)| {
        let versions = versions.iter().enumerate();
        versions.map(move |(at, it)| seal(SECRET, name, at, it.until, &it.text))
    });
    let headers = headers.iter().map(|(name, value)| seal(HEADER, name, 0, None, value));
    KeptSubscription {
        id: it.id,
        number: it.number,
        tenant: it.tenant.to_string(),
        made_by: it.made_by.to_string(),
        created: it.created,
        updated: it.updated,
        form: serde_json::to_string(&Written::of(&it.form)).expect("a form always serialises"),
        secrets: secrets.chain(headers).collect(),
    }
}

pub(super) fn opened(vault: &Vault, kept: KeptSubscription) -> Result<Subscription, QueueError> {
    let id = kept.id;
    let written: Written = serde_json::from_str(&kept.form)
        .map_err(|error| QueueError::Broken(format!("the subscription {id}: {error}").into()))?;
    let mut form = written.form();
    for it in kept.secrets {
        let text = it.open(vault, id).map_err(|error| QueueError::Broken(error.into()))?;
        match it.purpose.as_str() {
            HEADER => drop(form.headers.insert(it.name, text)),
            // They come newest first.
            _ => {
                let version = SecretVersion { text, until: it.until };
                form.secrets.entry(it.name).or_default().push(version);
            }
        }
    }
    Ok(Subscription {
        id,
        number: kept.number,
        tenant: kept.tenant.into(),
        made_by: kept.made_by.into(),
        form,
        created: kept.created,
        updated: kept.updated,
    })
}

impl Written {
    fn of(form: &Form) -> Self {
        let form = form.clone();
        Self {
            name: form.name,
            description: form.description,
            from: form.from,
            types: form.types,
            url: form.url,
            active: form.active,
            rate_limit: form.rate_limit,
            platform: form.platform,
            settings: form.settings,
            attributes: form.attributes,
        }
    }

    fn form(self) -> Form {
        Form {
            name: self.name,
            description: self.description,
            from: self.from,
            types: self.types,
            url: self.url,
            active: self.active,
            rate_limit: self.rate_limit,
            platform: self.platform,
            settings: self.settings,
            headers: BTreeMap::new(),
            secrets: BTreeMap::new(),
            attributes: self.attributes,
        }
    }
}
