//! Tags cost no allocation: a line with hundreds of them allocates what its event holds.

#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]

use clamor_chat::event::{Parsed, parse};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(line: &str) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    let parsed = parse(line.as_bytes(), 1);
    let after = ALLOCATIONS.with(Cell::get);
    assert!(matches!(parsed, Ok(Parsed::Chat { .. })));
    after - before
}

#[test]
fn tags_are_parsed_without_allocating() {
    let few =
        "@id=885196de-cb67-427a-baa8-82f9b0fcd05f;room-id=1;user-id=2;tmi-sent-ts=3 :viewer!v@h PRIVMSG #room :hello";
    let more = (0..300).map(|number| format!("tag-{number}=value")).collect::<Vec<_>>().join(";");
    let many = format!("@{more};badges=vip/1,subscriber/2;display-name=Viewer;bits=5;{}", &few[1..]);
    assert_eq!(allocations_of(few), 2, "the login and the text");
    assert_eq!(allocations_of(&many), 2);
}
