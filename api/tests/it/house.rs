//! The rules of the house (`ARCHITECTURE.md`, "Invariants"), held against the tree itself.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file under version control, with `/` between the parts of its path.
fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the tree");
    assert!(listed.status.success(), "git ls-files failed");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    text.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

/// Code lines of a Rust file, numbered; comments are left out.
fn code(path: &str) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.to_owned()));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// No code line in the Rust files under `within`, those under `except` aside, holds any of `words`.
fn check_absent(within: &[&str], except: &[&str], words: &[&str]) {
    let mut found = Vec::new();
    for path in tracked().iter().filter(|p| p.ends_with(".rs")) {
        let inside = |list: &[&str]| list.iter().any(|folder| path.starts_with(folder));
        if !inside(within) || inside(except) {
            continue;
        }
        for (number, line) in code(path) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{path}:{number}: {word}: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "forbidden here:\n{}", found.join("\n"));
}

#[test]
fn leaf_crates_do_no_io() {
    check_absent(
        &["producer-sdk/wire/src", "api/packaging/src"],
        &[],
        &[
            "std::net",
            "std::fs",
            "std::thread",
            "SystemTime",
            "Instant::now",
            "tokio",
            "async fn",
            "tracing::",
            "println!",
            "actix",
            "async_graphql",
            "aws_",
        ],
    );
}

#[test]
fn frameworks_are_named_only_where_they_belong() {
    check_absent(&["api/src"], &["api/src/storage/aws"], &["aws_sdk_"]);
    check_absent(
        &["api/src", "producer-sdk", "api/packaging"],
        &["api/src/graphql", "api/src/http/graphql", "api/src/commands/schema"],
        &["async_graphql"],
    );
    check_absent(
        &["api/src", "producer-sdk", "api/packaging"],
        &["api/src/http", "api/src/main.rs"],
        &["actix_web"],
    );
}

#[test]
fn directions_inside_the_service() {
    check_absent(
        &["api/src/storage"],
        &[],
        &[
            "crate::graphql",
            "crate::http",
            "lookback_packaging",
            "crate::ingest",
            "crate::playback",
            "crate::delivery",
        ],
    );
    check_absent(
        &["api/src/ingest", "api/src/playback", "api/src/retention", "api/src/delivery"],
        &[],
        &["crate::graphql", "crate::http", "crate::commands"],
    );
    check_absent(
        &["api/src/graphql", "api/src/http"],
        &[],
        &["storage::embedded", "storage::aws", "lookback_packaging"],
    );
    check_absent(
        &["api/src"],
        &["api/src/commands/camera", "api/src/commands/demo"],
        &["lookback_producer"],
    );
    check_absent(&["producer-sdk"], &[], &["lookback_api", "lookback_packaging"]);
    check_absent(
        &[
            "api/src/account.rs",
            "api/src/device.rs",
            "api/src/segment.rs",
            "api/src/event.rs",
            "api/src/keeping.rs",
            "api/src/access.rs",
            "api/src/webhook.rs",
            "api/src/id.rs",
        ],
        &[],
        &["crate::storage", "crate::http", "crate::graphql", "tokio::", "std::fs"],
    );
}

#[test]
fn unsafe_stands_in_two_places() {
    let allowed = ["producer-sdk/capi/", "api/src/storage/embedded/"];
    check_absent(
        &["api/", "producer-sdk/"],
        &[&allowed[..], &["api/tests/it/house.rs"]].concat(),
        &["unsafe {", "unsafe fn", "unsafe impl"],
    );
    let in_storage: Vec<String> = tracked()
        .iter()
        .filter(|path| path.starts_with("api/src/storage/"))
        .flat_map(|path| code(path).into_iter().map(move |(n, line)| format!("{path}:{n}: {line}")))
        .filter(|line| line.contains("unsafe {"))
        .collect();
    assert!(in_storage.len() <= 1, "LMDB is opened in one place:\n{}", in_storage.join("\n"));
    check_absent(&["api/src"], &[], &["mmap(", "Mmap"]);
}

#[test]
fn nothing_is_left_over() {
    check_absent(
        &["api/", "producer-sdk/"],
        &["api/tests/it/house.rs"],
        &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "allow(dead_code"],
    );
    let vague = ["util", "utils", "helper", "helpers", "common", "misc"];
    for path in tracked() {
        let named = path.split(['/', '.']).any(|part| vague.contains(&part));
        assert!(!named, "{path}: a name that says nothing");
    }
}

/// Licences that may be linked into, or shipped with, an Apache-2.0 program.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
    "Unlicense",
    "CDLA-Permissive-2.0",
    "OpenSSL",
    "OLDAP-2.8",
    "MPL-2.0",
    "CC-BY-4.0",
    "BlueOak-1.0.0",
    "Python-2.0",
    "CC-BY-3.0",
    "IJG",
];

/// Packages whose manifest names their licence in a form that the lock file does not take over.
const NPM_LICENCES: &[(&str, &str)] = &[("node_modules/dom-walk", "MIT")];

/// Whether an SPDX expression can be met from `LICENCES`.
fn permitted(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn licences_of_crates_are_permitted() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo answers");
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "cargo named only {} packages", packages.len());
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(permitted(licence), "crate {name}: licence {licence:?} is not on the list");
    }
}

#[test]
fn npm_packages_are_pinned_and_their_licences_permitted() {
    let packages = ["web", "api/tests/dynalite"].into_iter().flat_map(|of| {
        let lock = root().join(of).join("package-lock.json");
        let lock = std::fs::read_to_string(lock).expect("the lock file");
        let lock: serde_json::Value = serde_json::from_str(&lock).expect("the lock file is JSON");
        lock["packages"].as_object().expect("packages").clone()
    });
    for (path, package) in &packages.collect::<Vec<_>>() {
        if path.is_empty() || package["link"] == true {
            continue;
        }
        let known =
            NPM_LICENCES.iter().find(|(known, _)| known == path).map(|(_, licence)| *licence);
        let licence = package["license"].as_str().or(known).unwrap_or_default();
        assert!(permitted(licence), "npm {path}: licence {licence:?} is not on the list");
        let integrity = package["integrity"].as_str().unwrap_or_default();
        assert!(integrity.starts_with("sha512-"), "npm {path}: not pinned by its digest");
        let from = package["resolved"].as_str().unwrap_or("https://registry.npmjs.org/");
        assert!(from.starts_with("https://registry.npmjs.org/"), "npm {path}: comes from {from}");
    }
}
