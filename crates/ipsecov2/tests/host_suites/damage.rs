//! Damaged packets of every kind, in each portion that the damage can concern: what the NIC says, what becomes of the packet, and why (OV2-OOB-5,
//! OV2-RECV-3, OV2-RECV-5, OV2-RECV-5a).

use ipsec::{AesKeySize, AhParameters, AhSa, Authentication, Crypto, Encryption, EspParameters, EspSa, Provider as _};
use ndis::{CryptoStatus, Direction, Operation};
use packet::{AhPacket, AhRepr, IpProtocol, ParsedIp, UDP_HEADER_LEN, checksum};
use transport::{AssociationParameters, DropReason, Mode, OffloadPolicy, Verdict};

use crate::ends::{Ends, receive, udp};
use crate::kinds::{CBC, GATE4, GCM, HOST4, Kind, Spec};

const AH: Spec = Spec::ah(Authentication::HmacSha256);
const GMAC: Spec = Spec::esp(Encryption::Null, Authentication::AesGmac(AesKeySize::Aes128));
const AH_GMAC: Spec = Spec::ah(Authentication::AesGmac(AesKeySize::Aes192));

/// Where the parts of the outermost bundle of a packet are.
#[derive(Debug)]
struct Parts {
    udp: Option<usize>,
    ah: Option<usize>,
    esp: Option<usize>,
    /// Where the ICV of ESP begins.
    icv: usize,
}

fn parts(packet: &[u8], associations: &[AssociationParameters]) -> Parts {
    let parsed = ParsedIp::parse(packet).unwrap();
    let (mut at, mut next) = (parsed.header_len(), parsed.protocol());
    let mut parts = Parts { udp: None, ah: None, esp: None, icv: packet.len() };
    if next == IpProtocol::UDP {
        parts.udp = Some(at);
        (at, next) = (at + UDP_HEADER_LEN, IpProtocol::ESP);
    }
    if next == IpProtocol::AH {
        parts.ah = Some(at);
        let header = AhPacket::new(&packet[at..]).unwrap();
        (at, next) = (at + header.header_len(), header.next_header());
    }
    if next == IpProtocol::ESP {
        parts.esp = Some(at);
        let esp = associations.iter().find(|association| association.operation == Operation::Esp).unwrap();
        parts.icv -= if esp.encryption.is_combined() { usize::from(esp.icv_length) } else { esp.authentication.icv_length() };
    }
    parts
}

