//! Condition types and reasons, each with what it means and what to do about it.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus. `Reconciling` and `Stalled` are present only while they are
//! True. A reason is one constant that condition, event and metric label share.

mod meaning;
mod reason;

pub use meaning::{Course, Meaning, markdown};
pub use reason::Reason;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The object does what its spec says.
pub const READY: &str = "Ready";
/// The operator is at work on it.
pub const RECONCILING: &str = "Reconciling";
/// It cannot proceed until somebody changes something.
pub const STALLED: &str = "Stalled";
/// The channel's chat is being heard.
pub const JOINED: &str = "Joined";
/// The channel is broadcasting on Twitch.
pub const LIVE: &str = "Live";

/// All condition types.
pub const TYPES: [&str; 5] = [READY, RECONCILING, STALLED, JOINED, LIVE];

/// The status of an object that nobody has looked at: not ready, so that it does not read as done.
#[must_use]
pub fn pending_status() -> Value {
    json!({
        "observedGeneration": 0,
        "conditions": [{
            "type": READY,
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z"
        }]
    })
}

/// A list of conditions, merged by type, with Kubernetes' own limits on its fields.
pub(crate) fn list_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "What it is about." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds." },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the spec that it is of."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "When its status last changed."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "Why, in one word from the documented list."
                },
                "message": { "type": "string", "maxLength": 32768, "description": "Why, for people." }
            }
        }
    })
}
