//! Algorithms as Linux names them (`net/xfrm/xfrm_algo.c`), with their lengths.

use ipsec::AesKeySize::{Aes128, Aes192, Aes256};
use ipsec::{Authentication, Encryption};
use secret::SecretBytes;

use super::super::checks::{self, Keyed};
use super::super::error::{FileError, quote_word};
use super::lines::{Line, Word};

/// Names (the kernel's own first), what they can be.
const ENCRYPTIONS: [(&[&str], &[Encryption]); 4] = [
    (&["ecb(cipher_null)", "cipher_null"], &[Encryption::Null]),
    (&["cbc(des)", "des"], &[Encryption::DesCbc]),
    (&["cbc(des3_ede)", "des3_ede"], &[Encryption::TripleDesCbc]),
    (&["cbc(aes)", "aes"], &[Encryption::AesCbc(Aes128), Encryption::AesCbc(Aes192), Encryption::AesCbc(Aes256)]),
];

/// Names, what they are, and the bits of ICV that they have by default.
const AUTHENTICATIONS: [(&[&str], Authentication, u32); 6] = [
    (&["digest_null"], Authentication::None, 0),
    (&["hmac(md5)", "md5"], Authentication::HmacMd5, 96),
    (&["hmac(sha1)", "sha1"], Authentication::HmacSha1, 96),
    (&["hmac(sha256)", "sha256"], Authentication::HmacSha256, 96),
    (&["hmac(sha384)", "sha384"], Authentication::HmacSha384, 192),
    (&["hmac(sha512)", "sha512"], Authentication::HmacSha512, 256),
];

const GCM: &str = "rfc4106(gcm(aes))";
const CHACHA20: &str = "rfc7539esp(chacha20,poly1305)";
const GMAC: &str = "rfc4543(gcm(aes))";

/// What Linux has beyond that, so that it is refused by its name.
const OTHERS: [&str; 22] = [
    "cbc(cast5)",
    "cast5",
    "cbc(blowfish)",
    "blowfish",
    "cbc(serpent)",
    "serpent",
    "cbc(camellia)",
    "camellia",
    "cbc(twofish)",
    "twofish",
    "cbc(sm4)",
    "rfc3686(ctr(aes))",
    "rfc3686(ctr(sm4))",
    "rfc4309(ccm(aes))",
    "hmac(rmd160)",
    "rmd160",
    "ripemd160",
    "hmac(sm3)",
    "xcbc(aes)",
    "cmac(aes)",
    "hmac(sha224)",
    "deflate",
];

/// An algorithm with its key.
pub(super) enum Algorithm {
    /// `enc`.
    Encryption(Encryption, SecretBytes),
    /// `auth` and `auth-trunc`.
    Authentication(Authentication, SecretBytes),
    /// `aead` that encrypts, with the bytes of its ICV.
    Combined(Encryption, SecretBytes, u8),
    /// `aead` that does not: AES-GMAC.
    Gmac(Authentication, SecretBytes),
}

/// The name that Linux has for it.
pub(super) fn encryption_name(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::AesGcm(_) => GCM,
        Encryption::ChaCha20Poly1305 => CHACHA20,
        other => ENCRYPTIONS.iter().find(|(_, forms)| forms.contains(&other)).and_then(|(names, _)| names.first()).copied().unwrap_or_default(),
    }
}

/// The name that Linux has for it.
pub(super) fn authentication_name(authentication: Authentication) -> &'static str {
    match authentication {
        Authentication::AesGmac(_) => GMAC,
        other => AUTHENTICATIONS.iter().find(|(_, form, _)| *form == other).and_then(|(names, ..)| names.first()).copied().unwrap_or_default(),
    }
}

