//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/packet_views.rs"]
mod packet_views;

#[test]
fn packet_views() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds/packet_views", "testdata/crashes/packet_views"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            packet_views::check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 40, "{replayed} files");
}
