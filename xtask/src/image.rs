//! `cargo xtask image`: container images from built programs, without a Docker engine.
//!
//! Writes one OCI image layout. Every platform gets one image of two layers: Debian's libraries, and our programs.
//! Guarantees that the same programs and packages give the same digest, and that no program asks for a library the
//! image has not. Pushing is left to skopeo.

mod arguments;
mod blobs;
mod certificates;
mod elf;
mod layer;
mod layout;
mod libraries;
mod packages;
mod platform;
mod programs;
mod tree;

#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use arguments::{Arguments, Input};
use blobs::Blobs;
use layout::{Described, Image};

/// Builds what the command line asks for.
///
/// # Errors
/// A wrong argument, a program that is not built, a package that cannot be had, or a full disk.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let arguments = Arguments::parse(words)?;
    let mut blobs = Blobs::create(&arguments.output)?;
    let mut images = Vec::new();
    for input in &arguments.inputs {
        let image = build(&mut blobs, input, &arguments);
        images.push(image.with_context(|| format!("build the image for {}", input.architecture))?);
    }
    let digest = layout::write_index(&mut blobs, &images, &arguments.tag)?;
    println!("{digest}");
    Ok(())
}

/// One platform's image: its blobs, and its manifest's descriptor.
fn build(blobs: &mut Blobs, input: &Input, arguments: &Arguments) -> Result<Described> {
    let packages = packages::fetch(input.architecture)?;
    let programs = programs::collect(input)?;
    let libraries = libraries::collect(&packages, &programs.paths(), input.architecture)?;
    let compression = arguments.compression();
    let layers = [
        layer::write(blobs, "libraries", &libraries, compression)?,
        layer::write(blobs, "programs", programs.tree(), compression)?,
    ];
    for layer in &layers {
        eprintln!("    {} {}", input.architecture, layer.summary());
    }
    let total: u64 = layers.iter().map(|layer| layer.size_bytes).sum();
    eprintln!(
        "    {} image: {} to pull, from {}",
        input.architecture,
        layer::megabytes(total),
        packages.versions().join(", ")
    );
    let image = Image {
        architecture: input.architecture,
        layers: &layers,
        labels: &arguments.labels,
    };
    layout::write_image(blobs, &image)
}
