//! The project's chores as one program: the gate (`ci`), its parts, and `fix`.
//!
//! The gate only reads; `fix` is the one command here that changes files.

mod chart;
mod check;
mod deny;
mod floors;
mod image;
mod licence;
mod metadata;
mod step;
mod test_run;

use std::io::Write;
use std::process::ExitCode;

use step::Report;

const USAGE: &str = "usage: cargo xtask COMMAND

  ci       everything below, then the tests
  lint     fmt, clippy, doc, deny, floors, chart
  fmt | clippy | doc | deny | floors | chart      one part of it
  test [cargo test's arguments]           all tests, with a count as the last line
  e2e [name]                              the end-to-end tests alone
  image --output DIR --tag REF [--profile dev] [--platform linux/ARCH] [--programs ARCH=DIR]... [--label K=V]...
           container images from built programs, as an OCI image layout
  chart-readme    makes the tables in the chart's README from its values
  fix      format, and apply clippy's suggestions";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match words.as_slice() {
        ["ci"] => step::run_all(&check::gate()).and_then_tests(|| test_run::run_all(&[])),
        ["lint"] => step::run_all(&check::gate()),
        [.., "help" | "--help" | "-h"] => {
            // A reader that has seen enough is no failure.
            let _closed = writeln!(std::io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["image", rest @ ..] => return image(rest),
        ["chart-readme"] => step::run_all(&check::chart_readme()),
        ["fix"] => step::run_all(&check::fix()),
        ["test", rest @ ..] => Report::default().and_then_tests(|| test_run::run_all(rest)),
        ["e2e", rest @ ..] => Report::default().and_then_tests(|| test_run::run_end_to_end(rest)),
        [name] => match check::gate().into_iter().find(|step| step.name == *name) {
            Some(step) => step::run_all(&[step]),
            None => return usage(),
        },
        _ => return usage(),
    };
    report.finish()
}

fn image(arguments: &[&str]) -> ExitCode {
    match image::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
