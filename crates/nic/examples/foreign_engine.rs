//! How a NIC maker begins: an engine for a card that completes everything later. Requests pend until the card reports, lists wait in a ring until it is
//! polled. This card protects what is sent: ESP with AES-128-GCM over plain IPv4. It takes no inbound SAs, so received packets go up untouched. That much
//! is an IPsecOV2 adapter, and `main` runs it through a stack; what the card does not do, a transport does in software.
#[path = "support/mod.rs"]
mod support;

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};

use ipsec::{Authentication, Crypto, Encryption, EspParameters, EspSa, Provider, read_trailer};
use ndis::{
    DirectOid, Direction, Encapsulation, EncryptionAlgorithms, HeaderTransmit, IpsecOffloadV2, LaneContext, NblBatch, NetBufferList, Offload, OffloadHandle,
    SaBundle, Status, UpdateSa,
};
use nic::{Engine, EngineConfig, EngineEvent, EngineQueue, NicDriver, NicParameters, Progress, Token};
use packet::{BufferPool, FrameBatch, IpProtocol, Ipv4Packet, Medium, Spi, Time};
use secret::SecretBytes;

/// One SA in the card's memory: the SPI, and what seals.
type Sa = (Spi, Box<EspSa<Crypto>>);

/// What driver and hardware share. A real card has its registers here.
#[derive(Default)]
pub(crate) struct Registers {
    sas: HashMap<OffloadHandle, Sa>,
    handles: u64, // given out so far; none is given out twice
    events: Vec<EngineEvent>,
    posted: usize, // lists in rings
    reset: Option<Token>,
}

#[derive(Clone, Default)]
pub(crate) struct Card(Arc<Mutex<Registers>>);

impl Card {
    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.0.lock().expect("no thread panics with the card in its hands")
    }

    /// The card reports that by and by.
    fn report<T>(&self, event: EngineEvent) -> Progress<T> {
        self.registers().events.push(event);
        Progress::Pending
    }
}

impl Engine for Card {
    fn hardware_capabilities(&self) -> Offload {
        let (encapsulation, encryption_algorithms) = (Encapsulation::NULL, EncryptionAlgorithms::AES_GCM_128);
        let rest = IpsecOffloadV2::default();
        let ipsec_v2 = IpsecOffloadV2 { encapsulation, esp: true, transport: true, tunnel: true, encryption_algorithms, sa_offload_capacity: 16, ..rest };
        Offload { ipsec_v2, ..Offload::default() }
    }

    /// The card does one thing, and the miniport asks nothing of it while that is not configured.
    fn configure(&self, _config: &EngineConfig) {}

    fn add_sa(&self, token: Token, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        let (Direction::Outbound, Some(esp)) = (bundle.direction, bundle.associations.esp()) else { return Progress::Done(Err(Status::NOT_SUPPORTED)) };
        let parameters = EspParameters {
            encryption: Encryption::AesGcm(ipsec::AesKeySize::Aes128),
            encryption_key: &esp.encryption.key,
            icv_length: if esp.encryption.additional_info == 0 { 16 } else { esp.encryption.additional_info as usize },
            authentication: Authentication::None,
            authentication_key: &SecretBytes::default(),
            allow_unauthenticated: false,
            extended_sequence_numbers: false,
            iv_mask: bundle.extension.iv_mask,
        };
        let Ok(sealer) = EspSa::new(&Crypto::default(), &parameters) else { return Progress::Done(Err(Status::INVALID_DATA)) };
        let mut card = self.registers();
        card.handles += 1;
        let handle = OffloadHandle::from_bits(card.handles).ok_or(Status::RESOURCES);
        if let Ok(handle) = handle {
            card.sas.insert(handle, (esp.spi, Box::new(sealer)));
        }
        drop(card);
        self.report(EngineEvent::Added { token, result: handle })
    }

    fn update_sa(&self, token: Token, _update: &UpdateSa) -> Progress<Status> {
        self.report(EngineEvent::Updated { token, status: Status::INVALID_PARAMETER }) // there are no extended sequence numbers here
    }

    /// The card works on packets with its registers locked, so what is out of them is out of use.
    fn delete_sa(&self, token: Token, handle: OffloadHandle) -> Progress<()> {
        self.registers().sas.remove(&handle);
        self.report(EngineEvent::Deleted { token })
    }

    fn reset(&self, token: Token) -> Progress<()> {
        let mut card = self.registers();
        card.sas.clear();
        card.reset = Some(token);
        Progress::Pending
    }

