//! Out-of-band information of a net buffer list: what steers the NIC on send and what it reports on receive (OV2-OOB-1 to OV2-OOB-6).

use crate::sa::OffloadHandle;

/// How the cryptography on a received packet ended (OV2-OOB-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CryptoStatus {
    /// Everything that was checked is good.
    Success = 0,
    /// The ICV is good, but next header 4 or 41 and the IP header that it announces disagree.
    GenericError = 1,
    /// The AH of the transport portion failed.
    TransportAhAuthFailed = 2,
    /// The ESP of the transport portion failed.
    TransportEspAuthFailed = 3,
    /// The AH of the tunnel portion failed.
    TunnelAhAuthFailed = 4,
    /// The ESP of the tunnel portion failed.
    TunnelEspAuthFailed = 5,
    /// Lengths in the packet do not fit.
    InvalidPacketSyntax = 6,
    /// The packet's IPsec headers are not those of its SA.
    InvalidProtocol = 7,
}

impl CryptoStatus {
    /// All values, in order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::GenericError,
        Self::TransportAhAuthFailed,
        Self::TransportEspAuthFailed,
        Self::TunnelAhAuthFailed,
        Self::TunnelEspAuthFailed,
        Self::InvalidPacketSyntax,
        Self::InvalidProtocol,
    ];

    /// The status of a number; `None` for one that is not defined.
    pub const fn from_number(number: u16) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }

    /// Microsoft's name without its prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::GenericError => "GENERIC_ERROR",
            Self::TransportAhAuthFailed => "TRANSPORT_AH_AUTH_FAILED",
            Self::TransportEspAuthFailed => "TRANSPORT_ESP_AUTH_FAILED",
            Self::TunnelAhAuthFailed => "TUNNEL_AH_AUTH_FAILED",
            Self::TunnelEspAuthFailed => "TUNNEL_ESP_AUTH_FAILED",
            Self::InvalidPacketSyntax => "INVALID_PACKET_SYNTAX",
            Self::InvalidProtocol => "INVALID_PROTOCOL",
        }
    }
}

/// Receive form of the IPsec slot (OV2-OOB-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpsecReceive {
    /// The NIC asks to delete the SA that this packet came over; independent of the other members (OV2-SA-8).
    pub sa_delete_request: bool,
    /// At least one IPsec portion was checked.
    pub crypto_done: bool,
    /// The transport and the tunnel portion were both checked; only with `crypto_done`.
    pub next_crypto_done: bool,
    /// The verdict; not read unless `crypto_done`.
    pub crypto_status: CryptoStatus,
}

impl IpsecReceive {
    /// Nothing was done: all slots zero.
    pub const UNTOUCHED: Self = Self { sa_delete_request: false, crypto_done: false, next_crypto_done: false, crypto_status: CryptoStatus::Success };

    /// One portion was done, and it was good.
    pub const GOOD: Self = Self { crypto_done: true, ..Self::UNTOUCHED };

    const DELETE: u64 = 1;
    const DONE: u64 = 1 << 1;
    const NEXT_DONE: u64 = 1 << 2;
    const STATUS_SHIFT: u32 = 16;

    /// Bits of the slot.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        (self.sa_delete_request as u64 * Self::DELETE)
            | (self.crypto_done as u64 * Self::DONE)
            | (self.next_crypto_done as u64 * Self::NEXT_DONE)
            | ((self.crypto_status as u64) << Self::STATUS_SHIFT)
    }

    /// An undefined status number reads as `GENERIC_ERROR`: a failure, never a success.
    const fn from_bits(bits: u64) -> Self {
        let crypto_status = match CryptoStatus::from_number((bits >> Self::STATUS_SHIFT) as u16) {
            Some(status) => status,
            None => CryptoStatus::GenericError,
        };
        Self { sa_delete_request: bits & Self::DELETE != 0, crypto_done: bits & Self::DONE != 0, next_crypto_done: bits & Self::NEXT_DONE != 0, crypto_status }
    }
}

/// Transmit form of the header slot, filled on every offloaded send (OV2-OOB-3).
///
/// Offsets count from the start of the outermost IP header, in units of 4 bytes; 0 = there is no such header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderTransmit {
    /// Next header, as in the ESP trailer.
    pub next_header: u8,
    /// Length of the ESP padding, in bytes.
    pub pad_length: u8,
    /// Where the AH is.
    pub ah_header_offset: u8,
    /// Where the ESP header is.
    pub esp_header_offset: u8,
}

impl HeaderTransmit {
    /// Bits of the slot.
    #[inline]
    pub const fn to_bits(self) -> u32 {
        u32::from_le_bytes([self.next_header, self.pad_length, self.ah_header_offset, self.esp_header_offset])
    }
}

/// Receive form of the header slot: the innermost ESP that the NIC did (OV2-OOB-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderReceive {
    /// Next header of the ESP trailer.
    pub next_header: u8,
    /// Length of the ESP padding, in bytes.
    pub pad_length: u8,
}

/// The out-of-band slots of one net buffer list, typed; the 27-slot array of NDIS exists only at the raw edge ([`crate::raw`]).
///
/// Send and receive forms share slots: whoever sends a received list on calls [`OutOfBand::clear`] first (OV2-OOB-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutOfBand {
    ipsec: u64,
    tunnel: u64,
    header: u32,
    /// Large send (LSO v1 and v2) word, as in the ABI.
    pub large_send: u32,
    /// TCP/IP checksum word, as in the ABI.
    pub checksum: u32,
    /// 802.1Q word, as in the ABI.
    pub ieee8021q: u32,
    /// UDP segmentation word, as in the ABI.
    pub udp_segmentation: u32,
}

