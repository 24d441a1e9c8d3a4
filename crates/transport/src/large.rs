//! Large packets: handed down as one large send where SA, configuration and limits allow it, otherwise cut here, by the same cutter as a NIC's, and each
//! segment goes its way as any packet (OV2-SEND-4, OV2-CAP-13).
//!
//! A large packet counts as its segments: in counters, lifetimes, and sequence numbers, of which it takes as many in a row as there are segments. One that the
//! NIC gives back is cut here; its numbers are spent, and its segments take new ones (OV2-SEND-7).

use ipsec::Provider;
use ndis::{AdapterState, Datapath, HeaderTransmit, LaneContext, LargeSend, NblBatch, NetBufferList, OffloadHandle, Operation};
use packet::{CutError, Cutter, Frame, FrameBatch, FrameForm, IpVersion, ParsedIp, Segments, TCP_HEADER_LEN, Template, unpack_trains};
use sa_table::Handle;

use crate::association::Association;
use crate::framing::{Framed, Numbers};
use crate::lane::{CHUNK, TransportLane, as_announced, ip_at};
use crate::large_frame::{front_len, put_in_front, take_off};
use crate::large_mark::LargeMark;
use crate::mark::{Mark, Work};
use crate::order::leading;
use crate::packet_reason::PacketReason;
use crate::parameters::Mode;
use crate::plan::{Stage, flow};
use crate::sa::Sa;
use crate::spd::Action;
use crate::verdict::DropReason;

/// A lane's own batches; empty between calls.
#[derive(Default)]
pub(crate) struct Memory {
    /// Single packets, segments among them.
    packets: FrameBatch,
    /// Large lists that are to be handed down.
    lists: NblBatch,
    /// Large lists that the NIC has given back.
    pub(crate) returned: NblBatch,
}

/// What is known of a large packet.
struct Large {
    l3: usize,
    parsed: ParsedIp,
    request: Segments,
    mss: u32,
    /// Where its TCP or UDP header begins, and the payload.
    upper: usize,
    head: usize,
    segments: usize,
    payload: usize,
}

impl Large {
    fn read(medium: packet::Medium, frame: &Frame) -> Option<Self> {
        let (request, mss) = frame.form.to_cut()?;
        let bytes = frame.buffer.as_slice();
        let (l3, announced) = ip_at(medium, bytes)?;
        let parsed = ParsedIp::parse_whole(bytes.get(l3..)?);
        let parsed = *as_announced(&parsed, announced)?;
        let upper = l3 + parsed.header_len();
        let cutter = Cutter::new(&Template { upper, ..Template::new(bytes, l3, request, mss) }).ok()?;
        Some(Self { l3, parsed, request, mss, upper, head: cutter.head_len(), segments: cutter.count(), payload: cutter.payload_len() })
    }

    /// Bytes of the segments' IP packets together.
    const fn bytes(&self) -> usize {
        self.segments * (self.head - self.l3) + self.payload
    }

    /// The request of a NIC that offers one for this packet, with so many bytes of headers in front of what is protected.
    ///
    /// # Errors
    /// Why there is none.
    fn ask<P: Provider>(&self, stage: &Stage<'_, P>, frame: &Frame, front: usize, tunnel: bool) -> Result<LargeSend, PacketReason> {
        let header_offset = u16::try_from(self.upper + front).ok().filter(|&offset| offset <= LargeSend::MAX_HEADER_OFFSET).ok_or(PacketReason::Size)?;
        let (mss, version) = (self.mss.min(self.payload as u32), self.parsed.version());
        if mss > LargeSend::MAX_MSS {
            return Err(PacketReason::LargeSendLimits);
        }
        let bytes = frame.buffer.as_slice();
        let v2 = match self.request {
            Segments::Tcp => LargeSend::V2 { mss, header_offset, version },
            Segments::Udp => LargeSend::Udp { mss, header_offset, version },
        };
        // Version 1 has the true length in the header, and counts identifications on in 16 bits: where software would not, software does it.
        let identification = bytes.get(self.l3 + 4..self.l3 + 6).map_or(0, |field| usize::from(u16::from_be_bytes([field[0], field[1]])));
        let fits_v1 = self.request == Segments::Tcp
            && version == IpVersion::V4
            && !tunnel
            && u16::try_from(bytes.len() - self.l3 + front).is_ok()
            && identification + self.segments <= 0x8000;
        let v1 = fits_v1.then_some(LargeSend::V1 { mss, header_offset });
        let limits = stage.shared.capabilities.large_send_limits();
        let takes = |request: &LargeSend| {
            limits.of(*request).is_some_and(|limit| {
                let tcp_options = self.request == Segments::Tcp && self.head - self.upper != TCP_HEADER_LEN;
                limit.admits(self.payload, self.segments)
                    && limit.works_under(stage.shared.medium, self.l3)
                    && (limit.ip_options() || !self.parsed.has_options_or_extensions())
                    && (limit.tcp_options() || !tcp_options)
            })
        };
        [Some(v2), v1].into_iter().flatten().find(takes).ok_or(PacketReason::LargeSendLimits)
    }
}

