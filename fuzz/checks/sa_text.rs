//! What must hold of any text that is read as an SA file of some format, beyond that nothing panics.

use ipsecov2::sa_file::{Format, SaFile, SaFileError, SaFileRules, Target, write};
use packet::IpAddress;

/// The name of the file in errors.
pub(crate) const FILE: &str = "fuzz";

/// Takes `data` for the text of a file of `format`, and writes what it holds as `target`, which is the same.
pub(crate) fn check(data: &[u8], format: Format, target: Target) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let local: Vec<IpAddress> = ["192.0.2.2", "2001:db8::2"].iter().filter_map(|text| text.parse().ok()).collect();
    let strict = SaFileRules { local: &local, format: Some(format), ..SaFileRules::default() };
    let free = SaFileRules { reserved_spi: true, allow_unauthenticated: true, ..strict };
    let is_taken = read(text, strict).is_some();
    let Some(file) = read(text, free) else {
        assert!(!is_taken, "more is allowed");
        return;
    };
    let bundles: Vec<_> = file.bundles.into_iter().map(|bundle| bundle.parameters).collect();
    // Everything can be said in TOML, and is the same when it is read.
    let written = write(&bundles, Target::Toml);
    assert!(written.losses.is_empty());
    let again = SaFile::parse(&written.text, FILE, SaFileRules { reserved_spi: true, ..SaFileRules::default() }).expect("it was written");
    let again: Vec<_> = again.bundles.into_iter().map(|bundle| bundle.parameters).collect();
    assert_eq!(format!("{bundles:?}"), format!("{again:?}"));
    // What the format itself can say of it is read by it again, and then it is all.
    let written = write(&bundles, target);
    if bundles.len() > written.losses.iter().filter(|loss| loss.left_out).count() {
        let again = read(&written.text, free).expect("it was written");
        let again: Vec<_> = again.bundles.into_iter().map(|bundle| bundle.parameters).collect();
        assert_eq!(*write(&again, target).text, *written.text);
    }
    write(&bundles, Target::IpBatch);
}

/// Reads a text; of one that is refused the error has to be a good one.
pub(crate) fn read(text: &str, rules: SaFileRules<'_>) -> Option<SaFile> {
    match SaFile::parse(text, FILE, rules) {
        Ok(file) => {
            assert!(!file.bundles.is_empty());
            Some(file)
        }
        Err(error) => {
            refused(text, &error);
            None
        }
    }
}

/// An error has a place in the text, and shows no digits of a key: sixteen in a row that are in the text are nowhere in it.
fn refused(text: &str, error: &SaFileError) {
    let SaFileError::At { position, .. } = error else { panic!("{error}") };
    assert!((1..=text.split('\n').count()).contains(&position.line), "{error}");
    let shown = error.to_string();
    assert!(shown.starts_with(FILE));
    let mut run = 0;
    for character in shown.chars() {
        run = if character.is_ascii_hexdigit() { run + 1 } else { 0 };
        assert!(run < 16, "{shown}");
    }
}
