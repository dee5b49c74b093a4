//! `plugpost plugin inspect`: what a plugin is and may do; and `plugin doc`, the
//! same as a page to be read.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::load;
use super::test::bytes;
use crate::cli::say;
use crate::plugin::Component;

/// Say what a plugin is: roles, capabilities, settings, secrets, event types, policy
#[derive(Args)]
pub(in crate::cli) struct Inspect {
    /// A component, or a core module with its component type
    file: PathBuf,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

/// Write a page about a plugin, in Markdown, from what it says of itself
#[derive(Args)]
pub(in crate::cli) struct Doc {
    /// A component, or a core module with its component type
    file: PathBuf,
}

impl Inspect {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let component = load(&self.file)?;
        match self.json {
            true => say(format!("{:#}", as_json(&component)))?,
            false => say(in_words(&component)?)?,
        }
        Ok(true)
    }
}

impl Doc {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let component = load(&self.file)?;
        say(page(&component, &self.file)?.trim_end())?;
        Ok(true)
    }
}

fn as_json(component: &Component) -> Value {
    let description = component.description();
    let roles: Vec<_> = component.roles().iter().map(|it| it.as_str()).collect();
    let secrets: Vec<_> = (description.secrets.iter())
        .map(|it| {
            json!({
                "name": it.name,
                "encoding": it.encoding.as_str(),
                "required": it.required,
                "summary": it.summary,
            })
        })
        .collect();
    let policy: serde_json::Map<_, _> =
        description.policy.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "name": description.name,
        "version": description.version,
        "summary": description.summary,
        "roles": roles,
        "imports": component.imports(),
        "capabilities": capabilities(component),
        "settings_schema": description.settings_schema,
        "secrets": secrets,
        "event_types": description.event_types,
        "policy": policy,
        "size_bytes": component.size_bytes(),
        "compile_ms": u64::try_from(component.compile_time().as_millis()).unwrap_or(u64::MAX),
        "sha256": component.sha256(),
    })
}

/// What its imports enable it to do.
fn capabilities(component: &Component) -> Vec<&'static str> {
    let mut all = Vec::new();
    for import in component.imports() {
        let word = match import.split('@').next().unwrap_or_default() {
            "plugpost:plugin/events" => "reads the event in hand",
            "plugpost:plugin/requests" => "reads the request in hand",
            "plugpost:plugin/secrets" => "signs and compares with secrets it never sees",
            "plugpost:plugin/logging" => "writes to the operator's log",
            wasi if wasi.starts_with("wasi:") => {
                "finds a WASI that does nothing: clocks that stand still, randomness that repeats, \
                 no files, no network, no environment"
            }
            _ => continue,
        };
        if !all.contains(&word) {
            all.push(word);
        }
    }
    all
}

fn in_words(component: &Component) -> anyhow::Result<String> {
    let description = component.description();
    let mut text = format!("{} {}", description.name, description.version);
    writeln!(text, ": {}\n", description.summary)?;
    let roles: Vec<_> = component.roles().iter().map(|it| it.as_str()).collect();
    writeln!(text, "roles         {}", roles.join(", "))?;
    list(&mut text, "may", &capabilities(component))?;
    let settings: Vec<_> =
        settings(&description.settings_schema).iter().map(Setting::line).collect();
    list(&mut text, "settings", &settings)?;
    let secrets = description.secrets.iter().map(|it| {
        let required = if it.required { "required" } else { "optional" };
        format!("{} ({required}, {}): {}", it.name, it.encoding.as_str(), it.summary)
    });
    list(&mut text, "secrets", &secrets.collect::<Vec<_>>())?;
    list(&mut text, "event types", &description.event_types)?;
    let policy = description.policy.iter().map(|(key, value)| format!("{key} = {value}"));
    list(&mut text, "policy", &policy.collect::<Vec<_>>())?;
    writeln!(text, "size          {}", bytes(component.size_bytes()))?;
    writeln!(text, "compiled in   {} ms", component.compile_time().as_millis())?;
    write!(text, "sha256        {}", component.sha256())?;
    Ok(text)
}

