//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing").

mod common;
#[path = "../../../fuzz/checks/mbcrypto.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

#[test]
fn mbcrypto() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds/mbcrypto", "testdata/crashes/mbcrypto"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            fuzz::check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 15, "{replayed} files");
}
