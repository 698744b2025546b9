//! The checked-in wire types are what the `.proto` says. `UPDATE=1 cargo test -p clamor-chat --test generated_code`
//! writes them anew. No `protoc` is needed: `protox` compiles the schema.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::{env, fs};

const PROTO: &str = "clamor/v1/stream.proto";
const GENERATED: &str = "src/generated/clamor.v1.rs";

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("proto")]).unwrap();
    compiler.include_source_info(true);
    compiler.open_file(PROTO).unwrap();

    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&out).unwrap();
    let mut config = prost_build::Config::new();
    config.out_dir(&out);
    config.compile_fds(compiler.file_descriptor_set()).unwrap();
    fs::read_to_string(out.join("clamor.v1.rs")).unwrap()
}

#[test]
fn the_checked_in_wire_types_are_what_the_schema_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GENERATED);
    let generated = generate();
    if env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &generated).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == generated, "{GENERATED} differs from the schema: run this test with UPDATE=1 and commit");
}