    fn poll(&self, events: &mut Vec<EngineEvent>) {
        let mut card = self.registers();
        events.append(&mut card.events);
        if card.posted == 0 {
            events.extend(card.reset.take().map(|token| EngineEvent::ResetDone { token }));
        }
    }

    fn queue(&self) -> Box<dyn EngineQueue> {
        Box::new(Ring(self.clone(), VecDeque::new()))
    }
}

/// A queue pair, with the lists that the card has not worked on yet.
struct Ring(Card, VecDeque<NetBufferList>);

/// Seals a packet in place; `None`, with nothing changed, if it is not one for this SA, or not what its out-of-band data says (OV2-OOB-3).
fn seal((spi, sa): &Sa, header: HeaderTransmit, bytes: &mut [u8]) -> Option<()> {
    let ip = Ipv4Packet::new(&*bytes).ok()?;
    let plain = ip.protocol() == IpProtocol::ESP && ip.header_len() == 20 && !ip.is_fragment() && ip.total_len() == bytes.len();
    let esp = bytes.get_mut(20..).filter(|_| plain)?;
    let (_, trailer) = read_trailer(esp.get(sa.text(esp.len()).ok()?)?).ok()?;
    let expected = HeaderTransmit { next_header: trailer.next_header, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: 5 };
    if header != expected || *esp.first_chunk()? != spi.to_be_bytes() {
        return None;
    }
    let sequence = u32::from_be_bytes(*esp.get(4..)?.first_chunk()?);
    let mut job = [sa.seal_job(esp, sequence.into()).ok()?];
    Crypto::default().seal(&mut job);
    job[0].verdict.is_good().then_some(())
}

impl EngineQueue for Ring {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, _done: &mut NblBatch, _wire: &mut FrameBatch) {
        self.0.registers().posted += batch.len();
        self.1.extend(batch.drain(..));
    }

    fn poll(&mut self, _lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        let mut card = self.0.registers();
        for mut list in self.1.drain(..) {
            let offered = list.more.is_empty() && list.oob.tunnel_handle().is_none() && list.oob.large_send == 0;
            let sent = offered
                && match list.oob.offload_handle() {
                    None => true, // as it stands
                    Some(handle) => card.sas.get(&handle).and_then(|sa| seal(sa, list.oob.header_transmit(), list.buffer.as_mut_slice())).is_some(),
                };
            list.status = if sent { Status::SUCCESS } else { Status::FAILURE };
            wire.extend(sent.then(|| list.take_frame()));
            done.push(list);
            card.posted -= 1;
        }
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        up.extend(frames.drain(..).map(|frame| NetBufferList::from_frame(frame, 0)));
    }
}

/// Adds an SA, sends a packet under it, deletes the SA, and says what happens.
pub(crate) fn run(mut say: impl FnMut(String)) -> Result<(), Box<dyn Error>> {
    let parameters = NicParameters { medium: Medium::Ip, ..NicParameters::new("card") };
    let (stack, protocol) = support::stack(Arc::new(NicDriver::new(parameters, Card::default)))?;
    let (pended, status, answer) = support::request(&stack, &protocol, support::add_sa())?;
    say(format!("ADD_SA_EX: pended {pended}, completed {status}"));
    let handle = support::handle(&answer).ok_or("the SA was not added")?;

    let mut datapath = stack.open_datapath("card")?;
    let mut lane = LaneContext { now: Time::ZERO, pool: &mut BufferPool::new() };
    let (mut batch, mut done, mut wire) = (vec![support::packet(handle, 1)?], NblBatch::new(), FrameBatch::new());
    datapath.send(&mut lane, &mut batch, &mut done, &mut wire);
    let at_once = done.len();
    datapath.poll(&mut lane, &mut done, &mut wire);
    say(format!("send: {at_once} completed at once, {} by poll, {}, {} frame on the wire", done.len(), done[0].status, wire.len()));

    let (pended, status, _) = support::request(&stack, &protocol, DirectOid::DeleteSa(vec![handle.to_bits()]))?;
    say(format!("DELETE_SA: pended {pended}, completed {status}"));
    let (mut batch, mut done, mut wire) = (vec![support::packet(handle, 2)?], NblBatch::new(), FrameBatch::new());
    datapath.send(&mut lane, &mut batch, &mut done, &mut wire);
    datapath.poll(&mut lane, &mut done, &mut wire);
    say(format!("send under the deleted SA: {}, {} frames on the wire", done[0].status, wire.len()));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(|line| println!("{line}"))
}
