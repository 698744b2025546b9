//! Any bytes from a stream: a batch that encodes to itself, or an error. Never a panic.
#![no_main]

use clamor_chat::event::chat_event_kind;
use clamor_chat::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::decode_directive(bytes);
    let Ok(batch) = wire::decode_batch(bytes) else { return };
    for event in &batch.events {
        let _ = chat_event_kind(event);
    }
    let again = wire::decode_batch(&wire::encode_batch(&batch));
    // Encoding is canonical and may be longer than what came: only then may it be refused.
    assert!(again.is_err() || again.as_ref() == Ok(&batch));
});
