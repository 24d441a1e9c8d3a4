//! What must hold of NIC profiles for any bytes, beyond that nothing panics.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.

use ipsec::Crypto;
use ipsecov2::host::{Host, HostConfig};
use ipsecov2::profile::{Profile, ProfileError};
use nic::{Engine, SoftwareEngine};

/// The name of the file in errors.
const FILE: &str = "fuzz";
/// Most SAs of a NIC here: what a file says would be memory.
const CAPACITY: u32 = 16;

/// Takes `data` for the text of a profile.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let profile = match Profile::parse(text, FILE) {
        Ok(profile) => profile,
        Err(error) => return refused(text, &error),
    };
    let Profile { name, title, version, notes, offload, provenance } = &profile;
    assert!(!name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter.is_control()));
    assert!(!notes.iter().chain([title]).any(|line| line.contains(char::is_control)), "it is shown on a terminal");
    assert!(provenance.iter().all(|known| profile.provenance(&known.field) == Some(known)), "each field once");
    // It is in normal form, and has no IPsec that its version does not know.
    assert_eq!(offload.normalized(), *offload);
    let reported = offload.for_version(*version);
    assert_eq!((reported.ipsec_v1, reported.ipsec_v2), (offload.ipsec_v1, offload.ipsec_v2));
    assert!(!offload.ipsec_v2.is_supported() || offload.ipsec_v2.sa_offload_capacity > 0);
    // The software NIC takes on what it can of it, and nothing else.
    let mut taken = profile.clone();
    taken.offload.ipsec_v2.sa_offload_capacity = taken.offload.ipsec_v2.sa_offload_capacity.min(CAPACITY);
    if taken.offload.ipsec_v1.is_supported() {
        // Where nothing is told it is the software NIC's.
        taken.offload.ipsec_v1.ext_sa_capacity = taken.offload.ipsec_v1.ext_sa_capacity.clamp(1, CAPACITY);
    }
    let engine = SoftwareEngine::with_hardware(Crypto::default(), &taken.offload).expect("the capacity is small");
    let hardware = engine.hardware_capabilities();
    assert!(hardware.is_within(&taken.offload) && hardware.is_within(&nic::software_capabilities(CAPACITY)));
    let host = Host::new(&HostConfig { capacity: 1, ..HostConfig::default() }.with_profile(&taken)).expect("any profile makes a NIC");
    assert!(host.transport().current_config().is_within(&hardware.normalized()));
}

/// An error has a place in the text, and is one line.
fn refused(text: &str, error: &ProfileError) {
    let ProfileError::At { position, .. } = error else { panic!("{error}") };
    assert!((1..=text.split('\n').count()).contains(&position.line), "{error}");
    let shown = error.to_string();
    assert!(shown.starts_with(FILE) && !shown.contains('\n'), "{shown}");
}
