//! The local check of a manifest: what an API server would refuse is refused here, in one message for each object.
//!
//! ```text
//! text ──► documents ──► strict fields ──► nulls, defaults ──► schema ──► CEL ──► Object
//!          (YAML, JSON,   (as kubectl's     (as structural      (jsonschema) (kube-cel)
//!           List)          strict check)     defaulting)
//! ```
//!
//! Invariants: nothing that is read makes it panic or grow without bound; one bad object never hides a good one; an
//! [`Object`] is what the API server would store, defaults applied and status dropped.

mod document;
mod error;
mod json_schema;
mod metadata;
mod rules;
mod structural;

pub use document::MAX_BYTES;
pub use error::{ManifestError, Problem, Reason};

use crate::{API_VERSION, ChannelDiscovery, ChatPipeline, Phrase, TrackedChannel};
use document::Document;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// The kinds of `clamor.dev/v1alpha1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `cpl`
    ChatPipeline,
    /// `tc`
    TrackedChannel,
    /// `ph`
    Phrase,
    /// `cd`
    ChannelDiscovery,
}

/// An object that passed.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A pipeline.
    ChatPipeline(Box<ChatPipeline>),
    /// A channel.
    TrackedChannel(Box<TrackedChannel>),
    /// A phrase.
    Phrase(Box<Phrase>),
    /// A discovery.
    ChannelDiscovery(Box<ChannelDiscovery>),
}

/// Checks every object of a file's text, in their order.
///
/// `file` is only used in messages. `old` gives the object that stands now, if there is one, as its JSON (see
/// [`Object::to_value`]): rules that compare with it, such as immutable fields, are then evaluated too. Two objects of
/// one kind and name are the caller's matter, as they may come from two files.
///
/// An object of a kind that is not Clamor's is an error of [`Reason::ForeignKind`], which a caller may pass over.
pub fn check(file: &str, text: &str, old: impl Fn(Kind, &str) -> Option<Value>) -> Vec<Result<Object, ManifestError>> {
    document::read(text)
        .into_iter()
        .map(|document| {
            let Document { number, content } = document;
            let mut named = String::new();
            content
                .and_then(|value| {
                    named = describe(&value);
                    check_object(value, &old)
                })
                .map_err(|refusal| ManifestError::new(file, number, named, refusal))
        })
        .collect()
}

/// What is wrong with one object, before it is known where it stands.
pub(crate) struct Refusal {
    reason: Reason,
    problems: Vec<Problem>,
}

impl Refusal {
    fn one(reason: Reason, field: impl Into<String>, rule: &str, message: impl Into<String>) -> Self {
        Self { reason, problems: vec![Problem { field: field.into(), rule: rule.to_owned(), message: message.into() }] }
    }

    /// The reason is that of the first problem.
    fn unless_none<const N: usize>(found: [(Reason, Vec<Problem>); N]) -> Result<(), Self> {
        let Some(reason) = found.iter().find(|(_, problems)| !problems.is_empty()).map(|(reason, _)| *reason) else {
            return Ok(());
        };
        Err(Self { reason, problems: found.into_iter().flat_map(|(_, problems)| problems).collect() })
    }
}

fn check_object(mut value: Value, old: &impl Fn(Kind, &str) -> Option<Value>) -> Result<Object, Refusal> {
    let kind = kind_of(&value)?;
    let schema = rules::of(kind);
    let unknown = structural::unknown_fields(&schema.structural, &value);
    let metadata = metadata::problems(&value);
    normalise(&schema.structural, &mut value);
    let schema_problems = schema.schema_problems(&value);
    // All of it in one message; the rules only judge what has the right shape.
    let has_shape = unknown.is_empty() && !metadata.iter().chain(&schema_problems).any(json_schema::is_of_shape);
    let rule_problems = if has_shape { rule_problems(schema, kind, &value, old) } else { Vec::new() };
    Refusal::unless_none([
        (Reason::UnknownField, unknown),
        (Reason::InvalidMetadata, metadata),
        (Reason::SchemaViolation, schema_problems),
        (Reason::RuleViolation, rule_problems),
    ])?;
    Object::from_value(kind, value)
}

