//! Pings and datagrams between this side and the guest, through a gateway, and everything that can be wrong with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ipsecov2::host::{Host, HostConfig};
use ndis::{CryptoStatus, Direction};
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Time, UDP_ESP_PORT};
use transport::{Action, DropReason, InboundBatch, InboundVerdict, OffloadReason, Policy, PortRange, Selector, Verdict, WayCounts};

use crate::case::Case;
use crate::guest::Guest;
use crate::wire::{self, CANARIES, Dress, ECHO_PORT, Heard, Question, Seen};

/// How long a script of the guest may take: it has patience of its own with each packet.
const SCRIPT: Duration = Duration::from_secs(90);
/// Between the parts of an answer.
const MARK: &str = "----";

/// What is between this side's packets and the wire.
pub(crate) trait Gateway {
    /// A packet of this side, in an Ethernet frame; what is to be put on the wire goes to `wire`.
    fn send(&mut self, now: Time, frame: &[u8], wire: &mut Vec<Vec<u8>>);
    /// A frame from the wire; what it carries for this side goes to `clear`.
    fn receive(&mut self, now: Time, frame: &[u8], clear: &mut Vec<Vec<u8>>);
    /// Nothing else is to do: what is due.
    fn service(&mut self, now: Time, wire: &mut Vec<Vec<u8>>);
    /// How many dummy packets it sent.
    fn dummies(&self) -> usize;
    /// What it has to find fault with.
    fn complaints(&self, case: &Case) -> Vec<String>;
}

/// What is tried here: a host with a software NIC under the contract.
pub(crate) struct Ipsec {
    host: Host,
    verdicts: Vec<InboundVerdict>,
    refused: Option<String>,
}

impl Ipsec {
    pub(crate) fn new(case: &Case, now: Time) -> Self {
        let host = Host::new(&HostConfig::default()).unwrap();
        let refused = host.add_sas(case.our_sas(), now).err().map(|(place, error)| format!("SA {} is refused: {error}", case.our_sas()[place].name));
        if case.ike {
            let port = PortRange { first: UDP_ESP_PORT, last: UDP_ESP_PORT };
            let messages = Selector { protocol: Some(IpProtocol::UDP), source_port: port, destination_port: port, ..Selector::ANY };
            let policy = Policy { direction: Direction::Outbound, selectors: vec![messages], action: Action::Bypass };
            host.transport().set_policies(|spd| spd.policies_mut().insert(0, policy));
        }
        let mut gateway = Self { host, verdicts: vec![], refused };
        gateway.service(now, &mut vec![]);
        gateway
    }
}

impl Ipsec {
    /// What came in: all of it, and what was dropped for this reason.
    pub(crate) fn received(&self, reason: DropReason) -> [usize; 2] {
        let counts = self.host.transport().inbound();
        [counts.seen, counts.dropped_for(reason)].map(|count| count.packets as usize)
    }
}

impl Gateway for Ipsec {
    fn send(&mut self, now: Time, frame: &[u8], wire: &mut Vec<Vec<u8>>) {
        let (mut frames, mut out) = (vec![Frame::new(self.host.pool().copy_from(frame))], FrameBatch::new());
        self.host.send(now, &mut frames, &mut out);
        take(&out, wire);
    }

    fn receive(&mut self, now: Time, frame: &[u8], clear: &mut Vec<Vec<u8>>) {
        let mut frames = vec![Frame::new(self.host.pool().copy_from(frame))];
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        self.host.receive(now, &mut frames, &mut out);
        self.verdicts.append(&mut out.verdicts);
        take(&out.delivered, clear);
        take(&out.passed, clear);
    }

    fn service(&mut self, now: Time, wire: &mut Vec<Vec<u8>>) {
        let mut out = FrameBatch::new();
        self.host.service(now, &mut out);
        take(&out, wire);
    }

    fn dummies(&self) -> usize {
        self.host.transport().outbound().dummies.packets as usize
    }

