//! Makes sure that there is a folder to embed the viewer from: where the viewer was not built, the
//! server is built without it.

fn main() {
    let dist = std::path::Path::new("../web/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    if let Err(e) = std::fs::create_dir_all(dist) {
        println!("cargo::error=cannot make {}: {e}", dist.display());
    }
}
