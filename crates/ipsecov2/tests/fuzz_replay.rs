//! Replays the fuzz targets' seeds and what once crashed them (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/esp_sa.rs"]
mod esp_sa;
#[path = "../../../fuzz/checks/inbound.rs"]
mod inbound;
#[path = "../../../fuzz/checks/profile.rs"]
mod profile;
#[path = "../../../fuzz/checks/sa_file.rs"]
mod sa_file;
#[path = "../../../fuzz/checks/sa_text.rs"]
mod sa_text;
#[path = "../../../fuzz/checks/udp_esp.rs"]
mod udp_esp;
#[path = "../../../fuzz/checks/xfrm.rs"]
mod xfrm;

#[test]
fn inbound() {
    assert!(replay("inbound", inbound::check) >= 10);
}

#[test]
fn sa_file() {
    assert!(replay("sa_file", sa_file::check) >= 8);
}

#[test]
fn xfrm() {
    assert!(replay("xfrm", xfrm::check) >= 8);
}

#[test]
fn esp_sa() {
    assert!(replay("esp_sa", esp_sa::check) >= 5);
}

#[test]
fn profile() {
    assert!(replay("profile", profile::check) >= 10);
}

#[test]
fn udp_esp() {
    assert!(replay("udp_esp", udp_esp::check) >= 6);
}

/// Returns how many files there were.
fn replay(target: &str, check: fn(&[u8])) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds", "testdata/crashes"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory).join(target)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    replayed
}
