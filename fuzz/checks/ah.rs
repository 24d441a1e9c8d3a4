//! What must hold when any bytes are opened as an IP packet with an AH, beyond that nothing panics.
//!
//! The provider is the insecure one, so that made-up packets get past authentication. Shared by the fuzz target and by the test that replays its seeds and
//! crashes.
//!
//! Input: a byte of choices, where the AH is said to be in units of 4 bytes (0: where the packet says), the high half of a sequence number (4 bytes), the packet.

use ipsec::insecure::Toy;
use ipsec::{AhParameters, AhSa, Authentication};
use packet::{IpProtocol, IpVersion, ParsedIp};
use secret::SecretBytes;

/// Bits of the first byte; the lowest three choose the algorithm.
const EXTENDED: u8 = 0x08;

/// Takes `data` for a packet.
pub(crate) fn check(data: &[u8]) {
    let Some((&[choices, place, h0, h1, h2, h3], packet)) = data.split_first_chunk() else { return };
    let sa = sa(choices);
    let parsed = ParsedIp::parse(packet);
    let ah = match (place, &parsed) {
        (0, Ok(parsed)) => parsed.header_len(),
        (0, Err(_)) => return,
        (place, _) => usize::from(place) * 4,
    };
    let low = packet.get(ah + 8..ah + 12).map_or(0, |low| u32::from_be_bytes([low[0], low[1], low[2], low[3]]));
    let high = if sa.esn() { u64::from(u32::from_be_bytes([h0, h1, h2, h3])) } else { 0 };
    let sequence = high << 32 | u64::from(low);

    let mut masked = vec![0xaa; 5];
    let prepared = sa.prepare_open(packet, ah, sequence, &mut masked);
    assert_eq!(masked[..5], [0xaa; 5]);
    let mut sealed = packet.to_vec();
    let result = sa.seal_packet(&Toy, &mut sealed, ah, sequence);
    assert_eq!(result.err(), prepared.as_ref().err().copied());
    let Ok(part) = prepared else {
        assert!(masked.len() == 5 && sealed == packet && !sa.open_packet(&Toy, packet, ah, sequence));
        return;
    };

    // The other walker over the headers found the same.
    let parsed = parsed.expect("it has been masked");
    assert_eq!((parsed.header_len(), parsed.protocol(), parsed.total_len()), (ah, IpProtocol::AH, packet.len()));
    assert!(!parsed.fragment().is_part());

    let job = sa.job(packet, &masked, &part);
    let [headers, rest, number] = job.parts;
    assert_eq!(headers.len(), masked.len() - 5);
    assert!(headers.len() + rest.len() <= packet.len() && packet.ends_with(rest));
    assert_eq!(number.len(), if sa.esn() { 4 } else { 0 });
    let header_length = packet.len() - rest.len() - ah;
    assert!(sa.accepts_header_length(header_length));
    let field = headers.len() - header_length + 12;
    assert!(headers[field..field + sa.icv_field_length()].iter().all(|&byte| byte == 0));

    assert!(sa.open_packet(&Toy, &sealed, ah, sequence));
    assert!(!sa.open_packet(&Toy, &sealed, ah, sequence ^ 1));
    changes(&sa, &mut sealed, ah, sequence, parsed.version());
}

fn sa(choices: u8) -> AhSa<Toy> {
    let authentication = Authentication::ALL[1 + usize::from(choices & 7)];
    let key = SecretBytes::from(vec![7; authentication.key_length()]);
    let extended_sequence_numbers = choices & EXTENDED != 0;
    AhSa::new(&Toy, &AhParameters { authentication, key: &key, extended_sequence_numbers, iv_mask: 0x5eed }).expect("the key has its length")
}

/// A router's changes do no harm, another source address does.
fn changes(sa: &AhSa<Toy>, packet: &mut [u8], ah: usize, sequence: u64, version: IpVersion) {
    let (mutable, source): (&[usize], _) = match version {
        IpVersion::V4 => (&[1, 8, 10, 11], 12),
        IpVersion::V6 => (&[1, 2, 3, 7], 8),
    };
    for &at in mutable {
        packet[at] ^= 0xff;
        assert!(sa.open_packet(&Toy, packet, ah, sequence));
    }
    packet[source] ^= 0x01;
    assert!(!sa.open_packet(&Toy, packet, ah, sequence));
}
