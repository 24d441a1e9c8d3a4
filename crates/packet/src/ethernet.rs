//! Ethernet II and IEEE 802.3 with LLC/SNAP, with up to two VLAN tags (802.1Q, 802.1ad).
//!
//! ```text
//! +---------------------+---------------------+-----------------------+-----------+----------
//! |  destination MAC, 6 |     source MAC, 6   |  0 to 2 VLAN tags, 4  | type, 2   | payload
//! +---------------------+---------------------+-----------------------+-----------+----------
//!                                             | TPID, 2 | PCP DEI VID |           |
//!
//! In place of the type, 802.3 has the payload's length (at most 1500), and then LLC; with DSAP and SSAP 0xAA comes SNAP:
//! +---------+---------+-----------+---------+-----------+----------
//! | DSAP, 1 | SSAP, 1 | control,1 | OUI, 3  |  type, 2  | payload
//! +---------+---------+-----------+---------+-----------+----------
//! ```

use core::fmt;

use crate::addr::MacAddress;
use crate::bytes::{array_at, put, range, range_mut, space, u16_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::proto::IpVersion;

/// Length of the header without tags, in bytes.
pub const ETHERNET_HEADER_LEN: usize = 14;
/// Length of a VLAN tag, in bytes.
pub const VLAN_TAG_LEN: usize = 4;
/// Length of LLC and SNAP headers together, in bytes.
pub const LLC_SNAP_LEN: usize = 8;
/// The largest value of the type field that is a length.
pub const MAX_802_3_LEN: u16 = 1500;

const SOURCE: usize = 6;
const TYPE: usize = 12;
const MIN_ETHER_TYPE: u16 = 0x0600;
const SNAP_SAP: u8 = 0xaa;

/// The type of what a frame carries: any of the 65536 values, named or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// IEEE 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// IEEE 802.1ad service tag.
    pub const SERVICE_VLAN: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN)
    }

    /// The IP version that this announces, if it is one.
    #[inline]
    pub const fn ip_version(self) -> Option<IpVersion> {
        match self {
            Self::IPV4 => Some(IpVersion::V4),
            Self::IPV6 => Some(IpVersion::V6),
            _ => None,
        }
    }
}

impl From<IpVersion> for EtherType {
    fn from(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::IPV4,
            IpVersion::V6 => Self::IPV6,
        }
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => f.pad("IPv4"),
            Self::ARP => f.pad("ARP"),
            Self::VLAN => f.pad("802.1Q"),
            Self::IPV6 => f.pad("IPv6"),
            Self::SERVICE_VLAN => f.pad("802.1ad"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtherType({self})")
    }
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Which kind of tag: [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub tpid: EtherType,
    /// Tag control information: priority 3 bits, drop eligible 1 bit, VLAN identifier 12 bits.
    pub tci: u16,
}

impl VlanTag {
    /// VLAN identifier.
    #[inline]
    pub const fn vid(&self) -> u16 {
        self.tci & 0x0fff
    }