    /// Everything must have been done by the NIC, under every association, and nothing have been dropped or passed in clear.
    fn complaints(&self, case: &Case) -> Vec<String> {
        let mut complaints: Vec<_> = self.refused.iter().cloned().collect();
        let transport = self.host.transport();
        for (way, counts) in [("outbound", transport.outbound()), ("inbound", transport.inbound())] {
            // Where the low half of an extended number wraps, a packet may come before the NIC has heard of it.
            let wraps = case.esn && case.last as u32 > u32::MAX - 20;
            let allowed = match way {
                "outbound" if wraps => 2,
                _ => 0,
            };
            let in_clear = u64::from(case.ike);
            let wanted = counts.offloaded.packets + counts.software.packets + in_clear;
            if counts.seen.packets == 0 || counts.seen.packets != wanted || counts.clear.packets != in_clear || counts.software.packets > allowed {
                complaints.push(format!("{way}: not everything was done by the NIC: {}", told(&counts)));
            }
        }
        for sa in transport.sas() {
            if sa.offload != OffloadReason::Offloaded || sa.packets == 0 {
                complaints.push(format!("SA {}: {:?}, {} packets", sa.name, sa.offload, sa.packets));
            }
        }
        if (case.traffic_flow.dummy_every > 0) != (transport.outbound().dummies.packets > 0) {
            complaints.push(format!("{} dummies were sent", transport.outbound().dummies.packets));
        }
        let nested = case.tunnel.is_some() && case.transport.is_some();
        let passed = self.verdicts.iter().filter(|verdict| verdict.verdict == Verdict::Passed).count();
        if passed != usize::from(case.ike) {
            complaints.push(format!("{passed} packets were passed up in clear"));
        }
        let by_nic =
            |verdict: &InboundVerdict| verdict.crypto_done && verdict.next_crypto_done == nested && verdict.crypto_status == Some(CryptoStatus::Success);
        let good = |verdict: &&InboundVerdict| {
            verdict.verdict == Verdict::Passed || verdict.verdict == Verdict::Delivered && verdict.associations.len() == case.depth() && by_nic(verdict)
        };
        if let Some(bad) = self.verdicts.iter().find(|verdict| !good(verdict)) {
            let count = self.verdicts.iter().filter(|verdict| !good(verdict)).count();
            complaints.push(format!("{count} of {} received packets were not good, such as {bad:?}", self.verdicts.len()));
        }
        complaints
    }
}

/// Counters without those that are zero.
fn told(counts: &WayCounts) -> String {
    let mut text = format!(
        "{} seen, {} by the NIC, {} in software, {} in clear",
        counts.seen.packets, counts.offloaded.packets, counts.software.packets, counts.clear.packets
    );
    for reason in DropReason::ALL {
        if counts.dropped_for(reason).packets > 0 {
            write!(text, ", {} dropped: {reason}", counts.dropped_for(reason).packets).unwrap();
        }
    }
    text
}

fn take(frames: &FrameBatch, to: &mut Vec<Vec<u8>>) {
    to.extend(frames.iter().map(|frame| frame.buffer.as_slice().to_vec()));
}

/// Stands between a host and the wire, both ways, and adds to every frame another.
pub(crate) struct Meddler {
    pub(crate) ipsec: Ipsec,
    /// The other comes first, with its last byte damaged; otherwise it comes after and is the same.
    pub(crate) damages: bool,
}

impl Meddler {
    fn meddle(&self, frame: Vec<u8>) -> [Vec<u8>; 2] {
        let mut other = frame.clone();
        if !self.damages {
            return [frame, other];
        }
        *other.last_mut().unwrap() ^= 1;
        [other, frame]
    }
}

impl Gateway for Meddler {
    fn send(&mut self, now: Time, frame: &[u8], wire: &mut Vec<Vec<u8>>) {
        let mut good = Vec::new();
        self.ipsec.send(now, frame, &mut good);
        wire.extend(good.into_iter().flat_map(|frame| self.meddle(frame)));
    }

    fn receive(&mut self, now: Time, frame: &[u8], clear: &mut Vec<Vec<u8>>) {
        for frame in self.meddle(frame.to_vec()) {
            self.ipsec.receive(now, &frame, clear);
        }
    }

    fn service(&mut self, now: Time, wire: &mut Vec<Vec<u8>>) {
        self.ipsec.service(now, wire);
    }

    fn dummies(&self) -> usize {
        0
    }

    fn complaints(&self, _: &Case) -> Vec<String> {
        self.ipsec.refused.iter().cloned().collect()
    }
}

/// Lets everything through as it is, both ways.
pub(crate) struct Forward;

impl Gateway for Forward {
    fn send(&mut self, _: Time, frame: &[u8], wire: &mut Vec<Vec<u8>>) {
        wire.push(frame.to_vec());
    }

    fn receive(&mut self, _: Time, frame: &[u8], clear: &mut Vec<Vec<u8>>) {
        clear.push(frame.to_vec());
    }

    fn service(&mut self, _: Time, _: &mut Vec<Vec<u8>>) {}

    fn dummies(&self) -> usize {
        0
    }

    fn complaints(&self, _: &Case) -> Vec<String> {
        vec![]
    }
}

/// Lets nothing through.
pub(crate) struct Swallow;

impl Gateway for Swallow {
    fn send(&mut self, _: Time, _: &[u8], _: &mut Vec<Vec<u8>>) {}

    fn receive(&mut self, _: Time, _: &[u8], _: &mut Vec<Vec<u8>>) {}

    fn service(&mut self, _: Time, _: &mut Vec<Vec<u8>>) {}