impl OutOfBand {
    const HEADER_INFO_SET: u32 = 1 << 16;

    /// All slots zero.
    #[inline]
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bits of the IPsec slot (index 1), send or receive form.
    #[inline]
    pub const fn ipsec_bits(&self) -> u64 {
        self.ipsec
    }

    /// Bits of the tunnel slot (index 11).
    pub const fn tunnel_bits(&self) -> u64 {
        self.tunnel
    }

    /// Bits of the header slot (index 12), send or receive form.
    pub const fn header_bits(&self) -> u32 {
        self.header
    }

    /// Sets the three IPsec slots from their bits (raw edge, tests).
    #[inline]
    pub const fn set_bits(&mut self, ipsec: u64, tunnel: u64, header: u32) {
        self.ipsec = ipsec;
        self.tunnel = tunnel;
        self.header = header;
    }

    /// Transmit: the bundle that the NIC shall apply; `None` = no offload.
    #[inline]
    pub const fn offload_handle(&self) -> Option<OffloadHandle> {
        OffloadHandle::from_bits(self.ipsec)
    }

    /// Transmit: asks for IPsec offload under `handle`.
    #[inline]
    pub fn set_offload_handle(&mut self, handle: Option<OffloadHandle>) {
        self.ipsec = handle.map_or(0, OffloadHandle::to_bits);
    }

    /// Transmit: the tunnel bundle of a transport-over-tunnel packet (OV2-OOB-2).
    #[inline]
    pub const fn tunnel_handle(&self) -> Option<OffloadHandle> {
        OffloadHandle::from_bits(self.tunnel)
    }

    /// Transmit: names the tunnel bundle of a transport-over-tunnel packet.
    #[inline]
    pub fn set_tunnel_handle(&mut self, handle: Option<OffloadHandle>) {
        self.tunnel = handle.map_or(0, OffloadHandle::to_bits);
    }

    /// Transmit: where the headers of the offloaded bundle are.
    #[inline]
    pub const fn header_transmit(&self) -> HeaderTransmit {
        let [next_header, pad_length, ah_header_offset, esp_header_offset] = self.header.to_le_bytes();
        HeaderTransmit { next_header, pad_length, ah_header_offset, esp_header_offset }
    }

    /// Transmit: says where the headers of the offloaded bundle are.
    #[inline]
    pub const fn set_header_transmit(&mut self, header: HeaderTransmit) {
        self.header = header.to_bits();
    }

    /// Receive: what the NIC did.
    #[inline]
    pub const fn ipsec_receive(&self) -> IpsecReceive {
        IpsecReceive::from_bits(self.ipsec)
    }

    /// Receive: reports what the NIC did.
    #[inline]
    pub const fn set_ipsec_receive(&mut self, receive: IpsecReceive) {
        self.ipsec = receive.to_bits();
    }

    /// Receive: the trailer of the innermost ESP that the NIC did; `None` if it did not say.
    #[inline]
    pub const fn header_receive(&self) -> Option<HeaderReceive> {
        let [next_header, pad_length, ..] = self.header.to_le_bytes();
        if self.header & Self::HEADER_INFO_SET == 0 { None } else { Some(HeaderReceive { next_header, pad_length }) }
    }

    /// Receive: reports the trailer of the innermost ESP that the NIC did.
    #[inline]
    pub const fn set_header_receive(&mut self, header: Option<HeaderReceive>) {
        self.header = match header {
            Some(HeaderReceive { next_header, pad_length }) => u32::from_le_bytes([next_header, pad_length, 0, 0]) | Self::HEADER_INFO_SET,
            None => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_fits_one_cache_line() {
        assert!(size_of::<OutOfBand>() <= 64);
    }

    #[test]
    fn receive_bits_are_those_of_the_abi() {
        let mut oob = OutOfBand::default();
        oob.set_ipsec_receive(IpsecReceive {
            sa_delete_request: true,
            crypto_done: true,
            next_crypto_done: false,
            crypto_status: CryptoStatus::InvalidProtocol,
        });
        assert_eq!(oob.ipsec_bits(), 0x0007_0003);
        oob.set_header_receive(Some(HeaderReceive { next_header: 6, pad_length: 2 }));
        assert_eq!(oob.header_bits(), 0x0001_0206);
        oob.set_header_transmit(HeaderTransmit { next_header: 4, pad_length: 3, ah_header_offset: 5, esp_header_offset: 11 });
        assert_eq!(oob.header_bits(), 0x0B05_0304);
    }

    #[test]
    fn every_status_comes_back_and_an_unknown_one_is_no_success() {
        let mut oob = OutOfBand::default();
        for status in CryptoStatus::ALL {
            let sent = IpsecReceive { sa_delete_request: false, crypto_done: true, next_crypto_done: true, crypto_status: status };
            oob.set_ipsec_receive(sent);
            assert_eq!(oob.ipsec_receive(), sent);
        }
        oob.set_bits(0x0008_0002, 0, 0);
        assert_eq!(oob.ipsec_receive().crypto_status, CryptoStatus::GenericError);
    }
}
