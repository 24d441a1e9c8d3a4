//! Key bytes that erase themselves and cannot be shown, compared in the open or serialised.
//!
//! [`SecretBytes`] owns key material. It is overwritten when it is dropped, its `Debug` output is only
//! its length, and it has no `Display`, no `PartialEq`, no `Clone` and no serialisation, so a key cannot
//! get into a log, an error or a document by way of a derive on the type around it. Whoever needs the
//! bytes says so with [`SecretBytes::expose`]; whoever needs a second copy with
//! [`SecretBytes::duplicate`].
//!
//! ```
//! use secret::SecretBytes;
//!
//! let key = SecretBytes::from_hex("0x000102030405060708090a0b0c0d0e0f")?;
//! assert_eq!(key.len(), 16);
//! assert_eq!(format!("{key:?}"), "SecretBytes(16 bytes)");
//! assert!(key.ct_eq(&SecretBytes::from(key.expose().to_vec())));
//! # Ok::<(), secret::HexError>(())
//! ```
//!
//! What is left out does not compile:
//!
//! ```compile_fail,E0277
//! println!("{}", secret::SecretBytes::from(vec![1]));
//! ```
//! ```compile_fail,E0369
//! let _ = secret::SecretBytes::from(vec![1]) == secret::SecretBytes::from(vec![1]);
//! ```
//! ```compile_fail,E0599
//! let _ = secret::SecretBytes::from(vec![1]).clone();
//! ```
#![forbid(unsafe_code)]

mod hex;

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use hex::HexError;

/// Owned key bytes: erased on drop, never formatted, compared only in constant time.
#[derive(Default)]
pub struct SecretBytes {
    // A `Vec` and not a boxed slice: boxing would reallocate when the capacity is larger than the length,
    // and leave an unerased copy behind. `Zeroizing<Vec>` erases the whole capacity.
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretBytes {
    /// Reads hexadecimal text: pairs of digits of either case, after an optional `0x` or `0X`.
    /// The empty text is the empty key. No white space or separators are accepted.
    ///
    /// The text itself stays the caller's to erase.
    ///
    /// # Errors
    /// [`HexError`] with the first place that is not a hexadecimal digit, or the text's end when its
    /// number of digits is odd.
    pub fn from_hex(text: &str) -> Result<Self, HexError> {
        Ok(Self { bytes: hex::decode(text)? })
    }

    /// Copies `bytes`, which stay the caller's to erase.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        let mut copy = Vec::with_capacity(bytes.len());
        copy.extend_from_slice(bytes);
        Self::from(copy)
    }

    /// The bytes. What is done with them from here on is the caller's responsibility.
    #[inline]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be changed in place; their number cannot change.
    #[inline]
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes (the key of a null algorithm).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A second, independent copy, erased on its own drop. Not `Clone`, so that copies of keys are
    /// visible where they are made.
    pub fn duplicate(&self) -> Self {
        Self::copy_from_slice(self.expose())
    }

    /// Whether both hold the same bytes, in a time that depends only on the lengths.
    pub fn ct_eq(&self, other: &Self) -> bool {
        ct_eq(self.expose(), other.expose())
    }
}

impl From<Vec<u8>> for SecretBytes {
    /// Takes the vector as it is, without copying or reallocating it.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: Zeroizing::new(bytes) }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// Whether `left` and `right` are equal, in a time that depends only on their lengths: for integrity
/// check values and keys.
#[inline]
pub fn ct_eq(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: [u8; 8] = [0xC0, 0xFF, 0xEE, 0xD1, 0xA5, 0x5E, 0xB7, 0x9C];

    /// Every way a formatter could spell one of the canary's bytes, alone.
    fn spellings() -> Vec<String> {
        let mut all = Vec::new();
        for byte in CANARY {
            all.push(format!("{byte:02x}"));
            all.push(format!("{byte:02X}"));
            all.push(format!("{byte}"));
        }
        all
    }

    #[test]
    fn nothing_that_holds_a_secret_formats_a_byte_of_it() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only its derived Debug is looked at")]
        struct Association {
            spi: u32,
            keys: Vec<SecretBytes>,
            salt: Option<SecretBytes>,
        }
        let holder = Association { spi: 7, keys: vec![SecretBytes::from(CANARY.to_vec())], salt: Some(SecretBytes::copy_from_slice(&CANARY)) };
        for output in [format!("{holder:?}"), format!("{holder:#?}"), format!("{holder:x?}"), format!("{holder:X?}")] {
            assert!(output.contains("SecretBytes(8 bytes)"), "{output}");
            for spelling in spellings() {
                assert!(!output.contains(&spelling), "{spelling} in {output}");
            }
        }
    }

    #[test]
    fn hex_errors_hold_no_digit_of_the_key() {
        let text = spellings().into_iter().step_by(3).collect::<String>();
        for bad in [format!("{text}f"), format!("{text}zz"), format!("{text} {text}")] {
            let error = SecretBytes::from_hex(&bad).unwrap_err();
            let output = format!("{error} {error:?}");
            assert!(!output.contains(&text[..4]), "{output}");
        }
    }

    #[test]
    fn takes_a_vector_without_moving_its_bytes() {
        let mut vector = Vec::with_capacity(64);
        vector.extend_from_slice(&CANARY);
        let place = vector.as_ptr();
        let secret = SecretBytes::from(vector);
        assert_eq!(secret.expose().as_ptr(), place);
        assert_eq!(secret.expose(), CANARY);
    }

    #[test]
    fn bytes_can_change_and_their_number_cannot() {
        let mut secret = SecretBytes::from(vec![0; CANARY.len()]);
        let place = secret.expose().as_ptr();
        secret.expose_mut().copy_from_slice(&CANARY);
        assert_eq!((secret.expose(), secret.expose().as_ptr()), (&CANARY[..], place));
    }

    #[test]
    fn duplicates_are_equal_and_apart() {
        let first = SecretBytes::from(CANARY.to_vec());
        let second = first.duplicate();
        assert!(first.ct_eq(&second));
        assert_ne!(first.expose().as_ptr(), second.expose().as_ptr());
        drop(first);
        assert_eq!(second.expose(), CANARY);
    }

    #[test]
    fn compares_lengths_and_every_byte() {
        assert!(ct_eq(&[], &[]));
        assert!(!ct_eq(&CANARY, &CANARY[..7]));
        for index in 0..CANARY.len() {
            let mut other = CANARY;
            other[index] ^= 1;
            assert!(!ct_eq(&CANARY, &other));
            assert!(!SecretBytes::from(CANARY.to_vec()).ct_eq(&SecretBytes::from(other.to_vec())));
        }
        assert!(SecretBytes::default().is_empty());
    }
}
