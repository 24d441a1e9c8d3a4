//! What must hold of SA files for any bytes, beyond that nothing panics.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.

use ipsecov2::sa_file::{Format, SaFile, SaFileRules, to_toml};

use crate::sa_text::{FILE, read};

/// Takes `data` for the text of an SA file.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let rules = SaFileRules { format: Some(Format::Toml), ..SaFileRules::default() };
    let (usual, reserved) = (read(text, rules), read(text, SaFileRules { reserved_spi: true, ..rules }));
    // The second takes what the first takes, as the same thing.
    if let Some(usual) = usual {
        assert_eq!(picture(&usual), picture(reserved.as_ref().expect("more is allowed")));
    }
    if let Some(file) = reserved {
        let bundles: Vec<_> = file.bundles.into_iter().map(|bundle| bundle.parameters).collect();
        let written = to_toml(&bundles);
        let again = SaFile::parse(&written, FILE, SaFileRules { reserved_spi: true, ..SaFileRules::default() }).expect("it was written");
        assert_eq!(again.format, Format::Toml);
        let again: Vec<_> = again.bundles.into_iter().map(|bundle| bundle.parameters).collect();
        assert_eq!(format!("{bundles:?}"), format!("{again:?}"));
        assert_eq!(*to_toml(&again), *written);
    }
}

/// The parameters, without what the rules themselves are noted as.
fn picture(file: &SaFile) -> String {
    format!("{:?}", file.bundles).replace("allow_reserved_spi: true", "allow_reserved_spi: false")
}
