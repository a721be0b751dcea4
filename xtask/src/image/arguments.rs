//! The command line of `cargo xtask image`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use flate2::Compression;

use super::platform::Architecture;
use super::programs;

/// What to build, and where it goes.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The layout's directory; made anew.
    pub(crate) output: PathBuf,
    /// The image's name within the layout.
    pub(crate) tag: String,
    /// One image for each.
    pub(crate) inputs: Vec<Input>,
    /// Labels beside our own, as `org.opencontainers.image.revision`.
    pub(crate) labels: BTreeMap<String, String>,
    /// Built to be tried rather than shipped.
    quick: bool,
}

/// The programs of one architecture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) architecture: Architecture,
    /// The directory they lie in.
    pub(crate) programs: PathBuf,
}

impl Arguments {
    /// Reads `--output DIR --tag REF [--profile P] [--platform linux/ARCH] [--programs ARCH=DIR]... [--label KEY=VALUE]...`.
    ///
    /// # Errors
    /// Names the argument that is missing, unknown or without its value.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let (mut output, mut tag, mut labels) = (None, None, BTreeMap::new());
        let (mut profile, mut architecture) = ("release", Architecture::native()?);
        let mut inputs: Vec<Input> = Vec::new();
        for pair in words.chunks(2) {
            let [name, value] = pair else {
                bail!("{} needs a value", pair.join(" "));
            };
            match *name {
                "--output" => output = Some(PathBuf::from(value)),
                "--tag" => tag = Some((*value).to_owned()),
                "--label" => labels.extend([label(value)?]),
                "--profile" => profile = value,
                "--platform" => architecture = platform(value)?,
                "--programs" => inputs.push(Input::parse(value)?),
                other => bail!("no argument is called {other}"),
            }
        }
        if inputs.is_empty() {
            inputs.push(Input {
                architecture,
                programs: programs::built(profile)?,
            });
        }
        refuse_twice(&inputs)?;
        Ok(Self {
            output: output.context("--output is missing: the directory to write")?,
            tag: tag.context("--tag is missing: the image's name, as ghcr.io/enix/kube-image-keeper:1.0")?,
            inputs,
            labels,
            quick: profile != "release",
        })
    }

    /// How hard to compress.
    pub(crate) fn compression(&self) -> Compression {
        if self.quick {
            Compression::fast()
        } else {
            Compression::best()
        }
    }
}

impl Input {
    fn parse(value: &str) -> Result<Self> {
        let (architecture, directory) = value
            .split_once('=')
            .with_context(|| format!("--programs {value}: want ARCH=DIR, as amd64=target/release"))?;
        Ok(Self {
            architecture: architecture.parse()?,
            programs: directory.into(),
        })
    }
}

fn platform(value: &str) -> Result<Architecture> {
    match value.split_once('/') {
        Some(("linux", architecture)) => architecture.parse(),
        _ => bail!("--platform {value}: want linux/amd64 or linux/arm64"),
    }
}

fn label(value: &str) -> Result<(String, String)> {
    let (key, value) = value
        .split_once('=')
        .with_context(|| format!("--label {value}: want KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn refuse_twice(inputs: &[Input]) -> Result<()> {
    for (n, input) in inputs.iter().enumerate() {
        let architecture = input.architecture;
        if inputs[..n].iter().any(|earlier| earlier.architecture == architecture) {
            bail!("--programs has {architecture} twice");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [&str; 4] = ["--output", "out", "--tag", "kuik:1"];

    #[test]
    fn several_programs_make_several_images() {
        let words = [&BOTH[..], &["--programs", "amd64=a", "--programs", "arm64=b"]].concat();
        let inputs = Arguments::parse(&words).unwrap().inputs;
        let architectures: Vec<_> = inputs.iter().map(|input| input.architecture).collect();
        assert_eq!(architectures, [Architecture::Amd64, Architecture::Arm64]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table: [(&[&str], &str); 7] = [
            (&["--tag", "a"], "--output"),
            (&["--output", "a"], "--tag"),
            (&["--output"], "value"),
            (&["--out", "a"], "--out"),
            (&["--platform", "windows/amd64"], "windows"),
            (&["--programs", "amd64"], "ARCH=DIR"),
            (&["--programs", "amd64=a", "--programs", "amd64=b"], "twice"),
        ];
        for (words, named) in table {
            let error = format!("{:#}", Arguments::parse(words).unwrap_err());
            assert!(error.contains(named), "{words:?}: {error}");
        }
    }
}