fn rule_problems(
    schema: &rules::Rules,
    kind: Kind,
    value: &Value,
    old: &impl Fn(Kind, &str) -> Option<Value>,
) -> Vec<Problem> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let old = old(kind, name).map(|mut old| {
        normalise(&schema.structural, &mut old);
        old
    });
    schema.rule_problems(value, old.as_ref())
}

// As the API server does on a write to the main resource: status is not the writer's.
fn normalise(schema: &Value, value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    structural::prune_nulls(schema, value);
    structural::apply_defaults(schema, value);
}

fn kind_of(value: &Value) -> Result<Kind, Refusal> {
    let Some(object) = value.as_object() else {
        return Err(Refusal::one(
            Reason::NotAnObject,
            "",
            "object",
            "not a Kubernetes object: it must have apiVersion, kind, metadata and spec",
        ));
    };
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    for (field, found, example) in [("apiVersion", api_version, API_VERSION), ("kind", kind, "TrackedChannel")] {
        if found.is_empty() {
            let message = format!("Required value: write {field}, for example {field}: {example}");
            return Err(Refusal::one(Reason::NotAnObject, field, "required", message));
        }
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group != crate::GROUP {
        let message = format!("{kind} of {api_version} is none of Clamor's kinds: {}", Kind::names());
        return Err(Refusal::one(Reason::ForeignKind, "kind", "kind", message));
    }
    if version != crate::VERSION {
        let message = format!("there is no version {version} of {group}: write {API_VERSION}");
        return Err(Refusal::one(Reason::UnknownVersion, "apiVersion", "apiVersion", message));
    }
    Kind::from_name(kind).ok_or_else(|| {
        let message = format!("there is no kind {kind} in {API_VERSION}: write one of {}", Kind::names());
        Refusal::one(Reason::UnknownKind, "kind", "kind", message)
    })
}

// "TrackedChannel/forsen", or as much of it as there is.
fn describe(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let described = if name.is_empty() { kind.to_owned() } else { format!("{kind}/{name}") };
    error::shorten(&described, 120)
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::ChatPipeline, Self::TrackedChannel, Self::Phrase, Self::ChannelDiscovery];

    /// As manifests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatPipeline => "ChatPipeline",
            Self::TrackedChannel => "TrackedChannel",
            Self::Phrase => "Phrase",
            Self::ChannelDiscovery => "ChannelDiscovery",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Object {
    fn from_value(kind: Kind, value: Value) -> Result<Self, Refusal> {
        Ok(match kind {
            Kind::ChatPipeline => Self::ChatPipeline(decode(value)?),
            Kind::TrackedChannel => Self::TrackedChannel(decode(value)?),
            Kind::Phrase => Self::Phrase(decode(value)?),
            Kind::ChannelDiscovery => Self::ChannelDiscovery(decode(value)?),
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::ChatPipeline(_) => Kind::ChatPipeline,
            Self::TrackedChannel(_) => Kind::TrackedChannel,
            Self::Phrase(_) => Kind::Phrase,
            Self::ChannelDiscovery(_) => Kind::ChannelDiscovery,
        }
    }

    /// Its `metadata.name`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::ChatPipeline(object) => object.name_any(),
            Self::TrackedChannel(object) => object.name_any(),
            Self::Phrase(object) => object.name_any(),
            Self::ChannelDiscovery(object) => object.name_any(),
        }
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        match self {
            Self::ChatPipeline(object) => object.labels(),
            Self::TrackedChannel(object) => object.labels(),
            Self::Phrase(object) => object.labels(),
            Self::ChannelDiscovery(object) => object.labels(),
        }
    }

    /// Its JSON, as `old` of a later [`check`] takes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let value = match self {
            Self::ChatPipeline(object) => serde_json::to_value(object),
            Self::TrackedChannel(object) => serde_json::to_value(object),
            Self::Phrase(object) => serde_json::to_value(object),
            Self::ChannelDiscovery(object) => serde_json::to_value(object),
        };
        value.expect("a resource type, whose maps have string keys, serializes")
    }
}

// The schema has passed it; what is left are fields of metadata that only the API server writes.
fn decode<K: DeserializeOwned>(value: Value) -> Result<Box<K>, Refusal> {
    serde_json::from_value(value)
        .map(Box::new)
        .map_err(|error| Refusal::one(Reason::SchemaViolation, "", "type", error.to_string()))
}
