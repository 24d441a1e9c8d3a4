//! The first stage of the way in: whose packets these are, and what the NIC says of them.

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use std::sync::MutexGuard;

use ipsec::{Provider, ReplayWindow};
use ndis::{NetBufferList, Operation};
use packet::{AH_FIXED_LEN, AhPacket, FragmentState, IpAddress, IpProtocol, ParsedIp, Spi, UDP_HEADER_LEN, UdpEncapsulated};
use sa_table::Handle;

use crate::association::Association;
use crate::inbound::{Chunk, Finding, Item, Layer, NicSays, Step};
use crate::lane::{CHUNK, as_announced, ip_at};
use crate::packet_reason::PacketReason;
use crate::plan::flow;
use crate::sa::{Sa, key};
use crate::transport::LaneNews;
use crate::verdict::{AssociationSeen, DropReason, Verdict};

/// A header and the SA that it names. Offsets are in bytes from the start of what was searched.
pub(crate) struct Hit<'a, P: Provider> {
    pub(crate) handle: Handle,
    pub(crate) sa: &'a Sa<P>,
    pub(crate) operation: Operation,
    /// The number that the header carries.
    pub(crate) low: u32,
    /// Where it begins, with a UDP header in front.
    pub(crate) from: usize,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

/// What a look-up found.
pub(crate) enum Found<'a, P: Provider> {
    Sa(Hit<'a, P>),
    /// No SA is about this packet.
    Nothing,
    /// IKE, or a NAT keepalive, on a port of UDP-ESP.
    Ike,
    /// It is, or may be, one of an SA's, and cannot be opened; with what its header names.
    Not(DropReason, Option<Hit<'a, P>>),
}

impl<'a, P: Provider> Chunk<'a, '_, P> {
    pub(crate) fn look_at_all(&mut self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &[NetBufferList]) {
        let mut locked = Locked::default();
        for (item, nbl) in items.iter_mut().zip(lists) {
            if matches!(item.step, Step::Look) {
                item.step = self.look(item, nbl, &mut locked);
            }
        }
    }

    fn look(&mut self, item: &mut Item<'a, P>, nbl: &NetBufferList, locked: &mut Locked<'a>) -> Step<'a, P> {
        let frame = nbl.buffer.as_slice();
        let first = item.associations.is_empty();
        let mut announced = None;
        if first {
            let Some((l3, version)) = ip_at(self.shared.medium, frame) else {
                return Step::End(self.clear(item, self.snapshot.spd.non_ip));
            };
            (item.l3, item.length, announced) = (l3, frame.len().saturating_sub(l3), version);
        }
        let parsed = ParsedIp::parse(frame.get(item.l3..).unwrap_or_default());
        let Some(parsed) = as_announced(&parsed, announced) else {
            return Step::End(Verdict::Dropped(DropReason::Malformed));
        };
        if first {
            item.length = parsed.total_len();
            item.addresses = Some((parsed.src(), parsed.dst()));
        }
        let found = match item.pending.take() {
            Some((handle, sa)) => match esp_of(handle, sa, parsed, frame, item.l3) {
                Some(hit) => Found::Sa(hit),
                // Half of its protection is off, and the other half is not there: it is nobody's packet.
                None => return Step::End(Verdict::Dropped(DropReason::Malformed)),
            },
            None => self.find(parsed, frame, item.l3),
        };
        match found {
            Found::Sa(hit) => self.layer(item, frame, parsed, &hit, locked),
            Found::Not(reason, about) if first || about.is_some() => {
                if reason == DropReason::Fragment {
                    item.software.get_or_insert(PacketReason::Fragment);
                }
                let drop = Step::End(Verdict::Dropped(reason));
                let Some(Hit { handle, sa, operation, low, from, at, end }) = about else { return drop };
                let Some(association) = sa.association(operation).or_else(|| sa.associations().next()) else { return drop };
                let sequence = u64::from(low);
                // A full list already tells of more headers than there can be.
                if item.associations.try_push(AssociationSeen { operation: association.operation, spi: association.spi, sequence }).is_err() {
                    return drop;
                }
                // Its number is inferred in its turn.
                let layer = Layer { handle, sa, association, low, sequence, from, at, end, pointer: parsed.protocol_offset(), tries: 0 };
                Step::Decide(layer, Finding::NotAsked(reason))
            }
            // Out of a tunnel that is there for others, and not of one of those, or a part of a packet.
            Found::Not(reason, _) if item.only_inside => Step::End(Verdict::Dropped(reason)),
            Found::Nothing | Found::Ike if item.only_inside => Step::End(Verdict::Dropped(DropReason::Policy)),
            Found::Ike if first => Step::End(self.clear(item, self.snapshot.spd.ike)),
            Found::Nothing if first => Step::End(self.clear(item, self.snapshot.spd.inbound_clear(&flow(parsed)))),
            // The NIC has opened it under an SA that is none of these: what lies here is no longer what came.
            Found::Nothing | Found::Ike | Found::Not(..) if item.nic_opened_inner() => Step::End(Verdict::Dropped(DropReason::Policy)),
            // Out of a tunnel, and about no SA that can be named: whole as far as the tunnel is concerned.
            Found::Nothing | Found::Ike | Found::Not(..) => Step::End(Verdict::Delivered),
        }
    }

    /// The SA of the outermost IPsec header of the packet at `l3` of `frame`.
    #[inline]
    pub(crate) fn find(&self, parsed: &ParsedIp, frame: &[u8], l3: usize) -> Found<'a, P> {
        match parsed.protocol() {
            IpProtocol::ESP => self.find_in(parsed, frame, l3, Operation::Esp),
            IpProtocol::AH => self.find_in(parsed, frame, l3, Operation::Ah),
            IpProtocol::UDP => match parsed.ports() {
                Some((_, port)) if self.snapshot.is_udp_esp(port) => self.find_in_udp(parsed, frame, l3, port),
                _ => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    // These are inlined whole: a result of many fields that is handed back and copied stalls on its own stores.
    #[inline(always)]
    fn find_in(&self, parsed: &ParsedIp, frame: &[u8], l3: usize, operation: Operation) -> Found<'a, P> {
        let fragment = parsed.fragment();
        if fragment == FragmentState::Later {
            // It shows no SPI. If it can be one of ours, it must not go on as if it were not.
            let ours = self.snapshot.is_peer(parsed.src(), parsed.dst());
            return if ours { Found::Not(DropReason::Fragment, None) } else { Found::Nothing };
        }
        let payload = parsed.payload(&frame[l3..]);
        // AH begins with next header, length and reserved bytes.
        let names = if operation == Operation::Ah { payload.get(4..).unwrap_or_default() } else { payload };
        let Some(&[s0, s1, s2, s3, n0, n1, n2, n3]) = names.first_chunk() else {
            return Found::Not(DropReason::Malformed, None);
        };
        let at = l3 + parsed.header_len();
        let (spi, low) = (Spi::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([n0, n1, n2, n3]));
        let (hit, right) = match self.search(parsed.src(), parsed.dst(), spi, operation, None) {
            Search::Right(handle, sa) => (Hit { handle, sa, operation, low, from: at, at, end: l3 + parsed.total_len() }, true),
            Search::Wrong(handle, sa) => (Hit { handle, sa, operation, low, from: at, at, end: l3 + parsed.total_len() }, false),
            Search::None => return Found::Nothing,
        };
        match (right, fragment.is_part()) {
            (false, _) => Found::Not(DropReason::InvalidProtocol, Some(hit)),
            (true, true) => Found::Not(DropReason::Fragment, Some(hit)),
            (true, false) => Found::Sa(hit),
        }
    }

    /// The same in UDP on a port where ESP may be (RFC 3948, OV2-RECV-7). The checksum of that UDP header is not looked at.
    fn find_in_udp(&self, parsed: &ParsedIp, frame: &[u8], l3: usize, port: u16) -> Found<'a, P> {
        let payload = parsed.payload(&frame[l3..]);
        // The length in a UDP header is not authenticated: it must not say where ESP ends, nor hide it. (That of a first fragment is the whole datagram's.)
        let part = parsed.fragment().is_part();
        let Some((header, inner)) = payload.split_first_chunk::<UDP_HEADER_LEN>() else { return Found::Nothing };
        let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) == payload.len();
        let esp = match UdpEncapsulated::parse(inner) {
            Ok(UdpEncapsulated::Esp(esp)) => esp,
            Ok(UdpEncapsulated::Ike(_) | UdpEncapsulated::Keepalive) => return Found::Ike,
            Err(_) => return Found::Nothing,
        };
        let from = l3 + parsed.header_len();
        let (low, end) = (esp.sequence(), l3 + parsed.total_len());
        let hit = |handle, sa| Hit { handle, sa, operation: Operation::Esp, low, from, at: from + UDP_HEADER_LEN, end };
        match self.search(parsed.src(), parsed.dst(), esp.spi(), Operation::Esp, Some(port)) {
            Search::Right(handle, sa) if part => Found::Not(DropReason::Fragment, Some(hit(handle, sa))),
            Search::Right(handle, sa) if !whole => Found::Not(DropReason::Malformed, Some(hit(handle, sa))),
            Search::Right(handle, sa) => Found::Sa(hit(handle, sa)),
            Search::Wrong(handle, sa) => Found::Not(DropReason::InvalidProtocol, Some(hit(handle, sa))),
            Search::None => Found::Nothing,
        }
    }

    /// Among the SAs of a packet's destination and source the one whose packets begin with such a header; otherwise one that has the SPI, and whose packets
    /// have other headers (OV2-RECV-3), or come to another port. `port`: destination port of the UDP header in front, if there is one.
    #[inline(always)]
    pub(crate) fn search(&self, source: IpAddress, destination: IpAddress, spi: Spi, operation: Operation, port: Option<u16>) -> Search<'a, P> {
        let mut wrong = Search::None;
        for (handle, sa) in self.guard.find(&key(spi, destination)) {
            if !sa.accepts_source(source) {
                continue;
            }
            let first = sa.first() == operation && sa.association(operation).is_some_and(|association| association.spi == spi);
            if first && sa.udp_port() == port {
                return Search::Right(handle, sa);
            }
            if matches!(wrong, Search::None) {
                wrong = Search::Wrong(handle, sa);
            }
        }
        wrong
    }

    /// What is to be done with a header whose SA is known.
    #[inline(always)]
    fn layer(&mut self, item: &mut Item<'a, P>, frame: &[u8], parsed: &ParsedIp, hit: &Hit<'a, P>, locked: &mut Locked<'a>) -> Step<'a, P> {
        let &Hit { handle, sa, operation, low, from, at, end } = hit;
        let wrong = Step::End(Verdict::Dropped(DropReason::InvalidProtocol));
        let Some(association) = sa.association(operation) else { return wrong };
        if item.associations.is_empty() && item.nic.sa_delete_request && !sa.delete_requested.swap(true, Ordering::Relaxed) {
            self.news.push(LaneNews::DeleteRequested(handle));
        }
        let Some(window) = locked.window(association) else { return wrong };
        let sequence = association.infer(window, low);
        let seen = AssociationSeen { operation, spi: association.spi, sequence };
        if item.associations.try_push(seen).is_err() {
            return Step::End(Verdict::Dropped(DropReason::Unsupported));
        }
        let foreign = match sa.inside {
            Some(tunnel) => item.tunnel != Some(tunnel.handle),
            None => item.only_inside,
        };
        let layer = Layer { handle, sa, association, low, sequence, from, at, end, pointer: parsed.protocol_offset(), tries: 0 };
        if foreign {
            return Step::Decide(layer, Finding::NotAsked(DropReason::Policy));
        }
        let header = frame.get(at..end).unwrap_or_default();
        if let Err(reason) = check_shape(sa, operation, header) {
            return Step::Decide(layer, Finding::NotAsked(reason));
        }
        match item.nic_says(sa, operation) {
            NicSays::Good => Step::Decide(layer, Finding::NicOpened),
            // What it refused it refused under an SA of its own. Unless that can be this one, the transport looks for itself.
            NicSays::Bad(reason) if sa.offload_handle().is_some() => Step::Decide(layer, Finding::NicRefused(reason)),
            NicSays::Bad(_) | NicSays::Nothing => {
                let reason = self.undone(item, parsed, sa);
                item.software.get_or_insert(reason);
                if sa.must_be_offloaded() {
                    return Step::Decide(layer, Finding::NotAsked(DropReason::NotOffloaded));
                }
                // Also where the number is against it: what cannot be proved is forged and not repeated, whoever finds out (OV2-TRANS-3).
                Step::Open(layer)
            }
        }
    }

    /// Why the NIC has not opened a header of `sa` in the packet `parsed`, which is the item's present portion.
    #[cold]
    fn undone(&self, item: &Item<'a, P>, parsed: &ParsedIp, sa: &Sa<P>) -> PacketReason {
        let capabilities = &self.shared.capabilities;
        if sa.offload_handle().is_none() {
            PacketReason::SaNotOffloaded
        } else if item.nic.crypto_done && item.portion <= u8::from(item.nic.next_crypto_done) {
            PacketReason::NotUnderstood
        } else if item.nic.crypto_done {
            PacketReason::Combination
        } else if let Err(reason) = capabilities.link(item.l3) {
            reason
        } else if parsed.header_len() != parsed.version().header_len()
            && let Err(reason) = capabilities.extras(parsed.version())
        {
            reason
        } else {
            PacketReason::Untouched
        }
    }
}

