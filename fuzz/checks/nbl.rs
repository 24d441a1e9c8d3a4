//! What must hold when any lists, frames and requests go through a software NIC, beyond that nothing panics.
//!
//! The provider is the insecure one, so that made-up packets get past authentication, and ciphertext is as it was as plaintext. Shared by the fuzz target and
//! by the test that replays its seeds and crashes.
//!
//! Input: a byte that chooses the medium, then operations, each a byte and what it takes (see [`Bench::step`]).

use ipsec::insecure::Toy;
use ipsec::{AhParameters, AhSa, Authentication, Encryption, EspParameters, EspSa, Provider};
use ndis::raw::DirectRequest;
use ndis::{
    AdapterKeywords, AddSaEntry, AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, DirectOid, DirectOidRequest, Direction, Encapsulation,
    EncryptionAlgorithm, Endpoints, EspAssociation, HeaderTransmit, IpsecSetting, Keyed, LaneContext, Miniport, MiniportQueue, NblBatch, NdisVersion,
    NetBufferList, OffloadEncapsulation, OffloadHandle, OffloadParameters, Oid, OidRequest, Operation, Outcome, RequestId, SaBundle, SaExtension,
    SetEncapsulation, Status, UdpEspType, Upcalls, UpdateSa,
};
use nic::{NicDriver, NicMiniport, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, IpProtocol, Ipv4Repr, Medium, Spi, Time};
use secret::SecretBytes;

const MAX_STEPS: usize = 64;
const ADD_SA_EX: u32 = 0xfc03_0205;
const ICV: usize = 16;
/// ESP header and IV of the first SA.
const PREFIX: usize = 16;
const LINK: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
/// The most that a bundle changes of a packet: IV and ICV of ESP, and the ICV field of AH.
const CHANGED: usize = 16 + 32 + 32;
/// SA bundles that an adapter may hold.
const CAPACITY: u32 = 16;

/// Takes `data` for what an adapter goes through.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let Some(medium) = input.byte() else { return };
    let mut bench = Bench::new(if medium & 1 == 0 { Medium::Ip } else { Medium::Ethernet });
    for _ in 0..MAX_STEPS {
        if bench.step(&mut input).is_none() {
            break;
        }
    }
    bench.counters();
}

/// What has not been read yet. What is missing at the end is zero, but no operation begins there.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn any(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.any())
    }
}

/// An adapter with one lane.
struct Bench {
    medium: Medium,
    driver: NicDriver<SoftwareEngine<Toy>>,
    miniport: NicMiniport<SoftwareEngine<Toy>>,
    queue: Box<dyn MiniportQueue>,
    pool: BufferPool,
    up: Upcalls,
    handles: Vec<u64>,
    requests: u64,
    sent: u64,
    received: u64,
}

