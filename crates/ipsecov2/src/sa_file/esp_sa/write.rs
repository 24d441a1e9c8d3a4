//! Writing an `esp_sa` table.

use ipsec::{Authentication, Encryption};
use link::capture::{EspAuthentication, EspEncryption, EspSecret, Secrets};
use ndis::Operation;
use transport::{OffloadPolicy, SaParameters, TrafficFlow};
use zeroize::Zeroizing;

use super::super::format::{Loss, Written};

/// Writes SAs as a table, and says what it cannot say of them.
pub(in super::super) fn write(bundles: &[SaParameters]) -> Written {
    let (mut secrets, mut losses) = (Vec::with_capacity(bundles.len()), Vec::new());
    for (bundle, parameters) in bundles.iter().enumerate() {
        let lost = match secret(parameters) {
            Ok(secret) => {
                secrets.push(secret);
                losses_of(parameters)
            }
            Err(loss) => vec![loss],
        };
        losses.extend(lost.into_iter().map(|loss| Loss { bundle, ..loss }));
    }
    let table = Secrets::Esp(secrets).table();
    let mut text = Zeroizing::new(String::with_capacity(table.len()));
    // Names and digits are ASCII.
    text.push_str(core::str::from_utf8(table.expose()).unwrap_or_default());
    Written { text, losses }
}

/// The keys of an SA as viewers want them; an error says why they have no use for them.
pub(crate) fn secret(parameters: &SaParameters) -> Result<EspSecret, Loss> {
    let Some(association) = parameters.associations.iter().find(|association| association.operation == Operation::Esp) else {
        return Err(Loss::whole("operation", "an esp_sa table has no AH"));
    };
    let encryption = match association.encryption {
        Encryption::Null => EspEncryption::Null,
        Encryption::DesCbc => EspEncryption::DesCbc,
        Encryption::TripleDesCbc => EspEncryption::TripleDesCbc,
        Encryption::AesCbc(_) => EspEncryption::AesCbc,
        Encryption::AesGcm(_) => match association.icv_length {
            8 => EspEncryption::AesGcm8,
            12 => EspEncryption::AesGcm12,
            _ => EspEncryption::AesGcm16,
        },
        Encryption::ChaCha20Poly1305 => EspEncryption::ChaCha20Poly1305,
    };
    let authentication = match association.authentication {
        Authentication::None => EspAuthentication::Null,
        Authentication::HmacMd5 => EspAuthentication::HmacMd5_96,
        Authentication::HmacSha1 => EspAuthentication::HmacSha1_96,
        Authentication::HmacSha256 => EspAuthentication::HmacSha256_128,
        Authentication::HmacSha384 => EspAuthentication::HmacSha384_192,
        Authentication::HmacSha512 => EspAuthentication::HmacSha512_256,
        gmac @ Authentication::AesGmac(_) => return Err(Loss::whole("authentication", format!("an esp_sa table has no {gmac}"))),
    };
    Ok(EspSecret {
        source: (!parameters.source.is_unspecified()).then(|| parameters.source.into()),
        destination: parameters.destination.into(),
        spi: association.spi,
        encryption,
        encryption_key: association.encryption_key.duplicate(),
        authentication,
        authentication_key: association.authentication_key.duplicate(),
        sequence_number_high: association.extended_sequence_numbers.then_some(association.sequence_number_high),
    })
}

/// What a table does not say of an SA that is in it.
fn losses_of(parameters: &SaParameters) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut lose = |is_lost: bool, field, why: &str| {
        if is_lost {
            losses.push(Loss::of(field, format!("an esp_sa table {why}")));
        }
    };
    lose(parameters.associations.len() > 1, "operation", "has no AH, only the ESP under it");
    lose(parameters.replay_window != SaParameters::DEFAULT_REPLAY_WINDOW, "replay-window", "has no replay window");
    lose(parameters.udp_encapsulation.is_some(), "udp-encapsulation", "does not say it; viewers look for ESP in UDP packets of port 4500");
    lose(parameters.inside.is_some(), "inside", "does not say it");
    lose(parameters.traffic_flow != TrafficFlow::NONE, "traffic-flow", "does not say it");
    lose(parameters.offload != OffloadPolicy::Prefer, "offload", "does not say it");
    lose(!parameters.selectors.is_empty(), "selectors", "has no selectors");
    lose(parameters.associations.iter().any(|association| association.sequence_number != 0), "sequence-number", "has no sequence numbers");
    losses
}