    /// Priority code point.
    #[inline]
    pub const fn priority(&self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    pub const fn drop_eligible(&self) -> bool {
        self.tci & 0x1000 != 0
    }
}

/// How a frame says what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EthernetKind {
    /// Ethernet II: by the type field.
    Type(EtherType),
    /// IEEE 802.3 with LLC and SNAP, with organisation code 0 (RFC 1042) or 0x0000F8 (802.1H): by SNAP's type field.
    Snap(EtherType),
    /// IEEE 802.3 with LLC alone, or SNAP of another organisation. The payload begins at the LLC header.
    Llc {
        /// Destination service access point.
        dsap: u8,
        /// Source service access point.
        ssap: u8,
    },
}

/// An Ethernet frame without its check sequence, in a byte container. Where its parts begin is found out once, by the constructor.
#[derive(Clone, Copy)]
pub struct EthernetFrame<T> {
    bytes: T,
    kind: EthernetKind,
    tags: u8,
    l3_offset: u8,
    end: u32,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// Reads addresses, tags and type. After two tags a third is taken for the payload's type.
    ///
    /// # Errors
    /// [`ParseError`] if the header does not fit the data, an 802.3 length is larger than it, or type or length is an undefined value.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        let mut at = TYPE;
        let mut tags = 0;
        let field = loop {
            let Some(field) = data.get(at..at + 2) else {
                return Err(ParseError::truncated(Layer::Ethernet, at + 2, data.len()));
            };
            let field = u16_at(field, 0);
            if !EtherType(field).is_vlan() || tags == 2 {
                break field;
            }
            tags += 1;
            at += VLAN_TAG_LEN;
        };
        at += 2;
        if field >= MIN_ETHER_TYPE {
            return Ok(Self { end: data.len() as u32, bytes, kind: EthernetKind::Type(EtherType(field)), tags, l3_offset: at as u8 });
        }
        if field > MAX_802_3_LEN {
            return Err(ParseError::TypeOrLength { found: field });
        }
        let end = at + usize::from(field);
        if end > data.len() {
            return Err(ParseError::truncated(Layer::Ethernet, end, data.len()));
        }
        let kind = match *range(data, at, end) {
            [SNAP_SAP, SNAP_SAP, 3, 0, 0, 0 | 0xf8, high, low, ..] => {
                at += LLC_SNAP_LEN;
                EthernetKind::Snap(EtherType(u16::from_be_bytes([high, low])))
            }
            [dsap, ssap, _, ..] => EthernetKind::Llc { dsap, ssap },
            _ => return Err(ParseError::overrun(Layer::Llc, 3, usize::from(field))),
        };
        Ok(Self { bytes, kind, tags, l3_offset: at as u8, end: end as u32 })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> MacAddress {
        MacAddress(array_at(self.data(), 0))
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> MacAddress {
        MacAddress(array_at(self.data(), SOURCE))
    }

    /// The VLAN tags, outermost first.
    #[inline]
    pub fn tags(&self) -> [Option<VlanTag>; 2] {
        [0, 1].map(|index| {
            let at = TYPE + VLAN_TAG_LEN * usize::from(index);
            (index < self.tags).then(|| VlanTag { tpid: EtherType(u16_at(self.data(), at)), tci: u16_at(self.data(), at + 2) })
        })
    }

    /// How the frame says what it carries.
    #[inline]
    pub fn kind(&self) -> EthernetKind {
        self.kind
    }

    /// The type of what the frame carries, whichever way it says it; `None` for LLC alone.
    #[inline]
    pub fn ethertype(&self) -> Option<EtherType> {
        match self.kind {
            EthernetKind::Type(ethertype) | EthernetKind::Snap(ethertype) => Some(ethertype),
            EthernetKind::Llc { .. } => None,
        }
    }

    /// Where the payload begins, in bytes from the start of the frame: 14 to 30.
    #[inline]
    pub fn l3_offset(&self) -> usize {
        usize::from(self.l3_offset)
    }

    /// Addresses, tags and type (and LLC, SNAP), as they stand.
    #[inline]
    pub fn header_bytes(&self) -> &[u8] {
        range(self.data(), 0, self.l3_offset())
    }

    /// What the frame carries: in an 802.3 frame up to its length, otherwise up to the end of the data, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), self.l3_offset(), self.end as usize)
    }

    /// The header as values; `None` for LLC alone, which is not built.
    pub fn repr(&self) -> Option<EthernetRepr> {
        Some(EthernetRepr {
            dst: self.dst(),
            src: self.src(),
            tags: self.tags(),
            ethertype: self.ethertype()?,
            snap: matches!(self.kind, EthernetKind::Snap(_)),
        })
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, address: MacAddress) {
        put(self.bytes.as_mut(), 0, &address.0);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, address: MacAddress) {
        put(self.bytes.as_mut(), SOURCE, &address.0);
    }

    /// Sets the type of what the frame carries, in the place where it has one. `false`: it is LLC alone, and nothing was changed.
    ///
    /// A value below 0x0600, or one that announces a VLAN tag, makes another kind of frame of it for whoever reads it next.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) -> bool {
        match &mut self.kind {
            EthernetKind::Type(old) | EthernetKind::Snap(old) => *old = ethertype,
            EthernetKind::Llc { .. } => return false,
        }
        let at = self.l3_offset() - 2;
        put(self.bytes.as_mut(), at, &ethertype.0.to_be_bytes());
        true
    }

