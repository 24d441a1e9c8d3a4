//! Encryption and authentication by two algorithms, as ESP puts them together: encrypted, then authenticated (RFC 4303 section 3.3.2); on receive verified,
//! then decrypted (section 3.4.4.1). What is written once here holds for every library.

use crate::aad::{Aad, Nonce};
use crate::provider::{Data, Icv};

/// A message authentication code over parts.
pub(crate) trait PartsMac {
    /// The ICV of the parts one after the other, cut to its length.
    fn icv(&self, parts: [&[u8]; 3]) -> Icv;
}

/// A block cipher in CBC mode, or none, without padding of its own.
pub(crate) trait Cipher {
    /// Encrypts whole blocks. False if the library refuses; the bytes are then not to be used.
    fn encrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool;

    /// Decrypts whole blocks. False if the library refuses, which leaves the bytes as they were.
    fn decrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool;
}

/// Cipher and authentication of an SA; without the latter nothing is verified.
pub(crate) struct EncryptThenMac<C, M> {
    cipher: C,
    mac: Option<M>,
    block: usize,
    icv_length: usize,
}

impl<C: Cipher, M: PartsMac> EncryptThenMac<C, M> {
    pub(crate) const fn new(cipher: C, block: usize, mac: Option<M>, icv_length: usize) -> Self {
        Self { cipher, mac, block, icv_length }
    }

    /// Whether the job could be done; the output is not to be used otherwise.
    pub(crate) fn seal(&self, iv: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        if tag.len() != self.icv_length || !data.len().is_multiple_of(self.block) {
            return false;
        }
        let Some(text) = data.carry_over() else { return false };
        if !self.cipher.encrypt(iv, text) {
            return false;
        }
        if let Some(mac) = &self.mac {
            let icv = mac.icv([aad.prefix(), text, aad.suffix()]);
            tag.copy_from_slice(icv.as_bytes());
        }
        true
    }

    /// Whether the packet is authentic. If not, data in place is as it was and the destination of a copy zero.
    ///
    /// Nothing that depends on the plaintext decides anything: lengths are checked, then the ICV, and what was encrypted is not looked at, so there is
    /// nothing that tells one bad padding from another.
    pub(crate) fn open(&self, iv: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8]) -> bool {
        let good = tag.len() == self.icv_length
            && data.len().is_multiple_of(self.block)
            && self.mac.as_ref().is_none_or(|mac| mac.icv([aad.prefix(), data.input(), aad.suffix()]).verify(tag))
            && data.carry_over().is_some_and(|text| self.cipher.decrypt(iv, text));
        if !good {
            data.wipe_copy();
        }
        good
    }
}