/// Sets lengths and the header checksum of an IPv4 packet anew, and the length of a UDP header behind it.
fn finish(packet: &mut [u8]) {
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    if packet[9] == 17 {
        packet[24..26].copy_from_slice(&(total - 20).to_be_bytes());
    }
    packet[10..12].fill(0);
    let sum = checksum::ipv4_header_checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn esp_sa(association: &AssociationParameters) -> EspSa<Crypto> {
    let parameters = EspParameters {
        encryption: association.encryption,
        encryption_key: &association.encryption_key,
        icv_length: usize::from(association.icv_length),
        authentication: association.authentication,
        authentication_key: &association.authentication_key,
        extended_sequence_numbers: false,
        iv_mask: 5,
        allow_unauthenticated: true,
    };
    EspSa::new(&Crypto::default(), &parameters).unwrap()
}

/// An authentic packet of the bundle's ESP and, if it has one, AH over it, with this text: payload, padding, trailer.
fn authentic(kind: &Kind, place: usize, sequence: u32, text: &[u8]) -> Vec<u8> {
    let inner = authentic_esp(kind, place, sequence, text);
    let bundle = &kind.parameters(Direction::Outbound, OffloadPolicy::Forbid)[place];
    match bundle.associations.iter().find(|association| association.operation == Operation::Ah) {
        None => inner,
        Some(ah) => with_ah(ah, &inner, IpProtocol::ESP, sequence),
    }
}

/// The same without the AH.
fn authentic_esp(kind: &Kind, place: usize, sequence: u32, text: &[u8]) -> Vec<u8> {
    let bundle = &kind.parameters(Direction::Outbound, OffloadPolicy::Forbid)[place];
    let provider = Crypto::default();
    let association = bundle.associations.iter().find(|association| association.operation == Operation::Esp).unwrap();
    let sa = esp_sa(association);
    assert!(text.len().is_multiple_of(sa.alignment()), "{}", text.len());
    let mut esp = vec![0; sa.prefix_length() + text.len() + sa.icv_length()];
    esp[..4].copy_from_slice(&association.spi.to_be_bytes());
    esp[4..8].copy_from_slice(&sequence.to_be_bytes());
    let start = sa.prefix_length();
    esp[start..start + text.len()].copy_from_slice(text);
    let mut jobs = [sa.seal_job(&mut esp, sequence.into()).unwrap()];
    provider.seal(&mut jobs);
    assert!(jobs[0].verdict.is_good());
    let udp: &[u8] = if bundle.udp_encapsulation.is_some() { &[0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0] } else { &[] };
    let protocol = if udp.is_empty() { IpProtocol::ESP } else { IpProtocol::UDP };
    ip(kind, place, protocol, &[udp, &esp].concat())
}

/// An IPv4 packet between a bundle's ends.
fn ip(kind: &Kind, place: usize, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let ends = kind.bundles[place].ends;
    let mut packet = udp(ends, 0)[..20].to_vec();
    packet[9] = protocol.0;
    packet.extend(payload);
    finish(&mut packet);
    packet
}

/// AH put between the IPv4 header and what follows it, announcing `next`.
fn with_ah(association: &AssociationParameters, packet: &[u8], next: IpProtocol, sequence: u32) -> Vec<u8> {
    let provider = Crypto::default();
    let parameters =
        AhParameters { authentication: association.authentication, key: &association.authentication_key, extended_sequence_numbers: false, iv_mask: 5 };
    let sa = AhSa::new(&provider, &parameters).unwrap();
    let length = sa.header_length(4);
    let mut out = packet[..20].to_vec();
    out.resize(20 + length, 0);
    AhRepr { next_header: next, icv_field_len: length - 12, spi: association.spi, sequence }.emit(&mut out[20..]).unwrap();
    out.extend(&packet[20..]);
    out[9] = IpProtocol::AH.0;
    finish(&mut out);
    assert!(sa.seal_packet(&provider, &mut out, 20, sequence.into()).is_ok());
    out
}

/// A payload and its trailer, padded so that every suite takes it, with `pad` as pad length where it is not the true one.
fn text(payload: &[u8], pad: Option<u8>, next: u8) -> Vec<u8> {
    let padding = (16 - (payload.len() + 2) % 16) % 16;
    let mut text = payload.to_vec();
    text.extend(1..=padding as u8);
    text.extend([pad.unwrap_or(padding as u8), next]);
    text
}

struct Row {
    what: &'static str,
    packet: Vec<u8>,
    status: Option<CryptoStatus>,
    next_done: bool,
    verdict: Verdict,
}

fn row(what: &'static str, packet: Vec<u8>, status: CryptoStatus, reason: DropReason) -> Row {
    Row { what, packet, status: Some(status), next_done: false, verdict: Verdict::Dropped(reason) }
}

/// Damage to the outermost bundle of packets that arrive after a good one, so that the NIC knows the mode.
fn rows(kind: &Kind, wire: &[Vec<u8>]) -> Vec<Row> {
    use CryptoStatus as S;
    let place = kind.bundles.len() - 1;
    let bundle = &kind.parameters(Direction::Outbound, OffloadPolicy::Forbid)[place];
    let tunnel = bundle.mode == Mode::Tunnel;
    let (esp_failed, ah_failed) = if tunnel { (S::TunnelEspAuthFailed, S::TunnelAhAuthFailed) } else { (S::TransportEspAuthFailed, S::TransportAhAuthFailed) };
    let good = &wire[1];
    let parts = parts(good, &bundle.associations);
    let changed = |at: usize| {
        let mut packet = good.clone();
        packet[at] ^= 0x40;
        packet
    };
    let (auth, malformed, protocol) = (DropReason::AuthFailed, DropReason::Malformed, DropReason::InvalidProtocol);
    let mut rows = vec![];
    let last = good.len() - 1;
    if let (Some(ah), esp) = (parts.ah, parts.esp) {
        rows.push(row("a bit of AH's ICV", changed(ah + 14), ah_failed, auth));
        rows.push(row(
            "a bit that AH covers in the IP header",
            {
                let mut packet = changed(4);
                finish(&mut packet);
                packet
            },
            ah_failed,
            auth,
        ));
        rows.push(row("the last bit, which AH covers", changed(last), ah_failed, auth));
        // Of AH over ESP the headers are looked at first, and these are not the bundle's (OV2-RECV-3).
        let (status, reason) = if esp.is_some() { (S::InvalidProtocol, protocol) } else { (ah_failed, auth) };
        rows.push(row("AH's next header", changed(ah), status, reason));
        rows.push(row(
            "AH's length, too long for its algorithm",
            {
                let mut packet = good.clone();
                packet[ah + 1] += 9;
                packet
            },
            S::InvalidPacketSyntax,
            malformed,
        ));
        rows.push(row(
            "AH's length, too short",
            {
                let mut packet = good.clone();
                packet[ah + 1] = 2;
                packet
            },
            S::InvalidPacketSyntax,
            malformed,
        ));
        let mut forwarded = good.clone();
        (forwarded[1], forwarded[8]) = (0x2c, 3);
        finish(&mut forwarded);
        rows.push(Row { what: "fields that routers change", packet: forwarded, status: Some(S::Success), next_done: place == 1, verdict: Verdict::Delivered });
        if esp.is_some() {
            let association = &bundle.associations[1];
            let inner = authentic_esp(kind, place, 9, &text(&[7; 30], None, 17));
            let damage = |mut esp: Vec<u8>, sequence| {
                let at = esp.len() - 1;
                esp[at] ^= 1;
                with_ah(association, &esp, IpProtocol::ESP, sequence)
            };
            rows.push(row("a bit of ESP's ICV under a good AH", damage(inner.clone(), 9), esp_failed, auth));
            rows.push(row("ESP without the AH of its bundle", inner, S::InvalidProtocol, protocol));
            rows.push(row(
                "AH without the ESP of its bundle",
                with_ah(association, &udp(bundle_ends(kind, place), 5), IpProtocol::UDP, 10),
                S::InvalidProtocol,
                protocol,
            ));
        } else {
            let association = &bundle.associations[0];
            let mut lying = with_ah(association, &ip(kind, place, IpProtocol::AH, &[0x45; 40]), IpProtocol::IPV6, 11);
            finish(&mut lying);
            rows.push(row("AH announces IPv6, and there is none", lying, S::GenericError, malformed));
            let under = ip(kind, place, IpProtocol::ESP, &[&association.spi.to_be_bytes()[..], &[0; 60]].concat());
            rows.push(row("ESP under the SPI of an AH SA", under, S::InvalidProtocol, protocol));
        }
    }
    if let (Some(esp), None) = (parts.esp, parts.ah) {
        let association = &bundle.associations[0];
        rows.push(row("a bit of the text", changed(parts.icv - 3), esp_failed, auth));
        rows.push(row("a bit of the ICV", changed(last), esp_failed, auth));
        rows.push(row("a bit of the number", changed(esp + 5), esp_failed, auth));
        let mut short = good[..esp + 9].to_vec();
        finish(&mut short);
        rows.push(row("no room for an ICV", short, S::InvalidPacketSyntax, malformed));
        let under = ip(kind, place, IpProtocol::AH, &[&[17, 5, 0, 0][..], &association.spi.to_be_bytes(), &[0; 60]].concat());
        rows.push(row("AH under the SPI of an ESP SA", under, S::InvalidProtocol, protocol));
        if let Some(at) = parts.udp {
            let mut bare = [&good[..at], &good[at + UDP_HEADER_LEN..]].concat();
            bare[9] = 50;
            finish(&mut bare);
            rows.push(row("bare under an SA in UDP", bare, S::InvalidProtocol, protocol));
        } else {
            let mut in_udp = [&good[..esp], &[0xab, 0xcd, 0x11, 0x94, 0, 0, 0, 0], &good[esp..]].concat();
            in_udp[9] = 17;
            finish(&mut in_udp);
            rows.push(row("in UDP under an SA that is bare", in_udp, S::InvalidProtocol, protocol));
        }
    }
    if parts.esp.is_some() {
        let inner = udp(HOST4, 20);
        rows.push(row("authentic, pad length beyond the text", authentic(kind, place, 20, &text(&[1; 14], Some(200), 17)), S::InvalidPacketSyntax, malformed));
        rows.push(row("authentic, announces IPv6, carries IPv4", authentic(kind, place, 21, &text(&inner, None, 41)), S::GenericError, malformed));
        rows.push(row("authentic, announces IPv4, carries nothing", authentic(kind, place, 22, &text(&[], None, 4)), S::GenericError, malformed));
        let dummy = authentic(kind, place, 23, &text(&[1, 2, 3], None, 59));
        rows.push(row("a dummy", dummy, S::Success, DropReason::Dummy));
    }
    rows
}

fn bundle_ends(kind: &Kind, place: usize) -> (&'static str, &'static str) {
    kind.bundles[place].ends
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for specs in [vec![GCM], vec![CBC], vec![GMAC], vec![AH], vec![AH_GMAC], vec![GCM, AH], vec![CBC, AH_GMAC]] {
        kinds.push(Kind::transport(specs.clone()));
        kinds.push(Kind::tunnel(specs.clone()));
        if specs.len() == 1 && specs[0].operation == Operation::Esp {
            kinds.push(Kind::transport(specs.clone()).udp(0));
            kinds.push(Kind::tunnel(specs).udp(0));
        }
    }
    kinds
}

fn check(kind: &Kind, ends: &mut Ends, rows: Vec<Row>) {
    for row in rows {
        let before = row.packet.clone();
        let (delivered, verdicts) = ends.receive(&[row.packet]);
        let verdict = &verdicts[0];
        let found = (verdict.crypto_status, verdict.next_crypto_done, verdict.verdict);
        assert_eq!(found, (row.status, row.next_done, row.verdict), "{}: {}: {before:02x?}", kind.name(), row.what);
        assert_eq!(verdict.crypto_done, row.status.is_some());
        assert_eq!(delivered.len(), usize::from(row.verdict == Verdict::Delivered), "{}: {}", kind.name(), row.what);
    }
}

#[test]
fn damage_to_a_single_portion() {
    for kind in kinds() {
        let packets: Vec<_> = [40, 41].iter().map(|&length| udp(kind.inner, length)).collect();
        let wire = Ends::new(&kind, Direction::Outbound).send(&packets);
        let mut to = Ends::new(&kind, Direction::Inbound);
        let (delivered, verdicts) = to.receive(&wire[..1]);
        assert_eq!(delivered, packets[..1], "{}: {verdicts:?}", kind.name());
        check(&kind, &mut to, rows(&kind, &wire));
    }
}

/// Before a packet was verified under an SA, the NIC takes it for one in transport mode, unless its UDP-ESP type says more (OV2-RECV-5a).
#[test]
fn damage_before_the_mode_is_known() {
    use CryptoStatus as S;
    for (kind, status) in [
        (Kind::tunnel(vec![GCM]), S::TransportEspAuthFailed),
        (Kind::tunnel(vec![AH]), S::TransportAhAuthFailed),
        (Kind::tunnel(vec![GCM]).udp(0), S::TunnelEspAuthFailed),
        (Kind::transport(vec![GCM]).udp(0), S::TransportEspAuthFailed),
    ] {
        let mut wire = Ends::new(&kind, Direction::Outbound).send(&[udp(kind.inner, 40)]).remove(0);
        let at = if matches!(status, S::TransportAhAuthFailed) { 36 } else { wire.len() - 1 };
        wire[at] ^= 1;
        let mut to = Ends::new(&kind, Direction::Inbound);
        check(&kind, &mut to, vec![row("a bit", wire, status, DropReason::AuthFailed)]);
    }
}

/// What of transport over tunnel fails inside: the tunnel portion is good, and both were done.
#[test]
fn damage_to_the_inner_portion() {
    for transport in [vec![GCM], vec![CBC], vec![AH], vec![GCM, AH]] {
        for tunnel in [vec![GCM], vec![CBC], vec![AH], vec![CBC, AH_GMAC]] {
            let kind = Kind::nested(GATE4, HOST4, transport.clone(), tunnel);
            let mut to = Ends::new(&kind, Direction::Inbound);
            let good = Ends::new(&kind, Direction::Outbound).send(&[udp(HOST4, 9)]);
            assert_eq!(to.receive(&good).0.len(), 1);
            // The inner bundle by itself, damaged, then put into the tunnel.
            let mut alone = kind.clone();
            alone.bundles.truncate(1);
            alone.bundles[0].inside = None;
            let inner_wire = Ends::new(&alone, Direction::Outbound).send(&[udp(HOST4, 40), udp(HOST4, 41)]);
            let mut wrap = Kind { bundles: vec![kind.bundles[1].clone()], last: 1, ..kind.clone() };
            // Its keys and SPIs are those that it has as the second bundle.
            let inner_rows: Vec<_> = rows(&alone, &inner_wire);
            let mut tunnel_of = |packets: Vec<Vec<u8>>| {
                wrap.last += packets.len() as u64;
                let mut sas = Kind { last: wrap.last - packets.len() as u64, ..kind.clone() }.parameters(Direction::Outbound, OffloadPolicy::Prefer);
                let mut host = ipsecov2::host::Host::new(&ipsecov2::host::HostConfig { medium: packet::Medium::Ip, ..Default::default() }).unwrap();
                host.add_sas(vec![sas.remove(1)], crate::ends::NOW).unwrap();
                let mut batch = packets.iter().map(|bytes| packet::Frame::new(host.pool().copy_from(bytes))).collect();
                let mut wire = packet::FrameBatch::new();
                host.send(crate::ends::NOW, &mut batch, &mut wire);
                wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect::<Vec<_>>()
            };
            for mut row in inner_rows {
                row.packet = tunnel_of(vec![row.packet]).remove(0);
                row.next_done = true;
                check(&kind, &mut to, vec![row]);
            }
        }
    }
}

/// What of transport over tunnel fails outside: nothing inside was looked at.
#[test]
fn damage_to_the_outer_portion() {
    for tunnel in [vec![GCM], vec![CBC], vec![AH], vec![CBC, AH_GMAC]] {
        let kind = Kind::nested(GATE4, HOST4, vec![GCM], tunnel);
        let wire = Ends::new(&kind, Direction::Outbound).send(&[udp(HOST4, 40), udp(HOST4, 41)]);
        let mut to = Ends::new(&kind, Direction::Inbound);
        assert_eq!(to.receive(&wire[..1]).0.len(), 1);
        check(&kind, &mut to, rows(&kind, &wire));
    }
}

/// Every byte of a packet of every kind, changed: it is dropped, or arrives as it was because nothing protects that byte; by NIC and software alike.
#[test]
fn r_40_no_damaged_packet_is_a_success() {
    for kind in kinds().into_iter().chain([Kind::nested(GATE4, HOST4, vec![CBC], vec![GCM, AH])]) {
        let sent = udp(kind.inner, 21);
        let wire = Ends::new(&kind, Direction::Outbound).send(core::slice::from_ref(&sent)).remove(0);
        let mut to = Ends::new(&kind, Direction::Inbound);
        for at in 0..wire.len() {
            for flip in [1, 0x80] {
                let mut damaged = wire.clone();
                damaged[at] ^= flip;
                let (delivered, verdicts) = receive(&mut to.offload, &[damaged.clone()]);
                let (in_software, verdicts_of_software) = receive(&mut to.software, &[damaged]);
                assert_eq!(delivered, in_software, "{}: byte {at}", kind.name());
                let of = |verdicts: &[transport::InboundVerdict]| verdicts[0].verdict;
                assert_eq!(of(&verdicts), of(&verdicts_of_software), "{}: byte {at}", kind.name());
                if let Some(delivered) = delivered.first() {
                    // Fields that routers change, or that nobody covers: they are those of the outer header, or come out as they were changed.
                    assert!(at < 40 && delivered[20..] == sent[20..], "{}: byte {at} of {wire:02x?}", kind.name());
                    to = Ends::new(&kind, Direction::Inbound);
                } else if verdicts[0].verdict != Verdict::Passed {
                    assert!(matches!(verdicts[0].verdict, Verdict::Dropped(_)));
                }
            }
        }
    }
}

#[test]
fn the_tables_cover_every_status() {
    let mut seen: Vec<CryptoStatus> = vec![CryptoStatus::Success];
    for kind in kinds() {
        let wire = Ends::new(&kind, Direction::Outbound).send(&[udp(kind.inner, 40), udp(kind.inner, 41)]);
        seen.extend(rows(&kind, &wire).into_iter().filter_map(|row| row.status));
    }
    for status in CryptoStatus::ALL {
        assert!(seen.contains(&status), "{}", status.name());
    }
}
