//! From a received portion to the SA bundle that it is under, and what is wrong with its headers for that bundle (OV2-RECV-3, OV2-RECV-4).

use core::net::IpAddr;

use ipsec::Provider;
use ndis::{CryptoStatus, Operation};
use packet::{AhPacket, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, Spi};
use sa_table::{Guard, Key};

use super::portion::{IpsecHeader, Portion, Ports, Position};
use super::sa::Sa;
use super::v1;
use super::word::Word;

/// What portions are looked up with: the same for all of a batch.
pub(super) struct Finder<'a, P: Provider> {
    pub(super) word: Word,
    pub(super) guard: &'a Guard<'a, Sa<P>>,
    pub(super) ports: &'a Ports,
}

/// A portion and the bundle that it is under.
pub(super) enum Hit<'a, P: Provider> {
    /// There is none.
    Nobody,
    /// There is one, but it does not fit the configuration any more: as if it were not there (OV2-CAP-14).
    Outside,
    /// There is one, and the packet cannot be one of its packets.
    Unfit(&'a Sa<P>, CryptoStatus),
    /// There is one, and what its packets begin with is there.
    Fit(&'a Sa<P>),
}

impl<'a, P: Provider> Finder<'a, P> {
    /// Reads a portion; `None` if it is malformed or cut.
    #[inline(always)]
    pub(super) fn parse(&self, bytes: &[u8]) -> Option<Portion> {
        Portion::parse(bytes, |port| self.ports.contains(port))
    }

    /// Whether a portion lies within the capabilities (OV2-RECV-4).
    #[inline]
    pub(super) const fn within_capabilities(&self, portion: &Portion) -> bool {
        !portion.fragment() && (!portion.extras() || self.word.extras(portion.version()))
    }

    /// The bundle of the portion `bytes`, whose IPsec header is `header`.
    #[inline(always)]
    pub(super) fn find(&self, bytes: &[u8], version: IpVersion, header: IpsecHeader, position: Position) -> Hit<'a, P> {
        let Some((sa, fits)) = self.look_up(bytes, version, header) else { return Hit::Nobody };
        if !self.word.covers(sa.needs) {
            return Hit::Outside;
        }
        if !fits || !sa.takes(position, header.udp_port(), self.ports.adapter()) {
            return Hit::Unfit(sa, CryptoStatus::InvalidProtocol);
        }
        let ipsec = bytes.get(header.offset()..header.end()).unwrap_or_default();
        let checked = match header.operation() {
            Operation::Esp => check_esp(sa, ipsec),
            Operation::Ah => check_ah(sa, ipsec),
        };
        match checked {
            Ok(()) => Hit::Fit(sa),
            Err(status) => Hit::Unfit(sa, status),
        }
    }

    /// The bundle that has the header's SPI, and whether its packets begin with that header.
    #[inline(always)]
    fn look_up(&self, bytes: &[u8], version: IpVersion, header: IpsecHeader) -> Option<(&'a Sa<P>, bool)> {
        let at = match header.operation() {
            Operation::Esp => 0,
            Operation::Ah => 4,
        };
        let spi = Spi::from_be_bytes(*bytes.get(header.offset() + at..header.end())?.first_chunk()?);
        if spi.0 == 0 {
            return None;
        }
        let (key, source, destination) = match version {
            IpVersion::V4 => {
                let view = Ipv4Packet::new(bytes).ok()?;
                (Key::v4(spi.0, view.dst().octets()), IpAddr::V4(view.src()), Some(view.dst()))
            }
            IpVersion::V6 => {
                let view = Ipv6Packet::new(bytes).ok()?;
                (Key::v6(spi.0, view.dst().octets()), IpAddr::V6(view.src()), None)
            }
        };
        let mut other = None;
        for (_, sa) in self.guard.find(&key) {
            if !sa.admits(|| source) || sa.is_v1 && !v1::admits(sa, source, destination) {
                continue;
            }
            if sa.operation() == header.operation() && sa.has(header.operation(), spi) {
                return Some((sa, true));
            }
            other = other.or(Some((sa, false)));
        }
        other
    }
}

/// Checks an ESP packet's length.
#[inline]
pub(super) fn check_esp<P: Provider>(sa: &Sa<P>, esp: &[u8]) -> Result<(), CryptoStatus> {
    match sa.transforms.esp().map(|transform| transform.text(esp.len())) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(CryptoStatus::InvalidPacketSyntax),
        None => Err(CryptoStatus::InvalidProtocol),
    }
}

/// Checks an AH's length, and under AH over ESP that its ESP follows. `bytes` go on to the end of the packet.
#[inline(never)]
fn check_ah<P: Provider>(sa: &Sa<P>, bytes: &[u8]) -> Result<(), CryptoStatus> {
    let transform = sa.transforms.ah().ok_or(CryptoStatus::InvalidProtocol)?;
    let ah = AhPacket::new(bytes).map_err(|_| CryptoStatus::InvalidPacketSyntax)?;
    if !transform.accepts_header_length(ah.header_len()) {
        return Err(CryptoStatus::InvalidPacketSyntax);
    }
    if sa.transforms.esp().is_some() {
        let spi = ah.payload().first_chunk().map(|&spi| Spi::from_be_bytes(spi));
        if ah.next_header() != IpProtocol::ESP || !spi.is_some_and(|spi| sa.has(Operation::Esp, spi)) {
            return Err(CryptoStatus::InvalidProtocol);
        }
    }
    Ok(())
}
