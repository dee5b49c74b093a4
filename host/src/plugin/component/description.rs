//! What a plugin says of itself, with the strings that are a choice checked and
//! everything bounded: all of it is kept for as long as the plugin is loaded, and
//! some of it is shown to people.

use serde_json::Value;

use super::super::bindings::exports::plugpost::plugin::plugin as said;
use super::super::secrets::Encoding as KeyEncoding;
use super::super::text::printable;

/// What a plugin says of itself, checked.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    pub(crate) settings_schema: Value,
    pub(crate) secrets: Vec<SecretNeed>,
    pub(crate) event_types: Vec<String>,
    pub(crate) policy: Vec<(String, String)>,
}

/// A secret a plugin uses.
#[derive(Clone, Debug)]
pub(crate) struct SecretNeed {
    pub(crate) name: String,
    pub(crate) encoding: KeyEncoding,
    pub(crate) required: bool,
    pub(crate) summary: String,
}

/// A name, a version, a secret's name.
const WORD_BYTES_MAX: usize = 64;
/// A sentence; a key or a value of the policy; an event type.
const TEXT_BYTES_MAX: usize = 1 << 10;
const SECRETS_MAX: usize = 64;
/// The largest platform known has 160.
const EVENT_TYPES_MAX: usize = 4096;
const POLICY_MAX: usize = 64;
const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Schemas within the schema, each counted as often as a `$ref` leads to it.
/// Settings are held against them on the host's own time.
const SCHEMAS_MAX: usize = 10_000;
/// A regular expression that looks back takes time; the validator gives up after a
/// million steps of one.
const PATTERN_BYTES_MAX: usize = 256;

impl Description {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self {
            name: String::new(),
            version: String::new(),
            summary: String::new(),
            settings_schema: Value::Null,
            secrets: Vec::new(),
            event_types: Vec::new(),
            policy: Vec::new(),
        }
    }

    pub(super) fn check(said: said::Description) -> Result<Self, String> {
        word("name", &said.name)?;
        word("version", &said.version)?;
        text("summary", &said.summary)?;
        at_most("secrets", said.secrets.len(), SECRETS_MAX)?;
        at_most("event types", said.event_types.len(), EVENT_TYPES_MAX)?;
        at_most("rules", said.policy.len(), POLICY_MAX)?;
        said.event_types.iter().try_for_each(|it| text("event type", it))?;
        said.policy.iter().try_for_each(|(key, value)| {
            text("rule", key)?;
            text("rule", value)
        })?;
        Ok(Self {
            secrets: said.secrets.into_iter().map(SecretNeed::check).collect::<Result<_, _>>()?,
            settings_schema: schema(&said.settings_schema)?,
            name: said.name,
            version: said.version,
            summary: said.summary,
            event_types: said.event_types,
            policy: said.policy,
        })
    }
}

impl SecretNeed {
    fn check(need: said::SecretNeed) -> Result<Self, String> {
        word("secret's name", &need.name)?;
        text("secret's summary", &need.summary)?;
        let encoding = KeyEncoding::from_name(&need.encoding).ok_or_else(|| {
            let encoding = printable(&need.encoding, WORD_BYTES_MAX);
            format!("the secret `{}` has an unknown encoding {encoding:?}", need.name)
        })?;
        Ok(Self { name: need.name, encoding, required: need.required, summary: need.summary })
    }
}

fn word(what: &str, said: &str) -> Result<(), String> {
    if (1..=WORD_BYTES_MAX).contains(&said.len()) && said.bytes().all(|it| it.is_ascii_graphic()) {
        return Ok(());
    }
    let shown = printable(said, WORD_BYTES_MAX);
    Err(format!("its {what} {shown:?} is not 1 to {WORD_BYTES_MAX} visible ASCII characters"))
}

fn text(what: &str, said: &str) -> Result<(), String> {
    if said.len() <= TEXT_BYTES_MAX && !said.contains(char::is_control) {
        return Ok(());
    }
    let shown = printable(said, WORD_BYTES_MAX);
    Err(format!(
        "its {what} {shown:?} is not text of at most {TEXT_BYTES_MAX} bytes without control \
         characters"
    ))
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), String> {
    match count > max {
        true => Err(format!("{count} {what} are more than the {max} a plugin may have")),
        false => Ok(()),
    }
}

/// The settings' schema, which may refer to itself only as often as it stays small.
fn schema(said: &str) -> Result<Value, String> {
    at_most("bytes of settings' schema", said.len(), SCHEMA_BYTES_MAX)?;
    let schema: Value = serde_json::from_str(said)
        .map_err(|error| format!("the settings' schema is not JSON: {error}"))?;
    let mut left = SCHEMAS_MAX;
    // A boolean is a schema; anything else that is no object the validator explains.
    walk(&schema, &schema, &mut left, 0)?;
    Ok(schema)
}

/// Go through a schema as the validator would with the worst of settings.
fn walk(root: &Value, at: &Value, left: &mut usize, depth: usize) -> Result<(), String> {
    *left = left.checked_sub(1).filter(|_| depth < DEPTH_MAX).ok_or_else(|| {
        format!(
            "the settings' schema is endless, or has more than {SCHEMAS_MAX} parts: a $ref \
             cannot lead back to where it stands"
        )
    })?;
    match at {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        walk(root, local(root, to)?, left, depth + 1)?;
                    }
                    ("$dynamicRef" | "$recursiveRef" | "$id", Value::String(to))
                        if depth > 0 || key != "$id" =>
                    {
                        return Err(format!(
                            "the settings' schema has a {key} {:?}: only a $ref to #/… is followed",
                            printable(to, WORD_BYTES_MAX)
                        ));
                    }
                    ("pattern", Value::String(pattern)) => {
                        at_most("bytes of a pattern", pattern.len(), PATTERN_BYTES_MAX)?;
                    }
                    _ => walk(root, value, left, depth + 1)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|it| walk(root, it, left, depth + 1)),
        _ => Ok(()),
    }
}

/// How deep parts of a schema lie in one another, references followed.
const DEPTH_MAX: usize = 128;

/// What a `$ref` means: a place in the same schema, never another file or host.
fn local<'a>(root: &'a Value, to: &str) -> Result<&'a Value, String> {
    let pointer = to.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with('/'));
    // Neither encoded nor an anchor: it means here what it means to the validator.
    let pointer = pointer.filter(|it| !it.contains('%'));
    pointer.and_then(|it| root.pointer(it)).ok_or_else(|| {
        let to = printable(to, WORD_BYTES_MAX);
        format!("the settings' schema refers to {to:?}: a $ref leads to #/… in the same schema")
    })
}
