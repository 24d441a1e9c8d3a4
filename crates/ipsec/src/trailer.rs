//! The ESP trailer: padding, pad length, next header (RFC 4303 sections 2.4 to 2.6).

/// The last two bytes of what ESP encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trailer {
    /// Protocol number of the payload.
    pub next_header: u8,
    /// Bytes of padding between the payload and this trailer.
    pub pad_length: u8,
}

/// Bytes of pad length and next header.
pub const TRAILER_LENGTH: usize = 2;

/// What is wrong with a trailer or the space for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// There is no room even for pad length and next header.
    #[error("ESP trailer needs {} bytes, {found} are there", TRAILER_LENGTH)]
    TooShort {
        /// Bytes there.
        found: usize,
    },
    /// The padding is said to be longer than everything that was carried.
    #[error("ESP pad length is {pad_length}, only {carried} bytes were carried before the trailer")]
    PadLength {
        /// The pad length read.
        pad_length: u8,
        /// Bytes before pad length and next header.
        carried: usize,
    },
    /// More padding to write than a pad length can tell.
    #[error("{found} bytes of ESP padding are more than 255")]
    TooMuchPadding {
        /// Bytes between payload and trailer.
        found: usize,
    },
}

/// Bytes of padding for a payload of `payload_length` bytes, so that the trailer ends at a multiple of `alignment`.
///
/// `alignment` is at most 256; 0 counts as 1.
///
/// ```
/// assert_eq!(ipsec::padding_for(40, 4), 2);
/// assert_eq!(ipsec::padding_for(42, 4), 0);
/// assert_eq!(ipsec::padding_for(43, 4), 3);
/// ```
#[inline]
pub const fn padding_for(payload_length: usize, alignment: usize) -> u8 {
    if alignment.is_power_of_two() && alignment <= 256 {
        // All that there are in practice; without a division.
        return (payload_length.wrapping_add(TRAILER_LENGTH).wrapping_neg() & (alignment - 1)) as u8;
    }
    let alignment = if alignment == 0 { 1 } else { alignment };
    let over = (payload_length % alignment + TRAILER_LENGTH % alignment) % alignment;
    if over == 0 { 0 } else { (alignment - over) as u8 }
}

/// Fills everything after the payload: padding 1, 2, 3..., pad length, next header.
///
/// `plaintext` is all that will be encrypted, its first `payload_length` bytes the payload; the rest is the room for padding and trailer
/// and says
/// by its length how much padding there is.
///
/// # Errors
/// When the room is less than 2 or more than 257 bytes. Nothing is written then.
#[inline]
pub fn write_trailer(plaintext: &mut [u8], payload_length: usize, next_header: u8) -> Result<Trailer, TrailerError> {
    let room = plaintext.get_mut(payload_length..).unwrap_or_default();
    let found = room.len();
    let Some((padding, trailer)) = room.split_last_chunk_mut::<TRAILER_LENGTH>() else {
        return Err(TrailerError::TooShort { found });
    };
    let Ok(pad_length) = u8::try_from(padding.len()) else {
        return Err(TrailerError::TooMuchPadding { found: padding.len() });
    };
    for (byte, value) in padding.iter_mut().zip(1..=u8::MAX) {
        *byte = value;
    }
    *trailer = [pad_length, next_header];
    Ok(Trailer { next_header, pad_length })
}

/// Reads the trailer at the end of `plaintext`, which is all that was decrypted, and returns it with the length of the payload before the
/// padding.
///
/// The bytes of the padding are not looked at: sound implementations send other ones than 1, 2, 3..., and authentication covers them.
///
/// # Errors
/// When there is no trailer, or its pad length is larger than what was carried (OV2-OOB-5: invalid packet syntax).
#[inline]
pub const fn read_trailer(plaintext: &[u8]) -> Result<(usize, Trailer), TrailerError> {
    let Some((before, &[pad_length, next_header])) = plaintext.split_last_chunk::<TRAILER_LENGTH>() else {
        return Err(TrailerError::TooShort { found: plaintext.len() });
    };
    match before.len().checked_sub(pad_length as usize) {
        Some(payload_length) => Ok((payload_length, Trailer { next_header, pad_length })),
        None => Err(TrailerError::PadLength { pad_length, carried: before.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_ends_the_trailer_at_the_alignment() {
        for alignment in [0, 1, 2, 4, 8, 16, 3, 100, 256] {
            for payload in (0..600).chain(usize::MAX - 300..=usize::MAX - 260) {
                let pad = usize::from(padding_for(payload, alignment));
                assert_eq!((payload + pad + 2) % alignment.max(1), 0, "payload {payload} alignment {alignment}");
                assert!(pad < alignment.max(1));
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for payload in 0..=40 {
            for pad in 0..=255_u8 {
                let mut plaintext = vec![0xaa; payload + usize::from(pad) + 2];
                let trailer = write_trailer(&mut plaintext, payload, 59).unwrap();
                assert_eq!(trailer, Trailer { next_header: 59, pad_length: pad });
                assert_eq!(read_trailer(&plaintext), Ok((payload, trailer)));
                assert!(plaintext[..payload].iter().all(|&byte| byte == 0xaa));
                assert!(plaintext[payload..payload + usize::from(pad)].iter().enumerate().all(|(index, &byte)| usize::from(byte) == index + 1));
            }
        }
    }

    #[test]
    fn every_pad_length_against_every_small_length() {
        for length in 0..=300_usize {
            for pad_length in 0..=255_u8 {
                // Padding of any content.
                let mut plaintext = vec![0xee; length];
                if let Some(place) = plaintext.iter_mut().rev().nth(1) {
                    *place = pad_length;
                }
                let expected = match length.checked_sub(2) {
                    None => Err(TrailerError::TooShort { found: length }),
                    Some(carried) if usize::from(pad_length) > carried => Err(TrailerError::PadLength { pad_length, carried }),
                    Some(carried) => Ok((carried - usize::from(pad_length), Trailer { next_header: 0xee, pad_length })),
                };
                assert_eq!(read_trailer(&plaintext), expected, "length {length} pad length {pad_length}");
            }
        }
    }

    #[test]
    fn no_trailer_where_it_does_not_fit() {
        let mut plaintext = [7; 300];
        for payload in [299, 300, 301, usize::MAX] {
            assert!(matches!(write_trailer(&mut plaintext, payload, 4), Err(TrailerError::TooShort { .. })));
        }
        assert_eq!(write_trailer(&mut plaintext, 42, 4), Err(TrailerError::TooMuchPadding { found: 256 }));
        assert_eq!(plaintext, [7; 300]);
        assert!(write_trailer(&mut plaintext, 43, 4).is_ok());
    }
}
