//! Any bytes from a socket: an event that survives the bus, protocol, or an error. Never a panic.
#![no_main]

use clamor_chat::event::{Parsed, chat_event_kind, parse};
use clamor_chat::wire::{self, Batch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Parsed::Chat { event, login }) = parse(bytes, 1) else { return };
    assert!(!login.is_empty());
    assert_ne!(event.key(), 0);
    let _ = chat_event_kind(&event);
    let batch = Batch { slot: "slot".to_owned(), instance: 1, number: 1, events: vec![event] };
    let encoded = wire::encode_batch(&batch);
    assert!(encoded.len() <= wire::MAX_BYTES);
    assert_eq!(wire::decode_batch(&encoded).as_ref(), Ok(&batch));
});