    /// What the frame carries, to change.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.l3_offset(), self.end as usize);
        range_mut(self.bytes.as_mut(), from, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for EthernetFrame<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthernetFrame")
            .field("dst", &self.dst())
            .field("src", &self.src())
            .field("tags", &self.tags())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// An Ethernet header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination address.
    pub dst: MacAddress,
    /// Source address.
    pub src: MacAddress,
    /// VLAN tags, outermost first; one alone may be in either place.
    pub tags: [Option<VlanTag>; 2],
    /// Type of the payload.
    pub ethertype: EtherType,
    /// Whether to write 802.3 with LLC and SNAP instead of Ethernet II.
    pub snap: bool,
}

impl EthernetRepr {
    /// An untagged Ethernet II header.
    pub const fn new(dst: MacAddress, src: MacAddress, ethertype: EtherType) -> Self {
        Self { dst, src, tags: [None; 2], ethertype, snap: false }
    }

    /// Length of the header, in bytes: 14 to 30.
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER_LEN + VLAN_TAG_LEN * self.tags.iter().flatten().count() + if self.snap { LLC_SNAP_LEN } else { 0 }
    }

    /// Writes the header to the start of `out`, and returns its length. `payload_len`, in bytes, is needed for the length field of 802.3.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short, or the payload too long for 802.3.
    pub fn emit(&self, out: &mut [u8], payload_len: usize) -> Result<usize, EmitError> {
        let header_len = self.header_len();
        let field = if self.snap {
            let len = payload_len.saturating_add(LLC_SNAP_LEN);
            if len > usize::from(MAX_802_3_LEN) {
                return Err(EmitError::TooLarge { layer: Layer::Ethernet, max: usize::from(MAX_802_3_LEN), found: len });
            }
            len as u16
        } else {
            self.ethertype.0
        };
        let header = space(out, Layer::Ethernet, header_len)?;
        put(header, 0, &self.dst.0);
        put(header, SOURCE, &self.src.0);
        let mut at = TYPE;
        for tag in self.tags.iter().flatten() {
            put(header, at, &tag.tpid.0.to_be_bytes());
            put(header, at + 2, &tag.tci.to_be_bytes());
            at += VLAN_TAG_LEN;
        }
        put(header, at, &field.to_be_bytes());
        if self.snap {
            put(header, at + 2, &[SNAP_SAP, SNAP_SAP, 3, 0, 0, 0]);
            put(header, at + 8, &self.ethertype.0.to_be_bytes());
        }
        Ok(header_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DST: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const SRC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&DST.0[..], &SRC.0, rest].concat()
    }

