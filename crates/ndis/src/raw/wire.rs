//! Integers at offsets, in both directions.
//!
//! A structure's fields are listed once, in a function over [`Wire`]; [`Reading`] and [`Writing`] run it. Offsets come from `offset_of!`, and a buffer's
//! length is checked against the whole structure before any field is touched, so indexing here depends on this crate's constants and never on input.

use ndis_abi::{NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT};

use super::RawError;

/// Reads or writes fields: a value given is replaced by the one read, or put into the bytes.
pub(super) trait Wire {
    fn bytes(&mut self, at: usize, value: &mut [u8]);

    fn u8(&mut self, at: usize, value: &mut u8) {
        self.bytes(at, core::slice::from_mut(value));
    }

    fn u16(&mut self, at: usize, value: &mut u16) {
        let mut bytes = value.to_le_bytes();
        self.bytes(at, &mut bytes);
        *value = u16::from_le_bytes(bytes);
    }

    fn u32(&mut self, at: usize, value: &mut u32) {
        let mut bytes = value.to_le_bytes();
        self.bytes(at, &mut bytes);
        *value = u32::from_le_bytes(bytes);
    }

    /// A BOOLEAN: any number but 0 is true.
    fn boolean(&mut self, at: usize, value: &mut bool) {
        let mut byte = u8::from(*value);
        self.u8(at, &mut byte);
        *value = byte != 0;
    }
}

pub(super) struct Reading<'a>(pub &'a [u8]);

impl Wire for Reading<'_> {
    fn bytes(&mut self, at: usize, value: &mut [u8]) {
        value.copy_from_slice(&self.0[at..at + value.len()]);
    }
}

pub(super) struct Writing<'a>(pub &'a mut [u8]);

impl Wire for Writing<'_> {
    fn bytes(&mut self, at: usize, value: &mut [u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }
}

pub(super) fn read_u8(bytes: &[u8], at: usize) -> u8 {
    bytes[at]
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(read_array(bytes, at))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(read_array(bytes, at))
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(read_array(bytes, at))
}

pub(super) fn read_array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(super) fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// What a structure's header has to be.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// Object type.
    pub kind: u8,
    /// Sizes by revision, the first being revision 1. Later revisions extend the last one here.
    pub sizes: &'static [usize],
    /// A second size form of revision 1 (C's `sizeof`, which counts padding). Where it is given, a size is one of the two, and the revision is 1.
    pub alternative: Option<usize>,
}

impl Header {
    /// A header of an SA request: one revision, two sizes.
    pub(super) const fn of_request(sizes: &'static [usize], alternative: usize) -> Self {
        Self { kind: NDIS_OBJECT_TYPE_DEFAULT, sizes, alternative: Some(alternative) }
    }

    pub(super) const fn size(&self, revision: u8) -> usize {
        let last = self.sizes.len();
        let index = if revision as usize > last { last } else { revision as usize };
        self.sizes[index - 1]
    }

    /// Checks the header at `base` of `buffer`; returns revision and size. That the structure lies within the buffer is the caller's to check.
    ///
    /// At least the header must lie within the buffer.
    pub(super) fn check(&self, buffer: &[u8], base: usize) -> Result<(u8, usize), RawError> {
        let kind_at = base + core::mem::offset_of!(NDIS_OBJECT_HEADER, Type);
        let revision_at = base + core::mem::offset_of!(NDIS_OBJECT_HEADER, Revision);
        let size_at = base + core::mem::offset_of!(NDIS_OBJECT_HEADER, Size);
        let (kind, revision, size) = (read_u8(buffer, kind_at), read_u8(buffer, revision_at), read_u16(buffer, size_at));
        let wrong = |field, offset, found: u16, allowed| Err(RawError::Field { field, offset, found: u64::from(found), allowed });
        if kind != self.kind {
            return wrong("Header.Type", kind_at, u16::from(kind), "the structure's object type");
        }
        let known = revision != 0 && (self.alternative.is_none() || usize::from(revision) <= self.sizes.len());
        if !known {
            return wrong("Header.Revision", revision_at, u16::from(revision), "a known revision");
        }
        let least = self.size(revision);
        let fits = match self.alternative {
            Some(alternative) => usize::from(size) == least || usize::from(size) == alternative,
            None => usize::from(size) >= least,
        };
        if !fits {
            return wrong("Header.Size", size_at, size, "the revision's size");
        }
        Ok((revision, usize::from(size)))
    }

    /// Checks a buffer that begins with a structure that grows by revision; returns the revision, and the structure's known part in `structure`, zero
    /// from where the revision ends.
    pub(super) fn read_growing(&self, buffer: &[u8], structure: &mut [u8]) -> Result<u8, RawError> {
        if buffer.len() < size_of::<NDIS_OBJECT_HEADER>() {
            return Err(RawError::Short { found: buffer.len(), needed: self.sizes[0] });
        }
        let (revision, size) = self.check(buffer, 0)?;
        if buffer.len() < size {
            return Err(RawError::Short { found: buffer.len(), needed: size });
        }
        let known = self.size(revision).min(structure.len());
        structure[..known].copy_from_slice(&buffer[..known]);
        Ok(revision)
    }

    /// Writes the header at the start of `buffer`.
    pub(super) fn write(&self, buffer: &mut [u8], revision: u8) {
        write(buffer, core::mem::offset_of!(NDIS_OBJECT_HEADER, Type), &[self.kind]);
        write(buffer, core::mem::offset_of!(NDIS_OBJECT_HEADER, Revision), &[revision]);
        write(buffer, core::mem::offset_of!(NDIS_OBJECT_HEADER, Size), &(self.size(revision) as u16).to_le_bytes());
    }
}

/// `bytes`, or an error if there is no room for them.
pub(super) fn put(bytes: &[u8], buffer: &mut [u8]) -> Result<usize, RawError> {
    match buffer.get_mut(..bytes.len()) {
        Some(room) => {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        }
        None => Err(RawError::NoRoom { found: buffer.len(), needed: bytes.len() }),
    }
}