    fn dummies(&self) -> usize {
        0
    }

    fn complaints(&self, _: &Case) -> Vec<String> {
        vec![]
    }
}

/// What a case came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Questions of ours that were not answered.
    pub(crate) unanswered: Vec<Question>,
    /// What the guest's programs say that did not succeed.
    pub(crate) guest_unanswered: Option<String>,
    /// Frames on the wire that are not as this case wants them, ours and the guest's, by what they are.
    pub(crate) stray: [BTreeMap<Seen, usize>; 2],
    /// Frames as this case wants them, ours and the guest's.
    pub(crate) protected: [usize; 2],
    /// Frames with legible payload although it is encrypted, ours and the guest's.
    pub(crate) legible: [usize; 2],
    /// The guest's counters of errors that have grown, and by how much.
    pub(crate) guest_errors: BTreeMap<String, u64>,
    /// The same in words, and states that carried nothing or not what was on the wire.
    pub(crate) guest_complaints: Vec<String>,
    /// The gateway's.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// What is wrong; empty: all is well.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.unanswered.is_empty() {
            faults.push(format!("the guest did not answer {:?}", self.unanswered));
        }
        if let Some(text) = &self.guest_unanswered {
            faults.push(format!("the guest was not answered: {text}"));
        }
        for (who, (stray, (protected, legible))) in ["we", "the guest"].iter().zip(self.stray.iter().zip(self.protected.iter().zip(&self.legible))) {
            if !stray.is_empty() {
                faults.push(format!("{who} sent other frames than those wanted: {stray:?}"));
            }
            if *protected == 0 {
                faults.push(format!("{who} sent nothing protected"));
            }
            if *legible > 0 {
                faults.push(format!("{who} sent {legible} frames that can be read"));
            }
        }
        faults.extend(self.guest_complaints.iter().map(|complaint| format!("guest: {complaint}")));
        faults.extend(self.complaints.iter().cloned());
        faults
    }
}

/// A case under way.
struct Exchange<'a> {
    case: &'a Case,
    guest: &'a mut Guest,
    gateway: &'a mut dyn Gateway,
    outcome: Outcome,
    waiting: Vec<Question>,
    /// The guest's counters of errors as they were.
    errors: BTreeMap<String, u64>,
}

impl Exchange<'_> {
    /// Notes what goes over the wire.
    fn inspect(&mut self, frame: &[u8], who: usize) {
        let seen = wire::seen(frame);
        if seen == Seen::Neighbour {
            return;
        }
        if seen == Seen::Ike && self.case.ike {
            return;
        }
        if seen == self.case.on_the_wire() {
            self.outcome.protected[who] += 1;
        } else {
            *self.outcome.stray[who].entry(seen).or_default() += 1;
        }
        if self.case.encrypts() && CANARIES.iter().any(|canary| frame.windows(canary.len()).any(|window| window == *canary)) {
            self.outcome.legible[who] += 1;
        }
    }

    fn put(&mut self, wire: Vec<Vec<u8>>) {
        for frame in wire {
            self.inspect(&frame, 0);
            self.guest.send(&frame);
        }
    }

    fn ask(&mut self, question: Question, dress: Dress) {
        let mut wire = Vec::new();
        self.gateway.send(
            self.guest.now(),
            &question.frame(if question == Question::Ike { self.case.outer_ends() } else { self.case.ends() }, dress),
            &mut wire,
        );
        self.waiting.push(question);
        self.put(wire);
    }

    /// Waits a moment for a frame and works it through.
    fn step(&mut self) {
        let received = self.guest.receive(Duration::from_millis(2));
        let now = self.guest.now();
        let mut wire = Vec::new();
        self.gateway.service(now, &mut wire);
        if let Some(frame) = received {
            let (outer, inner) = (self.case.outer_ends().ours, self.case.ends().ours);
            if wire::seen(&frame) == Seen::Neighbour {
                if let Some(answer) = wire::neighbour_answer(&frame, |address: IpAddress| address == outer || address == inner) {
                    self.guest.send(&answer);
                }
            } else {
                self.inspect(&frame, 1);
                let mut clear = Vec::new();
                self.gateway.receive(now, &frame, &mut clear);
                for packet in clear {
                    match Heard::new(&packet, [self.case.ends(), self.case.outer_ends()]) {
                        Heard::Question(answer) => self.gateway.send(now, &answer, &mut wire),
                        answer @ Heard::Answer { .. } => self.waiting.retain(|question| !answer.answers(*question)),
                        Heard::Other => {}
                    }
                }
            }
        }
        self.put(wire);
    }

    /// Asks the guest everything, and then lets it ask.
    fn run(&mut self) {
        let sizes = self.case.sizes;
        for (number, &size) in (1..).zip(sizes) {
            self.ask(Question::Ping { number, size }, self.case.dress);
            self.ask(Question::Udp { number, size }, self.case.dress);
        }
        if self.case.ike {
            self.ask(Question::Ike, Dress::Plain);
        }
        let begun = Instant::now();
        while !self.waiting.is_empty() && begun.elapsed() < self.case.patience {
            self.step();
        }
        self.outcome.unanswered = std::mem::take(&mut self.waiting);

        let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
        let (ours, dress, sizes) = (self.case.ends().ours, self.case.guest_dress, sizes.join(" "));
        let patience = self.case.patience.as_millis();
        // One errand for everything: processes are what takes time in the guest.
        let script = format!(
            "export PATIENCE_MS={patience}
            peer ping {ours} 0 {dress} {sizes}
            peer udp {ours} {ECHO_PORT} {dress} {sizes}
            echo {MARK}; cat /proc/net/xfrm_stat
            echo {MARK}; exec /bin/ip -s xfrm state"
        );
        self.guest.begin(&script);
        let begun = Instant::now();
        let answer = loop {
            self.step();
            if let Some(answer) = self.guest.answer() {
                break answer;
            }
            assert!(begun.elapsed() < SCRIPT, "the guest does not answer: {}", self.guest.console());
        };
        let parts: Vec<_> = answer.output.split(MARK).collect();
        let [asked, errors, states] = parts[..] else { panic!("{answer:?}") };
        assert_eq!(answer.status, 0, "{answer:?}");
        // Its programs have nothing to say of what is answered.
        if !asked.trim().is_empty() {
            self.outcome.guest_unanswered = Some(asked.trim().to_owned());
        }
        // Linux counts dummies as errors, and not as packets of their state.
        let dummies = self.gateway.dummies();
        *self.errors.entry("XfrmInStateProtoError".into()).or_default() += dummies as u64;
        let mut carried = self.outcome.protected;
        carried[0] = carried[0].saturating_sub(dummies);
        // What the strict policy kept from going out is the guest's own talk (multicast listener reports).
        for (name, count) in self::errors(errors).into_iter().filter(|(name, _)| name != "XfrmOutPolBlock") {
            let before = self.errors.get(&name).copied().unwrap_or(0);
            if before != count {
                self.outcome.guest_complaints.push(format!("{name}: {before} -> {count}"));
                self.outcome.guest_errors.insert(name, count.saturating_sub(before));
            }
        }
        self.outcome.guest_complaints.extend(state_complaints(states, self.case, carried));
    }
}