/// A heading beside its lines.
fn list<T: std::fmt::Display>(text: &mut String, name: &str, lines: &[T]) -> anyhow::Result<()> {
    if lines.is_empty() {
        writeln!(text, "{name:<13} none")?;
    }
    for (index, line) in lines.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        writeln!(text, "{name:<13} {line}")?;
    }
    Ok(())
}

/// One member of the settings, as far as the schema says it in the usual way.
struct Setting {
    name: String,
    kind: String,
    required: bool,
    default: Option<String>,
    description: String,
}

fn settings(schema: &Value) -> Vec<Setting> {
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|it| it.iter().any(|it| it == name))
    };
    let properties = schema["properties"].as_object();
    let setting = |(name, it): (&String, &Value)| {
        let kind = match (&it["type"], &it["enum"]) {
            (_, Value::Array(values)) => {
                values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ")
            }
            (Value::String(kind), _) => kind.clone(),
            (Value::Null, _) => "any".into(),
            (kinds, _) => kinds.to_string(),
        };
        Setting {
            name: name.clone(),
            kind,
            required: required(name),
            default: it.get("default").map(Value::to_string),
            description: it["description"].as_str().unwrap_or_default().to_owned(),
        }
    };
    properties.into_iter().flatten().map(setting).collect()
}

impl Setting {
    fn line(&self) -> String {
        let required = if self.required { ", required" } else { "" };
        let default = self.default.as_ref().map_or(String::new(), |it| format!(", default {it}"));
        let Self { name, kind, description, .. } = self;
        let description = match description.is_empty() {
            true => String::new(),
            false => format!(": {description}"),
        };
        format!("{name} ({kind}{required}{default}){description}")
    }
}

fn page(component: &Component, file: &Path) -> anyhow::Result<String> {
    let description = component.description();
    let roles: Vec<_> = component.roles().iter().map(|it| it.as_str()).collect();
    let mut text = format!("# {}\n\n", cell(&description.name));
    writeln!(text, "{} (version {}).\n", cell(&description.summary), cell(&description.version))?;
    writeln!(text, "Roles: {}. The plugin", roles.join(", "))?;
    let capabilities = capabilities(component);
    for (index, capability) in capabilities.iter().enumerate() {
        let end = if index + 1 == capabilities.len() { '.' } else { ';' };
        writeln!(text, "- {capability}{end}")?;
    }
    let settings = settings(&description.settings_schema);
    if !settings.is_empty() {
        text +=
            "\n## Settings\n\n| setting | type | required | default | |\n|---|---|---|---|---|\n";
        for it in settings {
            let required = if it.required { "yes" } else { "" };
            let default = it.default.map_or(String::new(), |it| format!("`{}`", cell(&it)));
            let (name, kind) = (cell(&it.name), cell(&it.kind));
            let description = cell(&it.description);
            writeln!(text, "| `{name}` | {kind} | {required} | {default} | {description} |")?;
        }
    }
    if !description.secrets.is_empty() {
        text += "\n## Secrets\n\n| secret | required | encoding | |\n|---|---|---|---|\n";
        for it in &description.secrets {
            let required = if it.required { "yes" } else { "" };
            let (name, encoding) = (cell(&it.name), it.encoding.as_str());
            writeln!(text, "| `{name}` | {required} | {encoding} | {} |", cell(&it.summary))?;
        }
    }
    if !description.event_types.is_empty() {
        text += "\n## Event types\n\n";
        for it in &description.event_types {
            writeln!(text, "- `{}`", cell(it))?;
        }
    }
    if !description.policy.is_empty() {
        text += "\n## Policy\n\nDefaults for a route's own keys.\n\n";
        for (key, value) in &description.policy {
            writeln!(text, "- `{}` = `{}`", cell(key), cell(value))?;
        }
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let use_of = match roles.as_slice() {
        ["source"] => format!("plugin = \"{stem}\""),
        [role @ ("filter" | "transform" | "auth")] => format!("[[{role}]]\nplugin = \"{stem}\""),
        _ => format!("platform = \"{stem}\""),
    };
    write!(text, "\n## In a file\n\n```toml\n{use_of}\n")?;
    for it in description.secrets.iter().filter(|it| it.required) {
        writeln!(text, "secrets.{} = {{ env = \"{}\" }}", it.name, it.name.to_uppercase())?;
    }
    text += "```\n";
    Ok(text)
}

/// Text that cannot break out of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
