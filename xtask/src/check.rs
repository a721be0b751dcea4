//! The steps of the gate, in the order from cheap to dear, and of `fix`.

use anyhow::Result;

use crate::step::{Step, cargo, run};
use crate::{chart, deny, floors};

/// Everything that is checked without running a test. Reads only.
pub(crate) fn gate() -> Vec<Step> {
    vec![
        Step {
            name: "fmt",
            run: || run(cargo(&["fmt", "--all", "--check"])),
        },
        Step {
            name: "floors",
            run: floors::check,
        },
        Step {
            name: "deny",
            run: deny::check,
        },
        Step {
            name: "chart",
            run: chart::check,
        },
        Step {
            name: "clippy",
            run: clippy,
        },
        Step { name: "doc", run: doc },
    ]
}

/// Makes the chart's README.
pub(crate) fn chart_readme() -> Vec<Step> {
    vec![Step {
        name: "chart-readme",
        run: chart::write_readme,
    }]
}

/// What a machine can put right by itself.
pub(crate) fn fix() -> Vec<Step> {
    vec![
        Step {
            name: "clippy --fix",
            run: || {
                run(cargo(&[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--fix",
                    "--allow-dirty",
                    "--allow-staged",
                ]))
            },
        },
        Step {
            name: "fmt",
            run: || run(cargo(&["fmt", "--all"])),
        },
    ]
}

fn clippy() -> Result<()> {
    run(cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn doc() -> Result<()> {
    let mut command = cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    run(command)
}
