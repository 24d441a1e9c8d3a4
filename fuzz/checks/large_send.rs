//! What must hold when any list that asks for a large send goes into a software NIC, beyond that nothing panics. Shared by the fuzz target and by the test that
//! replays its seeds and crashes.
//!
//! The provider is the insecure one, whose ciphertext is the plaintext, so that the payload of segments can be looked at.
//!
//! Input: a byte that chooses the medium, then lists of [`Bench::list`] until the end.

use ipsec::insecure::Toy;
use ndis::{
    AdapterKeywords, AddSaEntry, AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, DirectOid, DirectOidRequest, Direction, EncryptionAlgorithm,
    Endpoints, EspAssociation, HeaderTransmit, Keyed, LaneContext, LargeSend, Miniport, MiniportQueue, NblBatch, NetBufferList, Outcome, RequestId, SaBundle,
    SaExtension, Status, UdpEspType,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, FrameBatch, IpVersion, Medium, ParsedIp, Spi, Time};
use secret::SecretBytes;

const LINK: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
const MAX_LISTS: usize = 16;

/// Takes `data` for large lists.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let Some(medium) = input.byte() else { return };
    let mut bench = Bench::new(if medium & 1 == 0 { Medium::Ip } else { Medium::Ethernet });
    let mut batch = NblBatch::new();
    while !input.0.is_empty() && batch.len() < MAX_LISTS {
        let tag = batch.len() as u64;
        batch.push(NetBufferList { tag, ..bench.list(&mut input) });
    }
    bench.send(batch);
}

/// What has not been read yet; what is missing at the end is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.byte().unwrap_or(0))
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
}

/// The headers of a bundle's packets.
#[derive(Clone, Copy)]
struct Sa {
    esp: u32,
    ah: u32,
    cbc: bool,
    udp: bool,
    extended: bool,
}

const SAS: [Sa; 5] = [
    Sa { esp: 0x1001, ah: 0, cbc: false, udp: false, extended: false },
    Sa { esp: 0, ah: 0x3002, cbc: false, udp: false, extended: true },
    Sa { esp: 0x1003, ah: 0x3003, cbc: true, udp: false, extended: false },
    Sa { esp: 0x1004, ah: 0, cbc: false, udp: true, extended: false },
    Sa { esp: 0x1005, ah: 0, cbc: true, udp: false, extended: true },
];

impl Sa {
    fn bundle(self) -> SaBundle {
        let key = |length| SecretBytes::from(vec![7; length]);
        let sha1 = || Keyed { algorithm: AuthenticationAlgorithm::HmacSha1, key: key(20), additional_info: 0 };
        let (gcm, cbc) = (EncryptionAlgorithm::AesGcm(AesKeySize::Aes128), EncryptionAlgorithm::AesCbc(AesKeySize::Aes128));
        let esp = (self.esp != 0).then(|| EspAssociation {
            spi: Spi(self.esp),
            extended_sequence_numbers: self.extended,
            sequence_number_high: 0,
            encryption: Keyed { algorithm: if self.cbc { cbc } else { gcm }, key: key(if self.cbc { 16 } else { 20 }), additional_info: 0 },
            authentication: self.cbc.then(sha1),
        });
        let ah = (self.ah != 0).then(|| AhAssociation {
            spi: Spi(self.ah),
            extended_sequence_numbers: self.extended,
            sequence_number_high: 0,
            authentication: sha1(),
        });
        SaBundle {
            direction: Direction::Outbound,
            endpoints: Endpoints { ipv6: false, source: None, destination: Some([192, 0, 2, 2].into()) },
            udp_esp: self.udp.then_some(UdpEspType::Transport),
            associations: match (esp, ah) {
                (Some(esp), Some(ah)) => Associations::AhOverEsp { esp, ah },
                (None, Some(ah)) => Associations::Ah(ah),
                (Some(esp), None) => Associations::Esp(esp),
                (None, None) => unreachable!("every SA has an association"),
            },
            extension: SaExtension::default(),
        }
    }

    /// Its headers, before what has this protocol.
    fn headers(self, next: u8, low: u32) -> (u8, Vec<u8>, HeaderTransmit) {
        let (mut bytes, mut header) = (Vec::new(), HeaderTransmit::default());
        let mut protocol = if self.ah != 0 { 51 } else { 50 };
        if self.udp {
            protocol = 17;
            bytes.extend([0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0]);
        }
        if self.ah != 0 {
            header.ah_header_offset = 5;
            bytes.extend([if self.esp == 0 { next } else { 50 }, 4, 0, 0]);
            bytes.extend(self.ah.to_be_bytes());
            bytes.extend(low.to_be_bytes());
            bytes.extend([0; 12]);
        }
        if self.esp != 0 {
            header.esp_header_offset = (5 + bytes.len() / 4) as u8;
            header.next_header = next;
            bytes.extend(self.esp.to_be_bytes());
            bytes.extend(low.to_be_bytes());
            bytes.extend(vec![0; if self.cbc { 16 } else { 8 }]);
        }
        (protocol, bytes, header)
    }
}

/// An adapter with one lane.
struct Bench {
    medium: Medium,
    queue: Box<dyn MiniportQueue>,
    pool: BufferPool,
    handles: Vec<u64>,
}

