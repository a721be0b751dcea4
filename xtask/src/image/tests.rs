//! The image as its users see it: skopeo reads it, and its programs run with nothing else around them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::platform::Architecture;
use super::programs::NAMES;

#[test]
fn an_image_is_the_same_each_time_and_its_programs_run() {
    let Some(programs) = built_programs() else {
        assert!(std::env::var_os("CI").is_none(), "the programs are not built");
        return skip("the programs are not built");
    };
    let work = tempfile::tempdir().unwrap();
    let layouts = ["first", "second"].map(|name| build(&programs, &work.path().join(name)));
    let [first, second] = layouts.each_ref().map(|layout| index(layout));
    assert_eq!(first, second, "the same programs, another image");
    assert_eq!(first["manifests"][0]["platform"]["os"], "linux");
    for layout in &layouts {
        assert_copied_by_skopeo(layout);
    }
    let root = work.path().join("root");
    unpack(&layouts[0], &root);
    assert_owned(&root);
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("only root can try the programs in a chroot");
    }
    for name in NAMES {
        assert_runs(&root, name);
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("letter"), "dear").unwrap();
    let error = super::blobs::Blobs::create(work.path()).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    assert!(work.path().join("letter").exists());
}

/// The programs beside this test's own, if all are there.
fn built_programs() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(Path::parent).unwrap();
    let all = NAMES.iter().all(|name| directory.join(name).is_file());
    all.then(|| directory.to_owned())
}

/// Says why a part was not tried.
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn build(programs: &Path, output: &Path) -> PathBuf {
    let programs = format!("{}={}", Architecture::native().unwrap(), programs.display());
    let words = ["--tag", "kuik.test/kuik:1", "--profile", "dev", "--programs", &programs];
    let words = [&words[..], &["--output", output.to_str().unwrap()]].concat();
    super::run(&words).unwrap();
    output.to_owned()
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap()
}

fn document(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&std::fs::read(blob(layout, descriptor)).unwrap()).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// Copying checks every digest and length, and inspecting reads the configuration.
fn assert_copied_by_skopeo(layout: &Path) {
    let source = format!("oci:{}:kuik.test/kuik:1", layout.display());
    let copy = tempfile::tempdir().unwrap();
    let target = format!("dir:{}", copy.path().display());
    succeed(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]));
    let config = succeed(Command::new("skopeo").args(["inspect", "--config", &source]));
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["architecture"], Architecture::native().unwrap().name());
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

fn unpack(layout: &Path, root: &Path) {
    let manifest = document(layout, &index(layout)["manifests"][0]);
    std::fs::create_dir(root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let archive = blob(layout, layer);
        succeed(Command::new("tar").arg("-C").arg(root).arg("-xzf").arg(archive));
    }
}

fn assert_owned(root: &Path) {
    assert!(
        std::fs::read_to_string(root.join("etc/passwd"))
            .unwrap()
            .contains("nonroot:x:65532")
    );
    let bundle = std::fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(bundle.matches("BEGIN CERTIFICATE").count() > 100);
    assert_eq!(std::fs::metadata(root.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert!(root.join("usr/share/doc/libc6/copyright").is_file());
}

fn assert_runs(root: &Path, name: &str) {
    let version = succeed(
        Command::new("/usr/sbin/chroot")
            .arg("--userspec=65532:65532")
            .arg(root)
            .args([name, "--version"]),
    );
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{name}: {version}");
}

/// Runs a command to its end, and returns what it printed.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
