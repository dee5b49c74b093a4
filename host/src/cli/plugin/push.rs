//! `plugpost plugin push`: a plugin goes into an OCI registry, as the CNCF's Wasm
//! artifact, and its reference with the digest is printed.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::load;
use crate::cli::{block_on, remote, say};
use crate::registry::{Login, Reference, Registry};

/// Put a plugin into an OCI registry, and print what `plugins.fetch` takes
#[derive(Args)]
pub(in crate::cli) struct Push {
    /// A component, or a core module with its component type
    file: PathBuf,
    /// Where to: oci://HOST[:PORT]/NAME[:TAG]; its last part is the plugin's name
    #[arg(value_name = "REF", value_parser = Reference::parse)]
    to: Reference,
    /// The user name, where the registry wants one
    #[arg(long, env = "PLUGPOST_REGISTRY_USERNAME", requires = "password")]
    username: Option<String>,
    /// The password or token; better given by the environment
    #[arg(long, env = "PLUGPOST_REGISTRY_PASSWORD", hide_env_values = true, requires = "username")]
    password: Option<String>,
    /// The registry speaks http://, as one on this machine may
    #[arg(long)]
    plain_http: bool,
}

impl Push {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        // What does not load here loads nowhere.
        let component = load(&self.file)?;
        let plugin = fs::read(&self.file)?;
        let about = json!({
            // The same file is the same artifact, whenever it is pushed.
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [format!("sha256:{}", component.sha256())],
            "component": { "exports": component.exports(), "imports": component.imports() },
        });
        let login = self.username.as_ref().zip(self.password.as_ref());
        let login = login.map(|(username, password)| Login {
            username: Zeroizing::new(username.clone()),
            password: Zeroizing::new(password.clone()),
        });
        let client = remote::anywhere();
        let mut registry = Registry::new(&client, &self.to, !self.plain_http, login.as_ref());
        let version = &component.description().version;
        let pushed = block_on(async {
            let about = about.to_string().into();
            Ok(registry.push(&self.to, plugin.into(), about, version).await?)
        })?;
        say(pushed.reference)?;
        Ok(true)
    }
}
