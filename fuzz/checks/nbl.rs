//! What must hold when any lists, frames and requests go through a software NIC, beyond that nothing panics.
//!
//! The provider is the insecure one, so that made-up packets get past authentication, and ciphertext is as it was as plaintext. Shared by the fuzz target and
//! by the test that replays its seeds and crashes.
//!
//! Input: a byte that chooses the medium, then operations, each a byte and what it takes (see [`Bench::step`]).

use ipsec::insecure::Toy;
use ndis::raw::DirectRequest;
use ndis::{
    AdapterKeywords, AddSaEntry, AesKeySize, Associations, DirectOid, DirectOidRequest, Direction, Encapsulation, EncryptionAlgorithm, Endpoints,
    EspAssociation, HeaderTransmit, IpsecSetting, Keyed, LaneContext, Miniport, MiniportQueue, NblBatch, NdisVersion, NetBufferList, OffloadEncapsulation,
    OffloadHandle, OffloadParameters, Oid, OidRequest, Operation, Outcome, RequestId, SaBundle, SaExtension, SetEncapsulation, Status, Upcalls, UpdateSa,
};
use nic::{NicDriver, NicMiniport, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, IpProtocol, Ipv4Repr, Medium, Spi, Time};
use secret::SecretBytes;

const MAX_STEPS: usize = 64;
const ADD_SA_EX: u32 = 0xfc03_0205;
const SPI: u32 = 0x1001;
const ICV: usize = 16;
/// ESP header and IV.
const PREFIX: usize = 16;
const LINK: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
/// The most that sealing changes of a packet: IV and ICV.
const CHANGED: usize = 8 + ICV;

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
    /// A running adapter with receive offload active and an SA in either direction.
    fn new(medium: Medium) -> Self {
        let driver =
            NicDriver::new(NicParameters { medium, ..NicParameters::new("fuzz") }, || SoftwareEngine::new(Toy, 8).expect("8 is no capacity to refuse"));
        let (miniport, _) = driver.start(&AdapterKeywords::defaults("fuzz"));
        let queue = miniport.open_queue();
        let mut bench =
            Self { medium, driver, miniport, queue, pool: BufferPool::new(), up: Upcalls::default(), handles: Vec::new(), requests: 0, sent: 0, received: 0 };
        bench.set(Oid::SetEncapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }));
        for direction in [Direction::Outbound, Direction::Inbound] {
            let (status, _) = bench.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle(direction)))));
            assert_eq!(status, Status::SUCCESS);
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
                        let update = UpdateSa { handle, operation: Operation::Esp, spi: Spi(SPI), sequence_number_high: u32::from(high) };
                        self.direct(DirectOid::UpdateSa(update));
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

    /// A packet of the SA with what the transport says of it, or any bytes; then some of them poked. A bit of `kind` each.
    fn frame(&self, kind: u8, sealed: bool, input: &mut Input<'_>) -> (Vec<u8>, HeaderTransmit) {
        let length = usize::from(input.any());
        let payload = input.bytes(length);
        let (mut frame, header) = if kind & 1 == 0 { framed(self.medium, payload) } else { (payload.to_vec(), HeaderTransmit::default()) };
        for _ in 0..input.any() % 4 {
            let (place, value) = (usize::from(input.any()), input.any());
            if let Some(byte) = frame.get_mut(place) {
                *byte = value;
            }
        }
        let esp = self.link().len() + 20;
        if sealed && kind & 2 == 0 && frame.len() >= esp + PREFIX + ICV {
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
                assert_eq!((frame.tag, frame.buffer.len()), (list.tag, bytes.len()));
                let changed = frame.buffer.as_slice().iter().zip(bytes).filter(|(now, before)| now != before).count();
                assert!(changed <= if oob.ipsec_bits() == 0 { 0 } else { CHANGED });
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
            assert_eq!(list.oob.header_receive().is_some(), good);
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

fn bundle(direction: Direction) -> SaBundle {
    SaBundle {
        direction,
        endpoints: Endpoints { ipv6: false, source: None, destination: Some([192, 0, 2, 2].into()) },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: Spi(SPI),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: Keyed { algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128), key: SecretBytes::from(vec![7; 20]), additional_info: ICV as u32 },
            authentication: None,
        }),
        extension: SaExtension { iv_mask: 0x5eed, replay_window: Some(64), ..SaExtension::default() },
    }
}

/// A packet of the SA that carries `payload`, with everything but what the NIC fills in.
fn framed(medium: Medium, payload: &[u8]) -> (Vec<u8>, HeaderTransmit) {
    let pad = usize::from(ipsec::padding_for(payload.len(), 4));
    let mut esp = [&SPI.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 8], payload].concat();
    esp.resize(esp.len() + pad + ipsec::TRAILER_LENGTH, 0);
    let trailer = ipsec::write_trailer(&mut esp[PREFIX..], payload.len(), 17).expect("the room is what it needs");
    esp.resize(esp.len() + ICV, 0);
    let mut ip = vec![0; 20];
    let repr = Ipv4Repr::new(IpProtocol::ESP, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), esp.len());
    ip.resize(20 + esp.len(), 0);
    repr.emit(&mut ip).expect("it is short");
    ip[20..].copy_from_slice(&esp);
    let link: &[u8] = if medium == Medium::Ethernet { &LINK } else { &[] };
    let header = HeaderTransmit { next_header: 17, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: 5 };
    ([link, &ip].concat(), header)
}
