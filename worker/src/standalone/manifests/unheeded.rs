//! What a cluster would do and a laptop does not.

use clamor_crds::manifest::Object;
use clamor_crds::tracked_channel::Isolation;

/// What the object asks for that standalone does not do.
#[must_use]
pub fn unheeded(object: &Object) -> Option<&'static str> {
    match object {
        Object::TrackedChannel(channel) if channel.spec.archive.is_some() => {
            Some("standalone keeps no raw messages: spec.archive has no effect here")
        }
        Object::TrackedChannel(channel) if channel.spec.isolation == Isolation::Dedicated => {
            Some("standalone has no slots of one channel: spec.isolation has no effect here")
        }
        Object::ChatPipeline(_) => {
            Some("standalone takes its settings from its flags: a ChatPipeline has no effect here")
        }
        Object::ChannelDiscovery(_) => Some("standalone discovers no channels: a ChannelDiscovery has no effect here"),
        Object::TrackedChannel(_) | Object::Phrase(_) => None,
    }
}
