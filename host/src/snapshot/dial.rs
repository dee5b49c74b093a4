//! What a route says of dialling becomes a client, and a grant where it wants
//! tokens. Those that are made of the same are the same, in one snapshot and from
//! one to the next: connections and tokens outlive a reload that does not touch them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::build::Build;
use crate::client::guard::Guard;
use crate::client::oauth::{Credentials, Grant, basic};
use crate::client::tls::{self, Tls};
use crate::client::{Client, Proxy};
use crate::config::{Digest, Hub, OAuth2Keys, ProxyKeys, RouteFile, TlsKeys};

/// What is in use, by the digest of what it was made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Dials {
    clients: Shared<Client>,
    grants: Shared<Grant>,
}

#[derive(Debug)]
struct Shared<T>(Arc<Mutex<HashMap<Digest, Weak<T>>>>);

impl<T> Shared<T> {
    fn get(&self, made_of: Sha256, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock();
        known.retain(|_, it| it.strong_count() > 0);
        let digest = made_of.finalize().into();
        if let Some(it) = known.get(&digest).and_then(Weak::upgrade) {
            return it;
        }
        let made = Arc::new(make());
        known.insert(digest, Arc::downgrade(&made));
        made
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl Build {
    /// What the endpoint of a route is reached with.
    pub(super) fn dial(
        &mut self,
        from: &RouteFile,
        hub: &Hub,
    ) -> Option<(Arc<Client>, Option<Arc<Grant>>)> {
        if self.stand_in.is_some() {
            // Nobody is called, and what is called with is secret.
            let client = Arc::new(Client::new(Guard::default()));
            let grant = from.dial.oauth2.as_ref().map(|it| self.grant(it, client.clone()));
            return Some((client, grant));
        }
        let keys = &from.dial;
        let client = self.client(&from.file, hub, &keys.tls, keys.proxy.as_ref());
        let grant = keys.oauth2.as_ref().map(|oauth2| {
            let client = self.client(&from.file, hub, &oauth2.tls, keys.proxy.as_ref())?;
            Some(self.grant(oauth2, client))
        });
        // All problems are found by now.
        match grant {
            Some(grant) => Some((client?, Some(grant?))),
            None => Some((client?, None)),
        }
    }

    fn client(
        &mut self,
        file: &Path,
        hub: &Hub,
        keys: &TlsKeys,
        proxy: Option<&ProxyKeys>,
    ) -> Option<Arc<Client>> {
        let tls = self.tls(file, keys)?;
        let mut made_of = Sha256::new();
        for network in &hub.allow_networks {
            part(&mut made_of, "allow", &network.to_string());
        }
        if let Some(ca) = &keys.ca {
            part(&mut made_of, "ca", &ca.text);
        }
        if let Some((certificate, key)) = &keys.identity {
            part(&mut made_of, "certificate", &certificate.text);
            part(&mut made_of, "key", &key.text);
        }
        if let Some(proxy) = proxy {
            part(&mut made_of, "proxy", &proxy.uri.to_string());
            if let Some((username, password)) = &proxy.login {
                part(&mut made_of, "username", username);
                part(&mut made_of, "password", &password.text);
            }
        }
        let proxy = proxy.map(|it| Proxy {
            uri: it.uri.clone(),
            authorization: it.login.as_ref().map(|(name, password)| basic(name, &password.text)),
        });
        let guard = Guard::allowing(hub.allow_networks.clone());
        Some(self.dials.clients.get(made_of, || Client::dialling(guard, tls, proxy)))
    }

    fn tls(&mut self, file: &Path, keys: &TlsKeys) -> Option<Tls> {
        let trust = keys.ca.as_ref().map(|ca| {
            let read = tls::trust(&ca.text);
            read.map(Arc::new).map_err(|message| self.problem(file, ca.at, message)).ok()
        });
        let identity = keys.identity.as_ref().map(|(certificate, key)| {
            let read = tls::identity(&certificate.text, &key.text);
            let problem = |unfit| match unfit {
                tls::Unfit::Certificate(message) => self.problem(file, certificate.at, message),
                tls::Unfit::Key(message) => self.problem(file, key.at, message),
            };
            read.map(Arc::new).map_err(problem).ok()
        });
        let is_wrong = trust.as_ref().is_some_and(Option::is_none)
            || identity.as_ref().is_some_and(Option::is_none);
        (!is_wrong).then(|| Tls { trust: trust.flatten(), identity: identity.flatten() })
    }

    fn grant(&self, keys: &OAuth2Keys, client: Arc<Client>) -> Arc<Grant> {
        let mut made_of = Sha256::new();
        // Clients that are made of the same are the same.
        part(&mut made_of, "client", &format!("{:p}", Arc::as_ptr(&client)));
        part(&mut made_of, "token_url", &keys.token_url.to_string());
        part(&mut made_of, "client_id", &keys.client_id);
        part(&mut made_of, "client_secret", &keys.client_secret.text);
        part(&mut made_of, "auth", if keys.in_body { "body" } else { "basic" });
        for (name, value) in &keys.parameters {
            part(&mut made_of, name, value);
        }
        let credentials = Credentials {
            id: &keys.client_id,
            secret: &keys.client_secret.text,
            in_body: keys.in_body,
        };
        let make =
            || Grant::new(keys.token_url.clone(), &credentials, &keys.parameters, client.clone());
        self.dials.grants.get(made_of, make)
    }
}

/// With their lengths, so that no two lists of parts are the same bytes.
fn part(made_of: &mut Sha256, name: &str, value: &str) {
    for text in [name, value] {
        made_of.update(text.len().to_le_bytes());
        made_of.update(text);
    }
}