impl<P: Provider> TransportLane<P> {
    /// Takes packets of which some are large.
    #[cold]
    #[inline(never)]
    pub(crate) fn outbound_large(&mut self, cx: &mut LaneContext<'_>, frames: &mut FrameBatch, path: &mut Datapath, wire: &mut FrameBatch) {
        self.follow();
        unpack_trains(frames, cx.pool);
        let running = path.state() == AdapterState::Running;
        for frame in frames.drain(..) {
            if frame.form.is_packet() {
                self.send_lists(cx, path, wire);
                self.large.packets.push(frame);
                continue;
            }
            let Some(large) = Large::read(self.shared.medium, &frame) else {
                self.send_packets(cx, path, wire);
                self.send_lists(cx, path, wire);
                self.refuse(cx, frame);
                continue;
            };
            match self.hand_down(cx, frame, &large, running) {
                Ok(nbl) => {
                    self.send_packets(cx, path, wire);
                    self.large.lists.push(nbl);
                }
                Err((frame, reason)) => {
                    self.send_lists(cx, path, wire);
                    self.counters.outbound.cut[reason as usize].add(1);
                    self.cut(cx, frame, path, wire);
                }
            }
        }
        self.send_packets(cx, path, wire);
        self.send_lists(cx, path, wire);
        self.report();
    }

    fn send_packets(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, wire: &mut FrameBatch) {
        if !self.large.packets.is_empty() {
            let mut packets = core::mem::take(&mut self.large.packets);
            self.outbound_packets(cx, &mut packets, path, wire);
            self.large.packets = packets;
        }
    }

    fn send_lists(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, wire: &mut FrameBatch) {
        if !self.large.lists.is_empty() {
            let (mut lists, mut done) = (core::mem::take(&mut self.large.lists), core::mem::take(&mut self.done));
            path.send(cx, &mut lists, &mut done, wire);
            self.complete(cx, path, &mut done, wire);
            (self.large.lists, self.done) = (lists, done);
        }
    }

    /// A large packet that nobody can cut ends here, as one packet.
    fn refuse(&mut self, cx: &mut LaneContext<'_>, frame: Frame) {
        let length = frame.buffer.len();
        self.counters.outbound.seen.add(length);
        let mut nbl = NetBufferList::from_frame(frame, 0);
        Mark { work: Work::Dropped(DropReason::Malformed), ..Mark::clear(length) }.write(&mut nbl);
        self.end(cx, nbl, DropReason::Malformed);
    }

    /// Cuts a large packet, and sends the segments as any packets.
    fn cut(&mut self, cx: &mut LaneContext<'_>, frame: Frame, path: &mut Datapath, wire: &mut FrameBatch) {
        let mut number = 0;
        loop {
            match cut_some(cx, &frame, self.shared.medium, number, &mut self.large.packets) {
                Ok(0) => break,
                Ok(count) => number += count,
                Err(_) => return self.refuse(cx, frame),
            }
            self.send_packets(cx, path, wire);
        }
        cx.pool.give(frame.buffer);
    }

