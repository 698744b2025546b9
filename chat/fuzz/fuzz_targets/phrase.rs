//! Any pattern over any text: refused, or counted as the plain regex counts.
#![no_main]

use clamor_chat::phrase::{ActiveSet, Matcher, Scratch, Spec, check};
use libfuzzer_sys::fuzz_target;
use regex::RegexBuilder;

fuzz_target!(|input: (bool, &str, &str)| {
    let (case_sensitive, pattern, text) = input;
    let spec = Spec { pattern: pattern.to_owned(), case_sensitive };
    if check(&spec).is_err() {
        return;
    }
    let regex = RegexBuilder::new(pattern).case_insensitive(!case_sensitive).build().expect("checked");
    let matcher = Matcher::build(&[spec]).expect("checked");
    let mut counted = 0;
    matcher.count(text, &ActiveSet::all(1), &mut Scratch::default(), |_, matches| counted = matches as usize);
    assert_eq!(counted, regex.find_iter(text).count());
});