impl Bench {
    /// A running adapter with receive offload active and an SA of each kind in either direction.
    fn new(medium: Medium) -> Self {
        let driver =
            NicDriver::new(NicParameters { medium, ..NicParameters::new("fuzz") }, || SoftwareEngine::new(Toy, CAPACITY).expect("it is no capacity to refuse"));
        let (miniport, _) = driver.start(&AdapterKeywords::defaults("fuzz"));
        let queue = miniport.open_queue();
        let mut bench =
            Self { medium, driver, miniport, queue, pool: BufferPool::new(), up: Upcalls::default(), handles: Vec::new(), requests: 0, sent: 0, received: 0 };
        bench.set(Oid::SetEncapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }));
        for direction in [Direction::Outbound, Direction::Inbound] {
            for sa in SAS {
                let (status, _) = bench.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(direction)))));
                assert_eq!(status, Status::SUCCESS);
            }
        }
        bench
    }

    /// One operation; `None` at the end of the input.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? % 8 {
            0 | 1 => self.send(input),
            2 | 3 => self.receive(input),
            4 => self.add(input),
            5 => {
                let handle = self.handle(input);
                self.direct(DirectOid::DeleteSa(vec![handle, u64::from(input.any())]));
            }
            6 => self.configure(input.any()),
            _ => match input.any() {
                0 => self.miniport.reset(&mut self.up),
                high => {
                    if let Some(handle) = OffloadHandle::from_bits(self.handle(input)) {
                        let sa = SAS[usize::from(high) % SAS.len()];
                        for (operation, spi) in [(Operation::Esp, sa.esp), (Operation::Ah, sa.ah)] {
                            let update = UpdateSa { handle, operation, spi: Spi(spi), sequence_number_high: u32::from(high) };
                            self.direct(DirectOid::UpdateSa(update));
                        }
                    }
                }
            },
        }
        self.miniport.poll_control(&mut self.up);
        assert!(self.up.direct_completions.drain(..).all(|(status, _)| status != Status::PENDING));
        self.up.indications.clear();
        Some(())
    }

    fn set(&mut self, body: Oid) {
        self.requests += 1;
        let status = self.miniport.oid_request(&mut OidRequest { id: RequestId(self.requests), body }, &mut self.up);
        assert_ne!(status, Status::PENDING);
    }

    /// A direct request; handles that it returns are kept.
    fn direct(&mut self, body: DirectOid) -> (Status, Option<DirectOid>) {
        self.requests += 1;
        match self.miniport.direct_oid_request(DirectOidRequest { id: RequestId(self.requests), body }) {
            Outcome::Done(status, request) => {
                if let DirectOid::AddSaEx(entry) = &request.body {
                    assert_eq!(status.is_success(), entry.handle.is_some());
                    self.handles.extend(entry.handle.map(OffloadHandle::to_bits));
                }
                (status, Some(request.body))
            }
            Outcome::Pending => (Status::PENDING, None),
        }
    }

    /// ADD_SA_EX, as bytes.
    fn add(&mut self, input: &mut Input<'_>) {
        let length = usize::from(input.any());
        let mut bytes = input.bytes(length).to_vec();
        let Ok((request, body)) = DirectRequest::parse(ADD_SA_EX, NdisVersion::V6_30, &mut bytes) else { return };
        if let (status, Some(body)) = self.direct(body) {
            request.complete(status, &body);
        }
    }

    fn configure(&mut self, choice: u8) {
        let setting = [IpsecSetting::Disabled, IpsecSetting::Ah, IpsecSetting::Esp, IpsecSetting::AhAndEsp][usize::from(choice & 3)];
        let family = [SetEncapsulation::NoChange, ON, SetEncapsulation::Off, LLC];
        let (ipv4, ipv6) = (family[usize::from(choice >> 2 & 3)], family[usize::from(choice >> 4 & 3)]);
        if choice & 0x40 == 0 {
            self.set(Oid::SetParameters(OffloadParameters::ipsec_v2_setting(setting)));
        } else {
            self.set(Oid::SetEncapsulation(OffloadEncapsulation { ipv4, ipv6 }));
        }
    }

    /// The bits of a handle: none, one that was given out, or any.
    fn handle(&self, input: &mut Input<'_>) -> u64 {
        match input.any() {
            0 => 0,
            0xff => u64::from_le_bytes(input.array()),
            place => self.handles[usize::from(place - 1) % self.handles.len()],
        }
    }

    /// A packet of an SA with what the transport says of it, or any bytes; then some of them poked. A bit of `kind` each. The SAs are the first one, or with
    /// bit 7 those that the next byte chooses.
    fn frame(&self, kind: u8, sealed: bool, input: &mut Input<'_>) -> (Vec<u8>, HeaderTransmit) {
        let choice = if kind & 0x80 == 0 { 0 } else { input.any() };
        let length = usize::from(input.any());
        let payload = input.bytes(length);
        let (mut frame, header) = if kind & 1 == 0 {
            let (packet, header) = framed(choice, payload, sealed && kind & 2 == 0);
            ([self.link(), &packet].concat(), header)
        } else {
            (payload.to_vec(), HeaderTransmit::default())
        };
        let sealed_len = frame.len();
        for _ in 0..input.any() % 4 {
            let (place, value) = (usize::from(input.any()), input.any());
            if let Some(byte) = frame.get_mut(place) {
                *byte = value;
            }
        }
        // Of a plain packet the ICV is made again, so that what was poked gets past it.
        let esp = self.link().len() + 20;
        if sealed && kind & 1 == 0 && kind & 2 == 0 && choice == 0 && frame.len() >= esp + PREFIX + ICV && frame.len() == sealed_len {
            let icv = frame.len() - ICV;
            let (text, icv) = frame[esp..].split_at_mut(icv - esp);
            let checksum = Toy::checksum(&text[..8], &text[PREFIX..]);
            icv.fill(checksum);
        }
        (frame, header)
    }

    fn link(&self) -> &'static [u8] {
        if self.medium == Medium::Ethernet { &LINK } else { &[] }
    }

    fn list(&self, input: &mut Input<'_>) -> NetBufferList {
        let kind = input.any();
        let (frame, header) = self.frame(kind, false, input);
        let mut list = NetBufferList::new(Buffer::copy_from(&frame), self.link().len() as u16);
        let ipsec = if kind & 0x02 == 0 { self.handles[0] } else { self.handle(input) };
        let tunnel = if kind & 0x04 == 0 { 0 } else { self.handle(input) };
        list.oob.set_header_transmit(header);
        let header = if kind & 0x08 == 0 { list.oob.header_bits() } else { u32::from_le_bytes(input.array()) };
        list.oob.set_bits(ipsec, tunnel, header);
        if kind & 0x10 != 0 {
            (list.oob.large_send, list.oob.checksum, list.oob.ieee8021q) = (u32::from(input.any()), u32::from(input.any()), u32::from(input.any()));
            if list.oob.checksum & 4 != 0 {
                // Where TCP is said to be.
                list.oob.checksum |= u32::from(input.any()) << 16;
            }
        }
        if kind & 0x20 != 0 {
            list.l3_offset = u16::from_le_bytes(input.array());
        }
        if kind & 0x40 != 0 {
            list.more.push(Buffer::copy_from(&self.frame(kind, false, input).0));
        }
        list
    }

    /// Lists: each comes back once, in order; what failed is whole, and what was sealed changed in IV and ICV alone.
    fn send(&mut self, input: &mut Input<'_>) {
        let mut batch = NblBatch::new();
        for tag in 0..=u64::from(input.any() & 0x7f) {
            batch.push(NetBufferList { tag, ..self.list(input) });
            if input.0.is_empty() {
                break;
            }
        }
        self.sent += batch.len() as u64;
        let before: Vec<_> = batch.iter().map(|list| (contents(list), list.oob)).collect();
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        self.queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        assert!(batch.is_empty());
        // What never gets to the engine comes back first.
        done.sort_by_key(|list| list.tag);
        assert!(done.iter().map(|list| list.tag).eq(0..before.len() as u64));
        let mut wire = wire.iter();
        for (list, (bytes, oob)) in done.iter().zip(&before) {
            assert_eq!(list.oob, *oob);
            if !list.status.is_success() {
                assert_eq!(contents(list), *bytes);
                continue;
            }
            assert!(list.buffers().all(Buffer::is_empty));
            for bytes in bytes {
                let frame = wire.next().expect("what succeeds is on the wire");
                let mut sent = frame.buffer.as_slice().to_vec();
                if oob.tag().is_some() {
                    sent.drain(12..16);
                }
                assert_eq!((frame.tag, sent.len()), (list.tag, bytes.len()));
                let changed = sent.iter().zip(bytes).filter(|(now, before)| now != before).count();
                let bundles = usize::from(oob.ipsec_bits() != 0) + usize::from(oob.tunnel_bits() != 0);
                // Of a header and of a segment.
                let checksums = if oob.checksum == 0 { 0 } else { 4 };
                assert!(changed <= bundles * CHANGED + checksums);
            }
        }
        assert!(wire.next().is_none());
    }

    /// Frames: each comes up once, in order, and as it came.
    fn receive(&mut self, input: &mut Input<'_>) {
        let mut frames = FrameBatch::new();
        for tag in 0..=u64::from(input.any() & 0x7f) {
            let kind = input.any();
            let (frame, _) = self.frame(kind, true, input);
            frames.push(Frame { tag, ..Frame::new(Buffer::copy_from(&frame)) });
            if input.0.is_empty() {
                break;
            }
        }
        self.received += frames.len() as u64;
        let before: Vec<_> = frames.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
        let mut up = NblBatch::new();
        self.queue.receive(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut frames, &mut up);
        assert!(frames.is_empty());
        assert!(up.iter().map(|list| list.tag).eq(0..before.len() as u64));
        for (list, bytes) in up.iter().zip(&before) {
            assert_eq!(list.buffer.as_slice(), bytes);
            assert!(usize::from(list.l3_offset) <= bytes.len());
            let receive = list.oob.ipsec_receive();
            let good = receive.crypto_done && receive.crypto_status == ndis::CryptoStatus::Success;
            // AH alone has no trailer; of two portions the outer one was good if the inner one was looked at.
            assert!(list.oob.header_receive().is_none() || good || receive.next_crypto_done);
            assert!(receive.crypto_done || receive == ndis::IpsecReceive::UNTOUCHED);
        }
    }

    /// Every packet ended in exactly one counter.
    fn counters(&self) {
        let counters = self.driver.counters();
        let sent = counters.sent_plain + counters.sent_offloaded + counters.send_not_configured + counters.send_not_running + counters.send_failed;
        assert_eq!(sent, self.sent);
        let packets = |(name, value): (&str, u64)| if name.starts_with("received_") { value } else { 0 };
        assert_eq!(counters.iter().map(packets).sum::<u64>(), self.received);
    }
}