    /// Makes a list of a large packet for the NIC, if policy, SA and NIC have it so; otherwise the packet comes back as it was, with the reason, and numbers that
    /// were taken for it are spent.
    fn hand_down(&mut self, cx: &mut LaneContext<'_>, mut frame: Frame, large: &Large, running: bool) -> Result<NetBufferList, (Frame, PacketReason)> {
        match self.frame_large(cx, &mut frame, large, running) {
            Ok(mut nbl) => {
                let Frame { buffer, timestamp, tag, .. } = frame;
                (nbl.buffer, nbl.timestamp, nbl.tag) = (buffer, timestamp, tag);
                Ok(nbl)
            }
            Err(reason) => Err((frame, reason)),
        }
    }

    /// Makes the frame ready; returns the list that it belongs into.
    fn frame_large(&mut self, cx: &mut LaneContext<'_>, frame: &mut Frame, large: &Large, running: bool) -> Result<NetBufferList, PacketReason> {
        let Self { shared, sad, snapshot, counters, news, masked, outlet, .. } = self;
        let mut stage = Stage { shared, counters: &counters.outbound, news, masked, pool: cx.pool, now: cx.now, outlet: outlet.as_mut() };
        let guard = sad.enter();
        let (segments, bytes) = (large.segments as u64, large.bytes() as u64);
        let (Ok(count), Ok(total)) = (u16::try_from(segments), u32::try_from(bytes)) else { return Err(PacketReason::LargeSendLimits) };
        let mark = LargeMark { sa: None, tunnel: false, front: 0, segments: count, bytes: total };
        if !running {
            return Err(PacketReason::GivenBack);
        }
        let handle = match snapshot.spd.outbound_packet(|| flow(&large.parsed)) {
            Action::Bypass => None,
            Action::Protect(Some(handle)) => Some(handle),
            // Its segments end for what this is.
            Action::Discard | Action::Protect(None) => return Err(PacketReason::SaNotOffloaded),
        };
        let Some(handle) = handle else {
            let request = large.ask(&stage, frame, 0, false)?;
            set_length(frame, large.l3, matches!(request, LargeSend::V1 { .. }));
            let mut nbl = list(large.l3, request);
            mark.write(&mut nbl);
            return Ok(nbl);
        };
        let sa = guard.get(handle).filter(|sa| sa.outbound).ok_or(PacketReason::SaNotOffloaded)?;
        let tunnel = sa.mode == Mode::Tunnel;
        let front = front_len(large.parsed.version(), sa.outer.as_ref(), &sa.layout);
        stage.takes_large(sa, large, front, frame)?;
        let request = large.ask(&stage, frame, front, tunnel)?;
        let (numbers, offload, order) = stage.number_large(handle, sa, segments, bytes)?;
        let (point, true_length) = (large.parsed.insertion_point(), matches!(request, LargeSend::V1 { .. }));
        let framed = put_in_front(&mut frame.buffer, large.l3, point, sa.outer.as_ref(), &sa.layout, numbers, true_length);
        // It was looked at before: there is room, and the offsets can be told.
        let Some((framed, header)) = framed.and_then(|framed| Some((framed, header_transmit(framed)?))) else {
            sa.lifetime.release_run(segments, bytes);
            return Err(PacketReason::Size);
        };
        debug_assert_eq!(framed.pad_length, 0);
        let mut nbl = list(large.l3, request);
        nbl.order = order;
        nbl.oob.set_offload_handle(Some(offload));
        nbl.oob.set_header_transmit(header);
        LargeMark { sa: Some(handle), tunnel, front, ..mark }.write(&mut nbl);
        Ok(nbl)
    }

    /// Counts a large list that was sent.
    pub(crate) fn count_large(&self, nbl: &NetBufferList) {
        let LargeMark { sa, segments, bytes, .. } = LargeMark::read(nbl);
        let (segments, bytes) = (u64::from(segments), u64::from(bytes));
        let counters = &self.counters.outbound;
        // Counted as seen only now: what comes back is cut, and its segments are.
        counters.seen.add_all(segments, bytes);
        match sa {
            None => counters.clear.add_all(segments, bytes),
            Some(handle) => {
                counters.offloaded.add_all(segments, bytes);
                let _ = self.shared.sad.with(handle, |sa| sa.lifetime.account(segments, bytes));
            }
        }
    }

