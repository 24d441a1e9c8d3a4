//! What must hold when any bytes are opened as an ESP packet, beyond that nothing panics.
//!
//! The provider is the insecure one, so that made-up packets get past authentication. Shared by the fuzz target and by the test that replays its seeds and
//! crashes.
//!
//! Input: a byte of choices, the high half of a sequence number (4 bytes), the packet from the ESP header on.

use ipsec::insecure::Toy;
use ipsec::{
    AesKeySize, Authentication, ESP_HEADER_LENGTH, Encryption, EspParameters, EspSa, Provider, Scratch, TRAILER_LENGTH, Verdict, read_trailer, write_trailer,
};
use secret::SecretBytes;

/// Bits of the first byte.
const EXTENDED: u8 = 0x04;
/// The ICV is made to fit: an attacker who has the keys.
const AUTHENTIC: u8 = 0x08;

/// Takes `data` for a packet.
pub(crate) fn check(data: &[u8]) {
    let Some((&[choices, h0, h1, h2, h3], packet)) = data.split_first_chunk() else { return };
    let icv = [16, 12, 8, 16][usize::from(choices & 3)];
    let sa = sa(icv, choices & EXTENDED != 0);
    let mut esp = packet.to_vec();
    let low = packet.get(4..8).map_or(0, |low| u32::from_be_bytes([low[0], low[1], low[2], low[3]]));
    let high = if sa.esn() { u64::from(u32::from_be_bytes([h0, h1, h2, h3])) } else { 0 };
    let sequence = high << 32 | u64::from(low);
    let Ok(text) = sa.text(packet.len()) else {
        assert!(sa.open_job(&mut esp, sequence).is_err() && sa.seal_job(&mut esp, sequence).is_err());
        assert_eq!(esp, packet);
        return;
    };
    assert_eq!((text.start, text.end + icv), (ESP_HEADER_LENGTH + sa.iv_length(), packet.len()));
    if choices & AUTHENTIC != 0 {
        let spi = [packet[0], packet[1], packet[2], packet[3]];
        let checksum = Toy::checksum(ipsec::Aad::esp(spi, sequence, sa.esn()).as_bytes(), &packet[text.clone()]);
        esp[text.end..].fill(checksum);
    }
    let arrived = esp.clone();
    let verdict = open(&sa, &mut esp, sequence);
    if choices & AUTHENTIC != 0 {
        assert_eq!(verdict, Verdict::Good);
    }
    if verdict != Verdict::Good {
        assert_eq!(esp, arrived, "a packet that failed is as it was");
        return;
    }
    // A number that is not the header's is nobody's packet.
    assert!(sa.open_job(&mut esp, sequence ^ 1).is_err());
    let Ok((payload, trailer)) = read_trailer(&esp[text.clone()]) else { return };
    assert_eq!(payload + usize::from(trailer.pad_length) + TRAILER_LENGTH, text.len());
    again(&sa, &esp, payload, trailer.next_header, sequence);
}

fn sa(icv_length: usize, extended_sequence_numbers: bool) -> EspSa<Toy> {
    let encryption = Encryption::AesGcm(AesKeySize::Aes128);
    let parameters = EspParameters {
        encryption,
        encryption_key: &SecretBytes::from(vec![7; encryption.key_length()]),
        icv_length,
        authentication: Authentication::None,
        authentication_key: &SecretBytes::default(),
        allow_unauthenticated: false,
        extended_sequence_numbers,
        iv_mask: 0x5eed,
    };
    EspSa::new(&Toy, &parameters).expect("these go together")
}

fn open(sa: &EspSa<Toy>, esp: &mut [u8], sequence: u64) -> Verdict {
    let mut jobs = [sa.open_job(esp, sequence).expect("the length was checked, and the number is the header's")];
    Toy.open(&mut jobs, &mut Scratch::new());
    let [job] = jobs;
    job.verdict
}

/// The payload that was in a packet, put into one of our own, comes out the same.
fn again(sa: &EspSa<Toy>, opened: &[u8], payload: usize, next_header: u8, sequence: u64) {
    let start = sa.prefix_length();
    let mut esp = vec![0xee; payload + sa.overhead(payload)];
    esp[..ESP_HEADER_LENGTH].copy_from_slice(&opened[..ESP_HEADER_LENGTH]);
    esp[start..start + payload].copy_from_slice(&opened[start..start + payload]);
    let text = sa.text(esp.len()).expect("it has an overhead's length at least");
    assert!(sa.max_payload(esp.len()) >= Some(payload));
    write_trailer(&mut esp[text.clone()], payload, next_header).expect("the room is what it needs");
    {
        let mut jobs = [sa.seal_job(&mut esp, sequence).expect("it is aligned")];
        Toy.seal(&mut jobs);
        assert_eq!(jobs[0].verdict, Verdict::Good);
    }
    assert_eq!(open(sa, &mut esp, sequence), Verdict::Good);
    let (length, trailer) = read_trailer(&esp[text]).expect("it was just written");
    assert_eq!((length, trailer.next_header), (payload, next_header));
    assert_eq!(esp[start..start + payload], opened[start..start + payload]);
}
