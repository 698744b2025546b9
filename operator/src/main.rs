//! The operator's program; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    clamor_operator::program::main()
}
