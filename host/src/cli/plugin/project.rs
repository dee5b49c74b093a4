//! `plugpost plugin new` and what it writes: a folder that builds, tests and loads
//! as it is. The files are those of the examples in this repository, which the
//! tests build, with another name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use crate::cli::say;

/// Begin a plugin: a folder that builds, tests and loads as it is
#[derive(Args)]
pub(in crate::cli) struct New {
    /// Its name: lower-case letters, digits and hyphens
    name: String,
    /// The language
    #[arg(long, value_enum)]
    lang: Language,
    /// Where to put the folder; by default ./NAME
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    #[value(name = "js")]
    JavaScript,
    Python,
    Go,
}

/// The name the examples go by.
const EXAMPLE: &str = "parcels";
const NAME_BYTES_MAX: usize = 64;

type File = (&'static str, &'static str);

macro_rules! example {
    ($path:expr) => {
        include_str!(concat!("../../../../examples/plugins-in-four-languages/", $path))
    };
}

macro_rules! sdk {
    ($($name:literal)*) => {
        [$((concat!("sdk/", $name), include_str!(concat!("../../../../plugins/sdk/", $name)))),*]
    };
}

macro_rules! go {
    ($($name:literal)*) => {
        [$(($name, example!(concat!("go/", $name)))),*]
    };
}

const RUST: [File; 2] =
    [("Cargo.toml", example!("rust/Cargo.toml")), ("src/lib.rs", example!("rust/src/lib.rs"))];
const SDK: [File; 20] = sdk!(
    "Cargo.toml" "src/allocator.rs" "src/bindings.rs" "src/credentials.rs" "src/description.rs"
    "src/event.rs" "src/excerpt.rs" "src/inbound.rs" "src/instance.rs" "src/json.rs" "src/lib.rs"
    "src/places.rs" "src/rfc3339.rs" "src/roles.rs" "src/rules.rs" "src/secrets.rs"
    "src/standard_webhooks.rs" "src/webhook_api.rs" "src/webhook_api/headers.rs"
    "src/webhook_api/stand_in.rs"
);
const JAVASCRIPT: [File; 3] = [
    ("package.json", example!("javascript/package.json")),
    ("build.mjs", example!("javascript/build.mjs")),
    ("plugin.js", example!("javascript/plugin.js")),
];
const PYTHON: [File; 2] =
    [("pyproject.toml", example!("python/pyproject.toml")), ("app.py", example!("python/app.py"))];
const GO: [File; 36] = go!(
    "go.mod"
    "main.go"
    "plugin/plugin.go"
    "bindings/exports/export_plugpost_plugin_auth/empty.s"
    "bindings/exports/export_plugpost_plugin_auth/wit_bindings.go"
    "bindings/exports/export_plugpost_plugin_plugin/empty.s"
    "bindings/exports/export_plugpost_plugin_plugin/wit_bindings.go"
    "bindings/exports/export_plugpost_plugin_source/empty.s"
    "bindings/exports/export_plugpost_plugin_source/wit_bindings.go"
    "bindings/exports/export_plugpost_plugin_transform/empty.s"
    "bindings/exports/export_plugpost_plugin_transform/wit_bindings.go"
    "bindings/exports/wit_exports/wit_exports.go"
    "bindings/imports/plugpost_plugin_auth/empty.s"
    "bindings/imports/plugpost_plugin_auth/wit_bindings.go"
    "bindings/imports/plugpost_plugin_events/empty.s"
    "bindings/imports/plugpost_plugin_events/wit_bindings.go"
    "bindings/imports/plugpost_plugin_logging/empty.s"
    "bindings/imports/plugpost_plugin_logging/wit_bindings.go"
    "bindings/imports/plugpost_plugin_plugin/empty.s"
    "bindings/imports/plugpost_plugin_plugin/wit_bindings.go"
    "bindings/imports/plugpost_plugin_requests/empty.s"
    "bindings/imports/plugpost_plugin_requests/wit_bindings.go"
    "bindings/imports/plugpost_plugin_secrets/empty.s"
    "bindings/imports/plugpost_plugin_secrets/wit_bindings.go"
    "bindings/imports/plugpost_plugin_source/empty.s"
    "bindings/imports/plugpost_plugin_source/wit_bindings.go"
    "bindings/imports/plugpost_plugin_transform/empty.s"
    "bindings/imports/plugpost_plugin_transform/wit_bindings.go"
    "bindings/imports/plugpost_plugin_types/empty.s"
    "bindings/imports/plugpost_plugin_types/wit_bindings.go"
    "bindings/wit/runtime/empty.s"
    "bindings/wit/runtime/runtime.go"
    "bindings/wit/types/option.go"
    "bindings/wit/types/result.go"
    "bindings/wit/types/tuple.go"
    "bindings/wit/types/unit.go"
);
const WIT: [File; 5] = [
    ("wit/host.wit", include_str!("../../../../wit/host.wit")),
    ("wit/roles.wit", include_str!("../../../../wit/roles.wit")),
    ("wit/subscriptions.wit", include_str!("../../../../wit/subscriptions.wit")),
    ("wit/types.wit", include_str!("../../../../wit/types.wit")),
    ("wit/worlds.wit", include_str!("../../../../wit/worlds.wit")),
];
const CASES: [File; 5] = [
    (
        "cases/a-signed-request-becomes-an-event.json",
        example!("cases/a-signed-request-becomes-an-event.json"),
    ),
    ("cases/a-tracking-url-is-https.json", example!("cases/a-tracking-url-is-https.json")),
    (
        "cases/an-event-becomes-a-signed-request.json",
        example!("cases/an-event-becomes-a-signed-request.json"),
    ),
    (
        "cases/an-event-without-a-parcel-is-a-dead-letter.json",
        example!("cases/an-event-without-a-parcel-is-a-dead-letter.json"),
    ),
    (
        "cases/another-signature-is-refused.json",
        example!("cases/another-signature-is-refused.json"),
    ),
];
const GITIGNORE: &str = "/target\n/node_modules\n/.venv\n__pycache__\n*.wasm\n";