    /// Cuts the large lists that the NIC has given back. Their numbers are spent; the segments take new ones.
    #[cold]
    pub(crate) fn cut_returned(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, wire: &mut FrameBatch) {
        for mut nbl in core::mem::take(&mut self.large.returned) {
            let mark = LargeMark::read(&nbl);
            if let Some(handle) = mark.sa {
                let (segments, bytes) = (u64::from(mark.segments), u64::from(mark.bytes));
                let _ = self.shared.sad.with(handle, |sa| sa.lifetime.release_run(segments, bytes));
            }
            self.counters.outbound.retried.add(mark.segments.into());
            self.counters.outbound.cut[PacketReason::GivenBack as usize].add(1);
            let form = match nbl.oob.large_send() {
                Ok(Some(request)) => FrameForm::large(request.segments(), request.mss()),
                _ => FrameForm::PACKET,
            };
            let next_header = next_header(&nbl, mark);
            let whole =
                mark.sa.is_none() || next_header.is_some_and(|next| take_off(&mut nbl.buffer, nbl.l3_offset.into(), mark.front, mark.tunnel, next).is_some());
            let frame = Frame { form, order: 0, ..nbl.take_frame() };
            if whole && !form.is_packet() {
                self.cut(cx, frame, path, wire);
            } else {
                self.refuse(cx, frame);
            }
        }
    }
}

impl<P: Provider> Stage<'_, P> {
    /// Whether the NIC may be given a large packet of this SA.
    ///
    /// # Errors
    /// Why not.
    fn takes_large(&self, sa: &Sa<P>, large: &Large, front: usize, frame: &Frame) -> Result<(), PacketReason> {
        let capabilities = &self.shared.capabilities;
        if sa.offload_handle().is_none() {
            return Err(PacketReason::SaNotOffloaded);
        }
        if sa.inside.is_some() {
            return Err(PacketReason::Combination);
        }
        if !capabilities.large_sends(sa.outer.is_some()) || sa.sends_dummies() || sa.layout.pad_to != 0 {
            return Err(PacketReason::LargeSendLimits);
        }
        capabilities.link(large.l3)?;
        if sa.outer.is_none() {
            if large.parsed.has_options_or_extensions() {
                capabilities.extras(large.parsed.version())?;
            }
            // Destination options that ESP protects would stand between it and TCP.
            if large.parsed.insertion_point().offset != large.parsed.header_len() {
                return Err(PacketReason::ExtensionHeaders);
            }
        }
        let tail = sa.layout.esp.map_or(0, |esp| esp.alignment + ipsec::TRAILER_LENGTH + esp.icv);
        let longest = large.head - large.l3 + front + (large.mss as usize).min(large.payload) + tail;
        let told = large.upper - large.l3 + front <= 4 * usize::from(u8::MAX);
        if u16::try_from(longest).is_ok() && told && frame.buffer.headroom() >= front { Ok(()) } else { Err(PacketReason::Size) }
    }

    /// Lifetime, numbers and turn of as many packets as there are segments, in a row; and the NIC's handle.
    ///
    /// # Errors
    /// There are not so many left, or the NIC would not take them for what they are. Numbers that were taken are spent then.
    fn number_large(&mut self, handle: Handle, sa: &Sa<P>, segments: u64, bytes: u64) -> Result<(Numbers, OffloadHandle, u16), PacketReason> {
        // On both sides of a wrap of the low half of extended numbers the NIC has to be told in between.
        let whole = |extended: bool, first: u64| !extended || (first ^ (first + (segments - 1))) >> 32 == 0;
        let fits = |association: &Association| {
            let first = association.counter().map_or(u64::MAX, |counter| counter.last().saturating_add(1));
            first.checked_add(segments).is_some_and(|after| after <= association.limit()) && whole(association.extended, first)
        };
        if !sa.associations().all(fits) {
            return Err(PacketReason::SequenceInDoubt);
        }
        // Where it is known beforehand that the NIC would not take them, none is spent.
        let next = |operation| sa.association(operation).and_then(Association::counter).map_or(0, |counter| counter.last().saturating_add(1));
        self.offered(handle, sa, Numbers { esp: next(Operation::Esp), ah: next(Operation::Ah) })?;
        if !sa.lifetime.admit_run(segments, bytes, self.now) {
            return Err(PacketReason::LargeSendLimits);
        }
        let mut numbers = Numbers::default();
        let mut all = true;
        let numbering = self.numbering(sa);
        for association in sa.associations() {
            match association.counter().map(|counter| counter.take(segments as u32)) {
                Some(Ok(first)) => {
                    all &= whole(association.extended, first);
                    match association.operation {
                        Operation::Esp => numbers.esp = first,
                        Operation::Ah => numbers.ah = first,
                    }
                }
                _ => all = false,
            }
        }
        drop(numbering);
        let last = |first: u64| if first == 0 { 0 } else { first + (segments - 1) };
        let last = Numbers { esp: last(numbers.esp), ah: last(numbers.ah) };
        let first = leading(sa, numbers);
        // Whatever was taken of what the bundle is kept in order by has to have its turn.
        let order = if first == 0 { 0 } else { self.turn(sa, first, segments as u32) };
        if all {
            self.watch(handle, sa, last);
        }
        let offered = self.offered(handle, sa, numbers).and_then(|offload| if all { Ok(offload) } else { Err(PacketReason::SequenceInDoubt) });
        match offered {
            Ok(_) => sa.handed_over(last),
            Err(_) => sa.lifetime.release_run(segments, bytes),
        }
        offered.map(|offload| (numbers, offload, order))
    }
}

