//! The `kuik` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kuik::main()
}