impl New {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let name = &self.name;
        let is_word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        ensure!(
            name.bytes().all(is_word)
                && name.starts_with(|it: char| it.is_ascii_lowercase())
                && !name.ends_with('-')
                && name.len() <= NAME_BYTES_MAX,
            "{name:?} is no name for a plugin: it begins with a letter and has lower-case letters, \
             digits and hyphens, {NAME_BYTES_MAX} at most"
        );
        let folder = self.dir.clone().unwrap_or_else(|| name.into());
        if fs::read_dir(&folder).is_ok_and(|mut it| it.next().is_some()) {
            bail!("{} is not empty: give another folder with --dir", folder.display());
        }
        let own: &[File] = match self.lang {
            Language::Rust => &RUST,
            Language::JavaScript => &JAVASCRIPT,
            Language::Python => &PYTHON,
            Language::Go => &GO,
        };
        for (path, text) in own.iter().chain(&CASES) {
            write(&folder, path, &text.replace(EXAMPLE, name))?;
        }
        for (path, text) in WIT {
            write(&folder, path, text)?;
        }
        if self.lang == Language::Rust {
            for (path, text) in SDK {
                // Here `wit` lies one folder up from the SDK, in the repository two.
                write(&folder, path, &text.replace("\"../../wit\"", "\"../wit\""))?;
            }
            let manifest = folder.join("Cargo.toml");
            let text = fs::read_to_string(&manifest)?;
            write(&folder, "Cargo.toml", &stand_alone(&text)?)?;
        }
        write(&folder, ".gitignore", GITIGNORE)?;
        write(&folder, "README.md", &readme(name, self.lang))?;
        let folder = folder.display();
        say(format!(
            "{folder} is a plugin in {}. What to do next:\n\n  plugpost plugin build {folder}\n  \
             plugpost plugin test {folder}/{name}.wasm {folder}/cases\n  plugpost dev {folder}",
            self.lang.name()
        ))?;
        Ok(true)
    }
}

impl Language {
    /// The language of a plugin's folder, by the file that names its dependencies.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        let all = [Self::Rust, Self::JavaScript, Self::Python, Self::Go];
        let found = all.into_iter().find(|it| folder.join(it.manifest()).is_file());
        found.with_context(|| {
            let manifests = all.map(Self::manifest).join(", ");
            format!("{} holds no plugin: it has none of {manifests}", folder.display())
        })
    }

    pub(super) fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "pyproject.toml",
            Self::Go => "go.mod",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::Go => "Go",
        }
    }

    /// The file to begin with.
    fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::JavaScript => "plugin.js",
            Self::Python => "app.py",
            Self::Go => "plugin/plugin.go",
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Rust => {
                "Rust with the target wasm32-unknown-unknown (`rustup target add \
                 wasm32-unknown-unknown`)"
            }
            Self::JavaScript => "Node.js 20 or later with npm, which fetches componentize-js",
            Self::Python => "Python 3.10 or later with pip, which fetches componentize-py",
            Self::Go => "Go 1.24 or later, and nothing else",
        }
    }
}

fn write(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(path);
    let parent = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// The manifest with the SDK beside it, and what the SDK takes from its workspace.
fn stand_alone(manifest: &str) -> anyhow::Result<String> {
    let root: toml::Table = include_str!("../../../../Cargo.toml").parse()?;
    let workspace = root.get("workspace").and_then(|it| it.as_table());
    let workspace = workspace.context("this repository is a workspace")?;
    let mut kept = toml::Table::new();
    kept.insert("members".into(), vec!["sdk"].into());
    for key in ["package", "dependencies", "lints"] {
        let Some(value) = workspace.get(key) else { continue };
        let mut value = value.clone();
        if let Some(table) = value.as_table_mut() {
            table.remove("plugpost-plugin");
        }
        kept.insert(key.into(), value);
    }
    let mut table = toml::Table::new();
    table.insert("workspace".into(), kept.into());
    let (own, _) = manifest.split_once("[workspace]").context("the example is a workspace")?;
    let own = own.replace("../../../plugins/sdk", "sdk");
    Ok(format!("{own}# What the SDK shares with this plugin.\n{}", toml::to_string(&table)?))
}

fn readme(name: &str, language: Language) -> String {
    format!(
        "# {name}\n\nA Plugpost plugin in {}. It takes a platform's signed requests in, sends events \
         out in the\nplatform's form, and signs them. Begin in `{}`.\n\nNeeds {}.\n\n```sh\n\
         plugpost plugin build          # makes {name}.wasm\n\
         plugpost plugin test {name}.wasm cases\n\
         plugpost plugin inspect {name}.wasm\n\
         plugpost dev . --hub ../my-hub # builds, tests and loads it at every save\n```\n\n\
         To use it, copy `{name}.wasm` into a hub's `plugins/`, and in `routes/*.toml`:\n\n\
         ```toml\nplatform = \"{name}\"\nsecrets.key = {{ env = \"KEY\" }}\n```\n\n\
         `cases/` holds what must come out for what goes in; `--bless` writes it anew after a \
         change\nthat was meant. `wit/` is what plugin and engine agree on: it is not edited.\n",
        language.name(),
        language.source(),
        language.needs(),
    )
}