/// Writes up to a chunk of segments, from number `from` on; how many. 0: there are no more.
fn cut_some(cx: &mut LaneContext<'_>, frame: &Frame, medium: packet::Medium, from: usize, packets: &mut FrameBatch) -> Result<usize, CutError> {
    let Some(large) = Large::read(medium, frame) else { return Err(CutError::NoPayload) };
    let template = Template { upper: large.upper, ..Template::new(frame.buffer.as_slice(), large.l3, large.request, large.mss) };
    let cutter = Cutter::new(&template)?;
    let count = CHUNK.min(large.segments.saturating_sub(from));
    for number in from..from + count {
        let mut buffer = cx.pool.take(cutter.frame_len(number));
        cutter.write(number, buffer.as_mut_slice());
        packets.push(Frame { timestamp: frame.timestamp, tag: frame.tag, ..Frame::new(buffer) });
    }
    Ok(count)
}

/// A list that asks for a large send.
fn list(l3: usize, request: LargeSend) -> NetBufferList {
    let mut nbl = NetBufferList { l3_offset: l3 as u16, ..NetBufferList::default() };
    nbl.oob.set_large_send(request);
    nbl
}

/// Sets the length field of a clear large packet: its true length, or none.
fn set_length(frame: &mut Frame, l3: usize, true_length: bool) {
    let total = frame.buffer.len() - l3;
    if let Some(ip) = frame.buffer.as_mut_slice().get_mut(l3..).filter(|ip| ip.len() >= 6) {
        let field = if ip[0] >> 4 == 4 { 2 } else { 4 };
        let length = if true_length { total as u16 } else { 0 };
        ip[field..field + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// What the NIC is told of the headers; `None` if they are too far behind the IP header.
fn header_transmit(at: Framed) -> Option<HeaderTransmit> {
    let offset = |header: u32| if header == 0 { Some(0) } else { u8::try_from((header - at.ip) / 4).ok() };
    let next_header = if at.esp == 0 { 0 } else { at.next_header };
    Some(HeaderTransmit { next_header, pad_length: 0, ah_header_offset: offset(at.ah)?, esp_header_offset: offset(at.esp)? })
}

/// What followed the IPsec headers of a list that came back.
fn next_header(nbl: &NetBufferList, mark: LargeMark) -> Option<u8> {
    let header = nbl.oob.header_transmit();
    if mark.sa.is_none() || header.esp_header_offset != 0 {
        return Some(header.next_header);
    }
    nbl.buffer.as_slice().get(usize::from(nbl.l3_offset) + usize::from(header.ah_header_offset) * 4).copied()
}