/// Reads what follows `kind`: the name, the key, the bits of the ICV.
pub(super) fn read(line: &mut Line<'_>, kind: Word<'_>) -> Result<Algorithm, FileError> {
    let name = line.require("an algorithm")?;
    match kind.text {
        "enc" => {
            let forms = ENCRYPTIONS.iter().find(|(names, _)| names.contains(&name.text)).map(|(_, forms)| *forms);
            let forms = forms.ok_or_else(|| unknown(line, name, &ENCRYPTIONS.map(|(names, _)| names.first().copied().unwrap_or_default())))?;
            let (form, key) = key(line, name, forms)?;
            Ok(Algorithm::Encryption(form, key))
        }
        "aead" => {
            if name.text == GMAC {
                let forms = [Aes128, Aes192, Aes256].map(Authentication::AesGmac);
                let (form, key) = key(line, name, &forms)?;
                bits(line, name, &[128])?;
                return Ok(Algorithm::Gmac(form, key));
            }
            let forms: &[Encryption] = match name.text {
                GCM => &[Encryption::AesGcm(Aes128), Encryption::AesGcm(Aes192), Encryption::AesGcm(Aes256)],
                CHACHA20 => &[Encryption::ChaCha20Poly1305],
                _ => return Err(unknown(line, name, &[GCM, CHACHA20, GMAC])),
            };
            let (form, key) = key(line, name, forms)?;
            let lengths: Vec<u32> = form.icv_lengths().iter().map(|bytes| *bytes as u32 * 8).collect();
            let icv = bits(line, name, &lengths)?;
            Ok(Algorithm::Combined(form, key, (icv / 8) as u8))
        }
        _ => {
            let known = AUTHENTICATIONS.iter().find(|(names, ..)| names.contains(&name.text));
            let &(_, form, default) =
                known.ok_or_else(|| unknown(line, name, &AUTHENTICATIONS.map(|(names, ..)| names.first().copied().unwrap_or_default())))?;
            let wanted = form.icv_length() as u32 * 8;
            if kind.text == "auth" && default != wanted {
                // it means 96 bits, and nothing else in the text says so.
                let found = format!("{} without a length, which is {default} bits,", name.text);
                return Err(line.invalid(name.at, found, format!("only {wanted} bits (RFC 4868) are supported: auth-trunc {} KEY {wanted}", name.text)));
            }
            // A null digest is given a key, whatever it is, because the command wants one.
            let key = if form == Authentication::None { any_key(line, kind.text == "auth-trunc") } else { key(line, name, &[form])?.1 };
            if kind.text == "auth-trunc" {
                bits(line, name, &[wanted])?;
            }
            Ok(Algorithm::Authentication(form, key))
        }
    }
}

fn unknown(line: &Line<'_>, name: Word<'_>, allowed: &[&str]) -> FileError {
    // In a wrong line an algorithm has its right name.
    let is_known = |text: &str| {
        OTHERS.contains(&text)
            || [GCM, CHACHA20, GMAC].contains(&text)
            || ENCRYPTIONS.iter().any(|(names, _)| names.contains(&text))
            || AUTHENTICATIONS.iter().any(|(names, ..)| names.contains(&text))
    };
    let found = if is_known(name.text) { format!("{:?}", name.text) } else { quote_word(name.text, |_| false) };
    line.invalid(name.at, found, format!("allowed: {}", allowed.join(", ")))
}

/// The key, whose length says which of `forms` it is. What `ip` prints in place of a key that it hides, or cannot print, is told apart.
fn key<T: Keyed>(line: &mut Line<'_>, name: Word<'_>, forms: &[T]) -> Result<(T, SecretBytes), FileError> {
    let is_key = |word: Word<'_>| word.text.starts_with("0x");
    let at = line.peek().map_or(name.at, |word| word.at);
    let key = match line.peek() {
        Some(word) if is_key(word) => {
            line.next();
            checks::key_bytes(word.text).map_err(|found| line.invalid(word.at, found, checks::HEX_EXPECTED))?
        }
        Some(word) if word.text.starts_with("<<") => {
            return Err(line.invalid(word.at, "a hidden key", "the key expected: ip xfrm state without nokeys, run as root, prints it"));
        }
        Some(word) if word.text.starts_with("(ERROR") => {
            return Err(line.invalid(word.at, "an error of ip in place of the key", "0x and hexadecimal digits expected"));
        }
        // `ip` prints nothing for a key without bytes; a length may follow.
        Some(word) if !word.text.starts_with('(') && !is_number(word) => {
            return Err(line.invalid(word.at, "no 0x before the key", "0x and hexadecimal digits expected"));
        }
        _ => SecretBytes::default(),
    };
    let form = checks::by_key_length(name.text, key.len(), forms).map_err(|takes| line.invalid(at, checks::bytes(key.len()), takes))?;
    in_bits(line);
    Ok((form, key))
}

/// Reads over the key of an algorithm that has none; what is the line's last word is a length if there has to be one.
fn any_key(line: &mut Line<'_>, has_length: bool) -> SecretBytes {
    if let Some(word) = line.peek()
        && (word.text.starts_with("0x") || !has_length)
    {
        line.next();
    }
    in_bits(line);
    SecretBytes::default()
}

/// Reads over the length of the key, which `ip -s` prints: `(128 bits)`.
fn in_bits(line: &mut Line<'_>) {
    if line.peek().is_some_and(|word| word.text.strip_prefix('(').is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))) {
        line.next();
        line.take("bits)");
    }
}

fn is_number(word: Word<'_>) -> bool {
    word.text.len() < 4 && word.text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The bits of the ICV, which have to be among `allowed`.
fn bits(line: &mut Line<'_>, name: Word<'_>, allowed: &[u32]) -> Result<u32, FileError> {
    let word = line.require("the length of the ICV in bits")?;
    checks::number(word.text).filter(|bits| allowed.contains(bits)).ok_or_else(|| {
        let takes = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = if is_number(word) { format!("{} bits", word.text) } else { "no number".to_owned() };
        line.invalid(word.at, found, format!("{} takes {takes}", name.text))
    })
}