impl Bench {
    fn new(medium: Medium) -> Self {
        let engine = || SoftwareEngine::new(Toy, 16).expect("it is no capacity to refuse");
        let driver = NicDriver::new(NicParameters { medium, ..NicParameters::new("fuzz") }, engine);
        let (miniport, _) = driver.start(&AdapterKeywords::defaults("fuzz"));
        let mut handles = Vec::new();
        for sa in SAS {
            let body = DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle())));
            let Outcome::Done(Status::SUCCESS, DirectOidRequest { body: DirectOid::AddSaEx(entry), .. }) =
                miniport.direct_oid_request(DirectOidRequest { id: RequestId(1), body })
            else {
                panic!("an SA that the NIC takes")
            };
            handles.extend(entry.handle.map(ndis::OffloadHandle::to_bits));
        }
        Self { medium, queue: miniport.open_queue(), pool: BufferPool::new(), handles }
    }

    /// A list: the SA (0: none), the kind of large send and bits, segment size, payload, low half of the first number, padding; then what is poked: a count,
    /// and a place and a value each. Bits: 1 IPv4 options, 2 TCP options, 4 the words of large sends are read, 8 a true length, 16 no link header's length.
    fn list(&self, input: &mut Input<'_>) -> NetBufferList {
        let [sa, kind, bits, padding] = input.array();
        let (mss, payload, low) = (u32::from(input.word()), usize::from(input.word()), u32::from_le_bytes(input.array()));
        let link: &[u8] = if self.medium == Medium::Ethernet { &LINK } else { &[] };
        let sa = usize::from(sa).checked_sub(1).map(|place| place % SAS.len());
        let next = if kind % 3 == 2 { 17 } else { 6 };
        let (protocol, ipsec, mut header) = sa.map_or((next, Vec::new(), HeaderTransmit::default()), |sa| SAS[sa].headers(next, low));
        let mut bytes = vec![0x45, 0, 0, 0, 0x7f, 0xff, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        if bits & 1 != 0 {
            bytes[0] = 0x46;
            bytes.extend([1, 1, 1, 0]);
            header.ah_header_offset += u8::from(header.ah_header_offset != 0);
            header.esp_header_offset += u8::from(header.esp_header_offset != 0);
        }
        bytes.extend(ipsec);
        let header_offset = (link.len() + bytes.len()) as u16;
        if next == 6 {
            bytes.extend([0, 5, 0, 6, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 1, if bits & 2 == 0 { 0x50 } else { 0x60 }, 0x99, 1, 1, 0x12, 0x34, 0, 0]);
            bytes.extend(if bits & 2 == 0 { &[][..] } else { &[1, 1, 1, 1] });
        } else {
            bytes.extend([0, 5, 0, 6, 0, 0, 0x12, 0x34]);
        }
        bytes.extend((0..payload).map(|at| at as u8));
        header.pad_length = padding;
        bytes.extend(vec![0xdd; if sa.is_some_and(|sa| SAS[sa].esp != 0) { padding.into() } else { 0 }]);
        if kind % 3 == 0 || bits & 8 != 0 {
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        }
        let mut bytes = [link, &bytes].concat();
        for _ in 0..input.byte().unwrap_or(0) % 8 {
            let (place, [value]) = (usize::from(input.word()), input.array());
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        let l3 = if bits & 16 == 0 { link.len() as u16 } else { input.word() };
        let mut list = NetBufferList::new(Buffer::copy_from(&bytes), l3);
        list.oob.set_large_send(match kind % 3 {
            0 => LargeSend::V1 { mss, header_offset },
            1 => LargeSend::V2 { mss, header_offset, version: IpVersion::V4 },
            _ => LargeSend::Udp { mss, header_offset, version: IpVersion::V4 },
        });
        list.oob.set_bits(sa.map_or(0, |sa| self.handles[sa]), 0, header.to_bits());
        if bits & 4 != 0 {
            (list.oob.large_send, list.oob.udp_segmentation) = (u32::from_le_bytes(input.array()), u32::from_le_bytes(input.array()));
            list.oob.set_bits(list.oob.ipsec_bits(), u64::from(input.byte().unwrap_or(0)), u32::from_le_bytes(input.array()));
        }
        list
    }

    /// Each list comes back once; what failed is whole; what was sent is its payload, in packets that are as long as they say.
    fn send(&mut self, mut batch: NblBatch) {
        let before: Vec<_> = batch.iter().map(|list| (list.buffer.as_slice().to_vec(), list.oob, list.l3_offset)).collect();
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        self.queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        assert!(batch.is_empty() && done.iter().map(|list| list.tag).eq(0..before.len() as u64));
        assert!(wire.is_sorted_by_key(|frame| frame.tag));
        for (list, (bytes, oob, l3)) in done.iter().zip(&before) {
            let packets: Vec<_> = wire.iter().filter(|frame| frame.tag == list.tag).flat_map(packet::Frame::packets).collect();
            if !list.status.is_success() {
                assert!(packets.is_empty() && list.buffer.as_slice() == bytes && list.oob == *oob);
                continue;
            }
            assert!(list.buffer.is_empty());
            let Ok(Some(request)) = oob.large_send() else {
                // A poked word that asks for nothing: sent as it stands, or under its SA.
                assert_eq!(packets.len(), 1);
                continue;
            };
            let upper = usize::from(request.header_offset());
            let head = upper + if request.segments() == packet::Segments::Udp { 8 } else { usize::from(bytes[upper + 12] >> 4) * 4 };
            let padding = if oob.header_transmit().esp_header_offset == 0 || oob.ipsec_bits() == 0 { 0 } else { oob.header_transmit().pad_length.into() };
            let payload = &bytes[head..bytes.len() - padding];
            let chunks = payload.chunks(request.mss() as usize);
            assert_eq!(packets.len(), chunks.len());
            for (packet, chunk) in packets.iter().zip(chunks) {
                let parsed = ParsedIp::parse(&packet[usize::from(*l3)..]).expect("a packet");
                assert_eq!(parsed.padding_len(), 0);
                assert_eq!(&packet[head..head + chunk.len()], chunk);
            }
        }
    }
}
