//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing"). Here and not among `tests/`, because the target's provider is not
//! there for users of the crate.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/esp_open.rs"]
mod esp_open;

#[test]
fn esp_open() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds/esp_open", "testdata/crashes/esp_open"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            esp_open::check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 8, "{replayed} files");
}