pub(crate) enum Search<'a, P: Provider> {
    Right(Handle, &'a Sa<P>),
    Wrong(Handle, &'a Sa<P>),
    None,
}

/// The ESP of a bundle whose AH was taken off, if it is there.
fn esp_of<'a, P: Provider>(handle: Handle, sa: &'a Sa<P>, parsed: &ParsedIp, frame: &[u8], l3: usize) -> Option<Hit<'a, P>> {
    let (at, end) = (l3 + parsed.header_len(), l3 + parsed.total_len());
    let low = frame.get(at..end)?.get(4..)?.first_chunk().map(|&low| u32::from_be_bytes(low))?;
    (parsed.protocol() == IpProtocol::ESP).then_some(Hit { handle, sa, operation: Operation::Esp, low, from: at, at, end })
}

/// Whether what begins with a header can be one of the SA's at all: it is not looked at further if it is too short, if the AH has another algorithm's length
/// or if an AH does not have its ESP behind it.
#[inline]
fn check_shape<P: Provider>(sa: &Sa<P>, operation: Operation, header: &[u8]) -> Result<(), DropReason> {
    match (operation, &sa.esp, &sa.ah) {
        (Operation::Esp, Some(half), _) => half.transform.text(header.len()).map(|_| ()).map_err(|_| DropReason::Malformed),
        (Operation::Ah, esp, Some(half)) => {
            let ah = AhPacket::new(header).map_err(|_| DropReason::Malformed)?;
            if !half.transform.accepts_header_length(ah.header_len()) {
                return Err(DropReason::Malformed);
            }
            debug_assert!(ah.header_len() >= AH_FIXED_LEN);
            let Some(half) = esp else { return Ok(()) };
            let behind = ah.payload().first_chunk().map(|&spi| Spi::from_be_bytes(spi));
            let there = ah.next_header() == IpProtocol::ESP && behind == Some(half.association.spi);
            if there { Ok(()) } else { Err(DropReason::InvalidProtocol) }
        }
        _ => Err(DropReason::InvalidProtocol),
    }
}

/// The replay window that is locked: once for a run of packets of one association.
#[derive(Default)]
pub(crate) struct Locked<'a>(Option<(&'a Association, MutexGuard<'a, ReplayWindow>)>);

impl<'a> Locked<'a> {
    #[inline]
    pub(crate) fn window(&mut self, association: &'a Association) -> Option<&mut ReplayWindow> {
        if self.0.as_ref().is_none_or(|(locked, _)| !core::ptr::eq(*locked, association)) {
            // The old lock goes first: two held at once could be a deadlock.
            self.0 = None;
            self.0 = association.replay().map(|window| (association, window));
        }
        self.0.as_mut().map(|(_, window)| &mut **window)
    }
}
