//! The image, as `tools/image.sh` packs it from the programs that these tests are built with.

use clamor_testkit::{TestFolder, program_beside_tests};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Packs an image of the tests' own programs.
fn pack(folder: &TestFolder, name: &str) -> PathBuf {
    let out = folder.path().join(name);
    let programs = program_beside_tests("clamor-worker").unwrap();
    let mut command = Command::new(Path::new(ROOT).join("tools/image.sh"));
    command.arg("pack").arg(programs.parent().unwrap()).arg(&out).env("IMAGE", "registry.example:5000/clamor:test");
    run(&mut command);
    out
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn unpack(archive: &Path, folder: &Path) {
    fs::create_dir(folder).unwrap();
    run(Command::new("tar")
        .args(["--extract", "--same-permissions", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder));
}

/// The document or layer that a descriptor names.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.join("blobs/sha256").join(digest);
    assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
    path
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_image_is_the_same_twice_and_its_programs_run_with_what_is_in_it() {
    let folder = TestFolder::new().unwrap();
    let (first, second) = (pack(&folder, "first.tar"), pack(&folder, "second.tar"));
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "the same programs make another image");

    let (layout, root) = (folder.path().join("layout"), folder.path().join("root"));
    unpack(&first, &layout);
    let index = read(&layout.join("index.json"));
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "registry.example:5000/clamor:test");
    let manifest = read(&blob(&layout, descriptor));
    let config = read(&blob(&layout, &manifest["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], "/clamor-worker");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    unpack(&blob(&layout, &manifest["layers"][0]), &root);
    let authorities = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("BEGIN CERTIFICATE").count() > 50);
    for program in ["clamor-operator", "clamor-worker"] {
        let path = root.join(program);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        libraries_are_in_the_image(&root, &path);
    }
    assert!(!root.join("bin").exists(), "an image without a shell");
}

/// Asks the loader that is in the image what it would load: all of it must be in the image as well.
fn libraries_are_in_the_image(root: &Path, program: &Path) {
    let header = run(Command::new("readelf").arg("--program-headers").arg(program));
    let Some((_, loader)) = header.split_once("Requesting program interpreter: ") else { return };
    let loader = root.join(loader.split(']').next().unwrap().trim_start_matches('/'));
    let folders = ["lib/x86_64-linux-gnu", "lib64", "lib", "usr/lib", "lib/aarch64-linux-gnu"];
    let folders: Vec<String> = folders.iter().map(|folder| root.join(folder).display().to_string()).collect();
    let loaded = run(Command::new(&loader)
        .args(["--inhibit-cache", "--library-path", &folders.join(":"), "--list"])
        .arg(program));
    let paths = loaded.lines().filter_map(|line| line.split_once("=> ")).map(|(_, path)| path);
    let paths: Vec<&str> = paths.collect();
    assert!(!paths.is_empty(), "{loaded}");
    for path in paths {
        assert!(path.starts_with(root.to_str().unwrap()), "{program:?} takes {path} from outside of the image");
    }
}

#[test]
fn the_dockerfile_builds_with_the_pinned_compiler_and_makes_an_equivalent_image() {
    let text = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let (docker, toolchain) = (text("Dockerfile"), text("rust-toolchain.toml"));
    let pin = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    for line in [
        format!("FROM rust:{pin}-bookworm AS build"),
        "ENV PATH=/".to_owned(),
        "USER 65532:65532".to_owned(),
        "ENTRYPOINT [\"/clamor-worker\"]".to_owned(),
    ] {
        assert!(docker.lines().any(|found| found == line), "the Dockerfile has no line {line}");
    }
}