    #[test]
    fn finds_the_payload_behind_tags() {
        for (rest, l3_offset, ethertype, vids) in [
            (&[0x08, 0x00, 0x45][..], 14, EtherType::IPV4, vec![]),
            (&[0x81, 0x00, 0xa0, 0x07, 0x86, 0xdd, 0x60], 18, EtherType::IPV6, vec![7]),
            (&[0x88, 0xa8, 0x10, 0x64, 0x81, 0x00, 0x0f, 0xff, 0x08, 0x06, 0], 22, EtherType::ARP, vec![100, 4095]),
            (&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0], 22, EtherType::VLAN, vec![1, 2]),
        ] {
            let bytes = frame(rest);
            let frame = EthernetFrame::new(&bytes).unwrap();
            assert_eq!((frame.dst(), frame.src()), (DST, SRC));
            assert_eq!((frame.l3_offset(), frame.ethertype()), (l3_offset, Some(ethertype)));
            assert_eq!(frame.tags().iter().flatten().map(VlanTag::vid).collect::<Vec<_>>(), vids);
            assert_eq!(frame.payload(), &bytes[l3_offset..]);
            assert_eq!(frame.kind(), EthernetKind::Type(ethertype));
            for len in 0..l3_offset {
                assert!(EthernetFrame::new(&bytes[..len]).unwrap_err().is_truncated());
            }
            assert_eq!(EthernetFrame::new(&bytes[..l3_offset]).unwrap().payload(), []);
        }
        let tag = VlanTag { tpid: EtherType::VLAN, tci: 0xb007 };
        assert_eq!((tag.priority(), tag.drop_eligible(), tag.vid()), (5, true, 7));
    }

    #[test]
    fn recognises_llc_and_snap() {
        // RFC 1042 SNAP around 2 bytes of IPv4, with padding after it.
        let snap = frame(&[0, 10, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 0, 0xee, 0xee]);
        let parsed = EthernetFrame::new(&snap).unwrap();
        assert_eq!((parsed.kind(), parsed.l3_offset()), (EthernetKind::Snap(EtherType::IPV4), 22));
        assert_eq!(parsed.payload(), [0x45, 0]);
        assert_eq!(parsed.header_bytes(), &snap[..22]);
        // Another organisation's SNAP, and spanning tree.
        let other = frame(&[0, 8, 0xaa, 0xaa, 3, 0, 0, 0xc, 1, 0x0b]);
        assert_eq!(EthernetFrame::new(&other).unwrap().kind(), EthernetKind::Llc { dsap: 0xaa, ssap: 0xaa });
        let stp = frame(&[0, 5, 0x42, 0x42, 3, 0, 0]);
        let parsed = EthernetFrame::new(&stp).unwrap();
        assert_eq!((parsed.kind(), parsed.ethertype(), parsed.repr()), (EthernetKind::Llc { dsap: 0x42, ssap: 0x42 }, None, None));
        assert_eq!(parsed.payload(), [0x42, 0x42, 3, 0, 0]);
        let mut copy = stp.clone();
        assert!(!EthernetFrame::new(&mut copy).unwrap().set_ethertype(EtherType::IPV6));
        assert_eq!(copy, stp);

        assert_eq!(EthernetFrame::new(frame(&[0, 2, 0xaa, 0xaa, 3])).unwrap_err(), ParseError::Overrun { layer: Layer::Llc, needed: 3, found: 2 });
        assert_eq!(EthernetFrame::new(frame(&[0, 9, 0xaa, 0xaa, 3])).unwrap_err(), ParseError::Truncated { layer: Layer::Ethernet, needed: 23, found: 17 });
        for value in [1501u16, 1535] {
            assert_eq!(EthernetFrame::new(frame(&value.to_be_bytes())).unwrap_err(), ParseError::TypeOrLength { found: value });
        }
        assert_eq!(EthernetFrame::new(frame(&1536u16.to_be_bytes())).unwrap().ethertype(), Some(EtherType(0x0600)));
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(
            dst: [u8; 6], src: [u8; 6], tci in any::<[Option<u16>; 2]>(), service: bool, v6: bool, snap: bool, payload_len in 0usize..100,
        ) {
            let mut tags = tci.map(|tci| tci.map(|tci| VlanTag { tpid: EtherType::VLAN, tci }));
            if let (true, Some(tag)) = (service, &mut tags[0]) {
                tag.tpid = EtherType::SERVICE_VLAN;
            }
            if tags[0].is_none() {
                tags.swap(0, 1);
            }
            let version = if v6 { IpVersion::V6 } else { IpVersion::V4 };
            let repr = EthernetRepr { dst: MacAddress(dst), src: MacAddress(src), tags, ethertype: version.into(), snap };
            let mut bytes = vec![0; repr.header_len() + payload_len];
            prop_assert_eq!(repr.emit(&mut bytes, payload_len), Ok(repr.header_len()));
            let mut copy = bytes.clone();
            let parsed = EthernetFrame::new(&bytes).unwrap();
            prop_assert_eq!(parsed.repr(), Some(repr));
            prop_assert_eq!(parsed.payload().len(), payload_len);
            prop_assert_eq!(parsed.ethertype().and_then(EtherType::ip_version), Some(version));

            let mut parsed = EthernetFrame::new(&mut copy).unwrap();
            parsed.set_dst(MacAddress(src));
            parsed.set_src(MacAddress(dst));
            prop_assert!(parsed.set_ethertype(EtherType::ARP));
            prop_assert_eq!(parsed.payload_mut().len(), payload_len);
            let expected = EthernetRepr { dst: repr.src, src: repr.dst, ethertype: EtherType::ARP, ..repr };
            prop_assert_eq!(parsed.repr(), Some(expected));
            prop_assert_eq!(EthernetFrame::new(&copy).unwrap().repr(), Some(expected));
            prop_assert!(repr.emit(&mut vec![0; repr.header_len() - 1], payload_len).is_err());
            prop_assert_eq!(repr.emit(&mut bytes, 1493).is_err(), snap);
        }
    }
}
