//! UDP encapsulation of ESP and IKE on one port (RFC 3948, OV2-RECV-7).
//!
//! ```text
//! ESP                            IKE                            NAT keepalive
//! +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+-...
//! | UDP header, checksum 0       | UDP header                   | UDP header
//! +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+
//! | SPI, not zero                | 0, 0, 0, 0                   |     0xFF      |
//! +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+-...          +-+-+-+-+-+-+-+-+
//! | rest of ESP                  | IKE message
//! ```

use crate::error::{Layer, ParseError};
use crate::esp::{ESP_HEADER_LEN, EspPacket};

/// The port of IKE and ESP over UDP.
pub const UDP_ESP_PORT: u16 = 4500;
/// What is where the SPI would be when it is not ESP but IKE.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// The one byte of a NAT keepalive.
pub const NAT_KEEPALIVE: u8 = 0xff;

/// What a datagram to the encapsulation port carries.
#[derive(Clone, Copy, Debug)]
pub enum UdpEncapsulated<'a> {
    /// ESP, from its SPI on.
    Esp(EspPacket<&'a [u8]>),
    /// An IKE message, without the marker.
    Ike(&'a [u8]),
    /// A NAT keepalive.
    Keepalive,
}

impl<'a> UdpEncapsulated<'a> {
    /// Tells them apart by the UDP payload.
    ///
    /// # Errors
    /// [`ParseError::Overrun`] if it is none of the three: empty, or shorter than an ESP header without being a keepalive or marked as IKE.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, ParseError> {
        if let Some(message) = payload.strip_prefix(&NON_ESP_MARKER) {
            return Ok(Self::Ike(message));
        }
        if payload.len() < ESP_HEADER_LEN {
            return if payload == [NAT_KEEPALIVE] { Ok(Self::Keepalive) } else { Err(ParseError::overrun(Layer::UdpEsp, ESP_HEADER_LEN, payload.len())) };
        }
        EspPacket::new(payload).map(Self::Esp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::esp::Spi;

    #[test]
    fn tells_esp_ike_and_keepalive_apart() {
        assert!(matches!(UdpEncapsulated::parse(&[0xff]), Ok(UdpEncapsulated::Keepalive)));
        assert!(matches!(UdpEncapsulated::parse(&[0; 4]), Ok(UdpEncapsulated::Ike(&[]))));
        assert!(matches!(UdpEncapsulated::parse(&[0, 0, 0, 0, 7]), Ok(UdpEncapsulated::Ike(&[7]))));
        let esp = [0, 0, 0, 1, 0, 0, 0, 2, 9];
        let Ok(UdpEncapsulated::Esp(packet)) = UdpEncapsulated::parse(&esp) else { panic!("not ESP") };
        assert_eq!((packet.spi(), packet.sequence(), packet.body()), (Spi(1), 2, &[9][..]));
        // A first byte of 0xff alone does not make a keepalive.
        assert!(matches!(UdpEncapsulated::parse(&[0xff; 8]), Ok(UdpEncapsulated::Esp(_))));
    }

    #[test]
    fn refuses_what_is_too_short() {
        for payload in [&[][..], &[0], &[0xfe], &[0, 0, 0], &[0xff, 0xff], &[0, 0, 0, 1], &[1, 2, 3, 4, 5, 6, 7]] {
            let error = UdpEncapsulated::parse(payload).unwrap_err();
            assert_eq!(error, ParseError::Overrun { layer: Layer::UdpEsp, needed: 8, found: payload.len() as u32 });
        }
    }
}
