//! `clamor-worker`: one binary, a role each.

use std::process::ExitCode;

fn main() -> ExitCode {
    clamor_worker::program::main()
}