/// Errors that the guest's kernel counts, by name.
fn errors(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| line.split_once(char::is_whitespace).and_then(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// Runs a case through a gateway.
pub(crate) fn run(guest: &mut Guest, case: &Case, gateway: &mut dyn Gateway) -> Outcome {
    let mut commands = String::from("xfrm state flush\nxfrm policy flush\n");
    commands += &case.guest_commands();
    // The flush took the neighbours' policies away too.
    for (kind, way) in [(135, "in"), (135, "out"), (136, "in"), (136, "out")] {
        writeln!(commands, "xfrm policy add src ::/0 dst ::/0 proto 58 type {kind} dir {way} priority 1 action allow").unwrap();
    }
    let errors = self::errors(&guest.run(&format!("cat /proc/net/xfrm_stat; exec /bin/ip -batch - <<'END'\n{commands}END\n")));
    assert!(errors.contains_key("XfrmInNoPols"), "the guest's kernel does not count errors");
    while guest.receive(Duration::from_millis(1)).is_some() {}
    let mut exchange = Exchange { case, guest, gateway, outcome: Outcome::default(), waiting: vec![], errors };
    exchange.run();
    let mut outcome = exchange.outcome;
    outcome.complaints = gateway.complaints(case);
    outcome
}

/// Each state must have carried exactly the packets that were on the wire its way.
fn state_complaints(states: &str, case: &Case, protected: [usize; 2]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut carried = [0, 0];
    let mut way = 0;
    let ours = [case.ends().ours.to_string(), case.outer_ends().ours.to_string()];
    for line in states.lines() {
        if let Some(ends) = line.strip_prefix("src ") {
            way = usize::from(!ours.iter().any(|address| ends.split_whitespace().next() == Some(address)));
        }
        // "  84(bytes), 1(packets)": what it carried so far; limits have other words.
        if let Some((_, packets)) = line.trim().strip_suffix("(packets)").and_then(|line| line.split_once("(bytes), ")) {
            carried[way] += 1;
            if packets.parse() != Ok(protected[way]) {
                complaints.push(format!("{packets} packets came through a state, {} were on the wire", protected[way]));
            }
        }
    }
    if carried != [case.depth(); 2] {
        complaints.push(format!("states counted: {carried:?}, there should be {} each way", case.depth()));
    }
    complaints
}
