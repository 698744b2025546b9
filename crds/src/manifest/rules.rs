//! The schema and rules of each kind, compiled once.

use super::{Kind, Problem, json_schema};
use crate::{ChannelDiscovery, ChatPipeline, Phrase, TrackedChannel, definition};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;
use std::sync::LazyLock;

/// What an object of one kind is held to.
pub(super) struct Rules {
    pub(super) structural: Value,
    schema: jsonschema::Validator,
    cel: CompiledSchema,
}

pub(super) fn of(kind: Kind) -> &'static Rules {
    static CHAT_PIPELINE: LazyLock<Rules> =
        LazyLock::new(|| Rules::compile(definition::schema(&definition::of::<ChatPipeline>())));
    static TRACKED_CHANNEL: LazyLock<Rules> =
        LazyLock::new(|| Rules::compile(definition::schema(&definition::of::<TrackedChannel>())));
    static PHRASE: LazyLock<Rules> = LazyLock::new(|| Rules::compile(definition::schema(&definition::of::<Phrase>())));
    static CHANNEL_DISCOVERY: LazyLock<Rules> =
        LazyLock::new(|| Rules::compile(definition::schema(&definition::of::<ChannelDiscovery>())));
    match kind {
        Kind::ChatPipeline => &CHAT_PIPELINE,
        Kind::TrackedChannel => &TRACKED_CHANNEL,
        Kind::Phrase => &PHRASE,
        Kind::ChannelDiscovery => &CHANNEL_DISCOVERY,
    }
}

impl Rules {
    pub(super) fn compile(structural: Value) -> Self {
        let schema = jsonschema::options()
            .should_validate_formats(true)
            .build(&json_schema::from_structural(&structural))
            .expect("the schema is generated from our types, and a test compiles each");
        let cel = compile_schema(&structural);
        Self { structural, schema, cel }
    }

    pub(super) fn schema_problems(&self, object: &Value) -> Vec<Problem> {
        self.schema.iter_errors(object).map(|error| json_schema::problem(&error)).collect()
    }

    /// Rules are evaluated only on objects that pass the schema: they may rely on it.
    pub(super) fn rule_problems(&self, object: &Value, old: Option<&Value>) -> Vec<Problem> {
        let violations = Validator::new().validate_compiled(&self.cel, object, old);
        let violations = violations.err().into_iter().flatten();
        violations
            .map(|violation| Problem {
                field: violation.field_path.clone(),
                rule: violation.rule.clone(),
                message: violation.message.clone(),
            })
            .collect()
    }
}
