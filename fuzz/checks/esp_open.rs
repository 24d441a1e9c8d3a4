//! What must hold when any bytes are opened as an ESP packet, of every suite, beyond that nothing panics.
//!
//! One provider is the insecure one, so that made-up packets get past authentication; the real ones must agree with each other, and take nothing made up.
//! Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: the number of a suite and ICV length, a byte of choices, the high half of a sequence number (4 bytes), the packet from the ESP header on.

use ipsec::insecure::Toy;
use ipsec::{
    AwsLc, ESP_HEADER_LENGTH, EspError, EspParameters, EspSa, Provider, RustCrypto, Scratch, Suite, TRAILER_LENGTH, Verdict, read_trailer, write_trailer,
};
use secret::SecretBytes;

/// Bits of the byte of choices.
const EXTENDED: u8 = 0x04;
/// The ICV is made to fit: an attacker who has the keys.
const AUTHENTIC: u8 = 0x08;

/// Takes `data` for a packet.
pub(crate) fn check(data: &[u8]) {
    let Some((&[number, choices, h0, h1, h2, h3], packet)) = data.split_first_chunk() else { return };
    let variants: Vec<(Suite, usize)> = Suite::all().flat_map(|suite| suite.icv_lengths().iter().map(move |&icv| (suite, icv))).collect();
    let variant = variants[usize::from(number) % variants.len()];
    let extended = choices & EXTENDED != 0;
    let low = packet.get(4..8).map_or(0, |low| u32::from_be_bytes([low[0], low[1], low[2], low[3]]));
    let high = if extended { u64::from(u32::from_be_bytes([h0, h1, h2, h3])) } else { 0 };
    let sequence = high << 32 | u64::from(low);
    made_up(variant, extended, choices & AUTHENTIC != 0, packet, sequence);
    real(variant, extended, packet, sequence);
}

/// Past authentication, with the insecure provider.
fn made_up((suite, icv): (Suite, usize), extended: bool, authentic: bool, packet: &[u8], sequence: u64) {
    let sa = sa(&Toy, (suite, icv), extended);
    let mut esp = packet.to_vec();
    let Ok(text) = sa.text(packet.len()) else {
        assert!(sa.open_job(&mut esp, sequence).is_err() && sa.seal_job(&mut esp, sequence).is_err());
        assert_eq!(esp, packet);
        return;
    };
    assert_eq!((text.start, text.end + icv), (ESP_HEADER_LENGTH + sa.iv_length(), packet.len()));
    let block = suite.encryption().block_length();
    let aad = match sa.open_job(&mut esp, sequence) {
        Ok(job) => job.aad,
        Err(error) => {
            assert_eq!(error, EspError::Alignment { alignment: block, found: text.len() });
            assert!(!text.len().is_multiple_of(block));
            return;
        }
    };
    if authentic {
        let checksum = Toy::checksum(aad.as_bytes(), &packet[text.clone()]);
        esp[text.end..].fill(checksum);
    }
    let arrived = esp.clone();
    let verdict = open(&Toy, &sa, &mut esp, sequence);
    if authentic || !suite.is_authenticated() {
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
    let payload = &esp[text.start..][..payload];
    again(&Toy, &sa, &esp, payload, trailer.next_header, sequence);
}

/// The same bytes to both libraries: nobody has made an ICV by chance, both leave the packet alone, and both carry its bytes in packets of their own.
fn real((suite, icv): (Suite, usize), extended: bool, packet: &[u8], sequence: u64) {
    let (aws, rust) = (sa(&AwsLc, (suite, icv), extended), sa(&RustCrypto, (suite, icv), extended));
    let (mut by_aws, mut by_rust) = (packet.to_vec(), packet.to_vec());
    let error = aws.open_job(&mut by_aws, sequence).err();
    assert_eq!(error, rust.open_job(&mut by_rust, sequence).err());
    if error.is_none() {
        let verdict = open(&AwsLc, &aws, &mut by_aws, sequence);
        assert_eq!(verdict, open(&RustCrypto, &rust, &mut by_rust, sequence));
        assert_eq!(verdict.is_good(), !suite.is_authenticated());
        assert_eq!(by_aws, by_rust);
        assert!(verdict.is_good() || by_aws == packet, "a packet that failed is as it was");
    }
    let Some((header, payload)) = packet.split_at_checked(ESP_HEADER_LENGTH) else { return };
    let sealed = again(&AwsLc, &aws, header, payload, 59, sequence);
    assert_eq!(sealed, again(&RustCrypto, &rust, header, payload, 59, sequence), "NIC and software make the same bytes");
}

fn sa<P: Provider>(provider: &P, (suite, icv_length): (Suite, usize), extended_sequence_numbers: bool) -> EspSa<P> {
    let key = |length: usize| SecretBytes::from((0..length).map(|index| index as u8).collect::<Vec<_>>());
    let parameters = EspParameters {
        encryption: suite.encryption(),
        encryption_key: &key(suite.encryption().key_length()),
        icv_length,
        authentication: suite.authentication(),
        authentication_key: &key(suite.authentication().key_length()),
        allow_unauthenticated: true,
        extended_sequence_numbers,
        iv_mask: 0x5eed,
    };
    EspSa::new(provider, &parameters).expect("these go together")
}

fn open<P: Provider>(provider: &P, sa: &EspSa<P>, esp: &mut [u8], sequence: u64) -> Verdict {
    let mut jobs = [sa.open_job(esp, sequence).expect("the length was checked, and the number is the header's")];
    provider.open(&mut jobs, &mut Scratch::new());
    let [job] = jobs;
    job.verdict
}

/// The payload that was in a packet, put into one of our own, comes out the same. `header` begins with SPI and number.
fn again<P: Provider>(provider: &P, sa: &EspSa<P>, header: &[u8], payload: &[u8], next_header: u8, sequence: u64) -> Vec<u8> {
    let start = sa.prefix_length();
    let mut esp = vec![0xee; payload.len() + sa.overhead(payload.len())];
    esp[..ESP_HEADER_LENGTH].copy_from_slice(&header[..ESP_HEADER_LENGTH]);
    esp[start..][..payload.len()].copy_from_slice(payload);
    let text = sa.text(esp.len()).expect("it has an overhead's length at least");
    assert!(sa.max_payload(esp.len()) >= Some(payload.len()));
    write_trailer(&mut esp[text.clone()], payload.len(), next_header).expect("the room is what it needs");
    {
        let mut jobs = [sa.seal_job(&mut esp, sequence).expect("it is aligned")];
        provider.seal(&mut jobs);
        assert_eq!(jobs[0].verdict, Verdict::Good);
    }
    let sealed = esp.clone();
    assert_eq!(open(provider, sa, &mut esp, sequence), Verdict::Good);
    let (length, trailer) = read_trailer(&esp[text]).expect("it was just written");
    assert_eq!((length, trailer.next_header), (payload.len(), next_header));
    assert_eq!(esp[start..][..payload.len()], *payload);
    sealed
}