const ON: SetEncapsulation = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
const LLC: SetEncapsulation = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_LLC_SNAP_ROUTED, header_size: 22 };

fn contents(list: &NetBufferList) -> Vec<Vec<u8>> {
    list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect()
}

/// An SA bundle; an SPI of 0: it has no such association.
#[derive(Clone, Copy)]
struct Sa {
    esp: u32,
    ah: u32,
    /// AES-CBC with HMAC-SHA1 in place of AES-GCM.
    cbc: bool,
    udp: Option<UdpEspType>,
}

const SAS: [Sa; 5] = [
    Sa { esp: 0x1001, ah: 0, cbc: false, udp: None },
    Sa { esp: 0, ah: 0x3002, cbc: false, udp: None },
    Sa { esp: 0x1003, ah: 0x3003, cbc: true, udp: None },
    Sa { esp: 0x1004, ah: 0, cbc: false, udp: Some(UdpEspType::Transport) },
    Sa { esp: 0x1005, ah: 0x3005, cbc: false, udp: None },
];

const IV_MASK: u64 = 0x5eed;

fn key(length: usize) -> SecretBytes {
    SecretBytes::from(vec![7; length])
}

impl Sa {
    fn bundle(self, direction: Direction) -> SaBundle {
        let sha1 = || Keyed { algorithm: AuthenticationAlgorithm::HmacSha1, key: key(20), additional_info: 0 };
        let esp = (self.esp != 0).then(|| EspAssociation {
            spi: Spi(self.esp),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: if self.cbc {
                Keyed { algorithm: EncryptionAlgorithm::AesCbc(AesKeySize::Aes128), key: key(16), additional_info: 0 }
            } else {
                Keyed { algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128), key: key(20), additional_info: ICV as u32 }
            },
            authentication: self.cbc.then(sha1),
        });
        let ah = (self.ah != 0).then(|| AhAssociation { spi: Spi(self.ah), extended_sequence_numbers: false, sequence_number_high: 0, authentication: sha1() });
        SaBundle {
            direction,
            endpoints: Endpoints { ipv6: false, source: None, destination: Some([192, 0, 2, 2].into()) },
            udp_esp: self.udp,
            associations: match (esp, ah) {
                (Some(esp), Some(ah)) => Associations::AhOverEsp { esp, ah },
                (None, Some(ah)) => Associations::Ah(ah),
                (Some(esp), None) => Associations::Esp(esp),
                (None, None) => unreachable!("every SA has an association"),
            },
            extension: SaExtension { iv_mask: IV_MASK, replay_window: Some(64), ..SaExtension::default() },
        }
    }

    fn esp_transform(self) -> Option<EspSa<Toy>> {
        let size = ipsec::AesKeySize::Aes128;
        let parameters = EspParameters {
            encryption: if self.cbc { Encryption::AesCbc(size) } else { Encryption::AesGcm(size) },
            encryption_key: &key(if self.cbc { 16 } else { 20 }),
            icv_length: ICV,
            authentication: if self.cbc { Authentication::HmacSha1 } else { Authentication::None },
            authentication_key: &key(if self.cbc { 20 } else { 0 }),
            allow_unauthenticated: false,
            extended_sequence_numbers: false,
            iv_mask: IV_MASK,
        };
        (self.esp != 0).then(|| EspSa::new(&Toy, &parameters).expect("keys of the right length"))
    }

    fn ah_transform(self) -> Option<AhSa<Toy>> {
        let parameters = AhParameters { authentication: Authentication::HmacSha1, key: &key(20), extended_sequence_numbers: false, iv_mask: IV_MASK };
        (self.ah != 0).then(|| AhSa::new(&Toy, &parameters).expect("a key of the right length"))
    }

    /// A packet that carries `payload`, with everything but what the NIC fills in, or `sealed`; and how far in the payload is.
    fn packet(self, payload: &[u8], next_header: u8, sealed: bool) -> (Vec<u8>, HeaderTransmit, usize) {
        let mut header = HeaderTransmit::default();
        let mut body = payload.to_vec();
        let mut before = 0;
        if let Some(transform) = self.esp_transform() {
            let mut esp = vec![0; payload.len() + transform.overhead(payload.len())];
            esp[..8].copy_from_slice(&[&self.esp.to_be_bytes()[..], &[0, 0, 0, 1]].concat());
            let text = transform.text(esp.len()).expect("it was made for the payload");
            before = text.start;
            let text = &mut esp[text];
            text[..payload.len()].copy_from_slice(payload);
            let trailer = ipsec::write_trailer(text, payload.len(), next_header).expect("the room is what it needs");
            (header.next_header, header.pad_length) = (trailer.next_header, trailer.pad_length);
            if sealed {
                Toy.seal(&mut [transform.seal_job(&mut esp, 1).expect("it was made for the SA")]);
            }
            body = esp;
        }
        let mut protocol = IpProtocol::ESP;
        let mut place = 20;
        if let Some(transform) = self.ah_transform() {
            let length = transform.header_length(4);
            let next_header = if self.esp == 0 { next_header } else { 50 };
            let fixed = [&[next_header, (length / 4 - 2) as u8, 0, 0][..], &self.ah.to_be_bytes(), &[0, 0, 0, 1]].concat();
            body = [&fixed, &vec![0; length - 12][..], &body].concat();
            protocol = IpProtocol::AH;
            header.ah_header_offset = 5;
            place += length;
        } else if self.udp.is_some() {
            body = [&[0x11, 0x94, 0x11, 0x94][..], &(8 + body.len() as u16).to_be_bytes(), &[0, 0], &body].concat();
            protocol = IpProtocol::UDP;
            place += 8;
        }
        if self.esp != 0 {
            header.esp_header_offset = (place / 4) as u8;
        }
        let mut packet = vec![0; 20];
        let repr = Ipv4Repr::new(protocol, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), body.len());
        packet.extend(body);
        repr.emit(&mut packet).expect("it is short");
        if let (Some(transform), true) = (self.ah_transform(), sealed) {
            transform.seal_packet(&Toy, &mut packet, 20, 1).expect("it was made for the SA");
        }
        (packet, header, place + before)
    }
}

/// A packet of the SAs that `choice` names: one, or one inside another.
fn framed(choice: u8, payload: &[u8], sealed: bool) -> (Vec<u8>, HeaderTransmit) {
    let sa = |number: u8| SAS[usize::from(number) % SAS.len()];
    let (inner, header, _) = sa(choice & 15).packet(payload, 17, sealed);
    if choice & 0x80 == 0 {
        return (inner, header);
    }
    let (outer, _, within) = sa(choice >> 4 & 7).packet(&inner, 4, sealed);
    let there = |offset: u8| if offset == 0 { 0 } else { offset + (within / 4) as u8 };
    (outer, HeaderTransmit { ah_header_offset: there(header.ah_header_offset), esp_header_offset: there(header.esp_header_offset), ..header })
}
