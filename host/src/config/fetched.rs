//! Plugins that come from a registry, and who we are there: `plugins.fetch` and
//! `[[registry]]` of `plugpost.toml`.

use std::path::Path;

use super::document::{Marked, Table};
use super::{Pins, is_name, secret};
use crate::registry::{Login, Pinned};

/// What `plugpost.toml` says of plugins.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    pub(super) pins: Pins,
    pub(super) fetched: Vec<Marked<Pinned>>,
}

/// A registry that wants a login, or that has no TLS.
#[derive(Debug)]
pub(crate) struct RegistryKeys {
    pub(crate) host: String,
    pub(crate) https_only: bool,
    /// None without one, and where stand-ins take the place of secrets.
    pub(crate) login: Option<Login>,
}

/// More plugins than a hub has.
const FETCHED_MAX: usize = 256;

impl Plugins {
    pub(super) fn read(root: &Table<'_, '_>) -> Self {
        // `plugins = […]` is short for a table with nothing but `fetch`.
        if root.has("plugins") && !root.is_table("plugins") {
            return Self { fetched: fetched(root, "plugins"), ..Self::default() };
        }
        let Some(plugins) = root.table("plugins") else { return Self::default() };
        let plugins = plugins.value;
        Self { pins: Pins::read(&plugins), fetched: fetched(&plugins, "fetch") }
    }
}

fn fetched(table: &Table<'_, '_>, key: &str) -> Vec<Marked<Pinned>> {
    let all = table.all_parsed(key, Pinned::parse).unwrap_or_default();
    let mut fetched: Vec<Marked<Pinned>> = Vec::new();
    for it in all {
        let name = it.value.reference.name();
        if !is_name(name) {
            table.problem(
                it.at,
                format!("`{name}`, the last part of the path, is no plugin's name"),
            );
        } else if fetched.iter().any(|other| other.value.reference.name() == name) {
            table.problem(it.at, format!("there are two plugins called `{name}`"));
        } else if fetched.len() == FETCHED_MAX {
            table.problem(it.at, format!("these are more than {FETCHED_MAX} plugins"));
            break;
        } else {
            fetched.push(it);
        }
    }
    fetched
}

pub(super) fn registries(root: &Table<'_, '_>, folder: &Path) -> Vec<RegistryKeys> {
    let mut registries: Vec<RegistryKeys> = Vec::new();
    for Marked { value: table, at } in root.tables("registry") {
        let host = table.string("host");
        let https_only = table.boolean("https_only").is_none_or(|it| it.value);
        let part = |key: &str| Some(secret::read(&table.table(key)?, folder)?.text);
        let login = match (table.has("username"), table.has("password")) {
            (true, true) => (part("username").zip(part("password")))
                .map(|(username, password)| Login { username, password })
                .filter(|_| !table.document().has_stand_ins()),
            (false, false) => None,
            _ => {
                table.problem(at, "a login has a username and a password");
                None
            }
        };
        let Some(host) = host else {
            if !table.has("host") {
                table.problem(at, "a registry has a host such as `registry.example.com`");
            }
            continue;
        };
        if registries.iter().any(|it| it.host == host.value) {
            table.problem(host.at, format!("there are two registries called `{}`", host.value));
        }
        registries.push(RegistryKeys { host: host.value, https_only, login });
    }
    registries
}
