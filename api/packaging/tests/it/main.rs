//! What is written, held against golden files in `testdata/`. `UPDATE_GOLDEN=1` writes them anew.

// A test that cannot go on has failed; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::panic)]

mod boxes;
mod manifests;
mod playlists;

use std::path::Path;

/// Compares with `testdata/{name}`.
fn check_golden(name: &str, written: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(written, golden, "{name} differs; UPDATE_GOLDEN=1 writes it anew");
}
