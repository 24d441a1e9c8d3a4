//! The grammar of a profile: sections, each a capability structure; in them fields, each a value or a value with its source.

use ndis::{ChecksumSet, Encapsulation, IcvLengths, IpsecOffloadV1, IpsecOffloadV2, LargeSendSet, LargeSendV2, NdisVersion, Offload, OffloadFlags};
use toml::de::DeTable;

use super::names::Named;
use super::{Confidence, Profile, Provenance};
use crate::text_file::error::{FileError, Problem, harmless, quote, quote_word};
use crate::text_file::reader::{Field, Fields, Source};

const TOP: &[&str] = &[
    "name",
    "title",
    "ndis",
    "notes",
    "ipsec-v2",
    "ipsec-v1",
    "lso-v1",
    "lso-v2-ipv4",
    "lso-v2-ipv6",
    "checksum-ipv4-transmit",
    "checksum-ipv4-receive",
    "checksum-ipv6-transmit",
    "checksum-ipv6-receive",
    "coexistence",
];
pub(super) const IPSEC_V2: &[&str] = &[
    "encapsulation",
    "ipv6-supported",
    "ipv4-options",
    "ipv6-non-ipsec-extension-headers",
    "ah",
    "esp",
    "ah-esp-combined",
    "transport",
    "tunnel",
    "transport-tunnel-combined",
    "lso-supported",
    "extended-sequence-numbers",
    "udp-esp",
    "authentication-algorithms",
    "encryption-algorithms",
    "icv-lengths",
    "sa-offload-capacity",
    "lso-tunnel",
];
pub(super) const IPSEC_V1: &[&str] = &[
    "encapsulation",
    "ah-esp-combined",
    "transport-tunnel-combined",
    "ipv4-options",
    "udp-esp-flags",
    "ah-md5",
    "ah-sha1",
    "ah-transport",
    "ah-tunnel",
    "ah-send",
    "ah-receive",
    "esp-des",
    "esp-3des",
    "esp-null",
    "esp-transport",
    "esp-tunnel",
    "esp-send",
    "esp-receive",
    "sa-capacity",
];
const LARGE_SEND: &[&str] = &["encapsulation", "max-offload-size", "min-segment-count", "tcp-options", "ip-options", "udp"];
const CHECKSUM: &[&str] = &["encapsulation", "ip-options", "tcp-options", "tcp", "udp", "ip"];
const COEXISTENCE: &[&str] = &["tcp-checksum", "udp-checksum"];
const VALUE: &[&str] = &["value", "source", "confidence"];

pub(super) fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> FileError {
    let before = String::from_utf8_lossy(error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default()).into_owned();
    Source { file, text: &before }.error(before.len(), Problem::Utf8)
}

pub(super) fn parse(text: &str, file: &str) -> Result<Profile, FileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { file, text };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, Problem::Syntax(harmless(error.message())))
    })?;
    let mut top = Fields::new(source, 0, document.into_inner(), TOP)?;
    let name = word(&top.require("name", "a name of the profile")?)?;
    let title = top.take("title").map_or(Ok(String::new()), |field| line(&field))?;
    let version = top.take("ndis").map_or(Ok(NdisVersion::V6_30), |field| version(&field))?;
    let notes = match top.take("notes") {
        Some(field) => field.texts("an array of texts")?.into_iter().map(|(_, text)| text).collect(),
        None => Vec::new(),
    };
    let mut values = Values { provenance: Vec::new() };
    let places = [top.position_of("ipsec-v2"), top.position_of("ipsec-v1")];
    let offload = offload(&mut values, &mut top)?;
    check(source, places, version, &offload)?;
    Ok(Profile { name, title, version, notes, offload: offload.normalized(), provenance: values.provenance })
}

/// What no adapter may report is no profile either.
fn check(source: Source<'_>, [v2_at, v1_at]: [usize; 2], version: NdisVersion, offload: &Offload) -> Result<(), FileError> {
    let invalid = |field, found: &str, allowed: &str| {
        let at = if field == "ipsec-v1" { v1_at } else { v2_at };
        source.error(at, Problem::Invalid { field, found: found.into(), allowed: allowed.into() })
    };
    let v2 = &offload.ipsec_v2;
    if v2.is_supported() && !version.has_ipsec_v2() {
        return Err(invalid("ipsec-v2", "an adapter of NDIS 6.0", "IPsecOV2 exists from NDIS 6.1"));
    }
    if v2.is_supported() && !v2.encapsulation.contains(Encapsulation::IEEE_802_3) {
        return Err(invalid("ipsec-v2", "no encapsulation \"ieee-802.3\"", "it is mandatory"));
    }
    if v2.is_supported() && v2.sa_offload_capacity == 0 {
        return Err(invalid("ipsec-v2", "sa-offload-capacity 0", "at least 1 allowed"));
    }
    if offload.ipsec_v1.is_supported() && !version.has_ipsec_v1() {
        return Err(invalid("ipsec-v1", "an adapter of NDIS 6.30", "IPsecOV1 exists up to NDIS 6.20"));
    }
    Ok(())
}

fn offload(values: &mut Values, top: &mut Fields<'_, '_>) -> Result<Offload, FileError> {
    let mut offload = Offload::default();
    if let Some(mut section) = Section::take(top, "ipsec-v2", IPSEC_V2)? {
        offload.ipsec_v2 = ipsec_v2(values, &mut section)?;
    }
    if let Some(mut section) = Section::take(top, "ipsec-v1", IPSEC_V1)? {
        offload.ipsec_v1 = ipsec_v1(values, &mut section)?;
    }
    let LargeSendV2 { ipv4, ipv6 } = &mut offload.lso_v2;
    for (name, set) in [("lso-v1", &mut offload.lso_v1), ("lso-v2-ipv4", ipv4), ("lso-v2-ipv6", ipv6)] {
        if let Some(mut section) = Section::take(top, name, LARGE_SEND)? {
            *set = large_send(values, &mut section)?;
        }
    }
    let sets = &mut offload.checksum;
    for (name, set) in [
        ("checksum-ipv4-transmit", &mut sets.ipv4_transmit),
        ("checksum-ipv4-receive", &mut sets.ipv4_receive),
        ("checksum-ipv6-transmit", &mut sets.ipv6_transmit),
        ("checksum-ipv6-receive", &mut sets.ipv6_receive),
    ] {
        if let Some(mut section) = Section::take(top, name, CHECKSUM)? {
            *set = checksum(values, &mut section)?;
        }
    }
    if let Some(mut section) = Section::take(top, "coexistence", COEXISTENCE)? {
        for (name, flag) in
            [("tcp-checksum", OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE), ("udp-checksum", OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE)]
        {
            offload.flags.set(flag, values.flag(&mut section, name)?);
        }
    }
    Ok(offload)
}

fn ipsec_v2(values: &mut Values, section: &mut Section<'_, '_>) -> Result<IpsecOffloadV2, FileError> {
    let taken: Option<IcvLengths> = values.numbers_mask(section, "icv-lengths")?;
    Ok(IpsecOffloadV2 {
        encapsulation: values.mask(section, "encapsulation")?,
        ipv6_supported: values.flag(section, "ipv6-supported")?,
        ipv4_options: values.flag(section, "ipv4-options")?,
        ipv6_non_ipsec_extension_headers: values.flag(section, "ipv6-non-ipsec-extension-headers")?,
        ah: values.flag(section, "ah")?,
        esp: values.flag(section, "esp")?,
        ah_esp_combined: values.flag(section, "ah-esp-combined")?,
        transport: values.flag(section, "transport")?,
        tunnel: values.flag(section, "tunnel")?,
        transport_tunnel_combined: values.flag(section, "transport-tunnel-combined")?,
        lso_supported: values.flag(section, "lso-supported")?,
        extended_sequence_numbers: values.flag(section, "extended-sequence-numbers")?,
        udp_esp: values.mask(section, "udp-esp")?,
        authentication_algorithms: values.mask(section, "authentication-algorithms")?,
        encryption_algorithms: values.mask(section, "encryption-algorithms")?,
        sa_offload_capacity: values.number(section, "sa-offload-capacity", u32::MAX)?,
        ext_refused_icv_lengths: taken.map_or(IcvLengths::empty(), |taken| IcvLengths::all() - taken),
        ext_lso_tunnel: values.flag(section, "lso-tunnel")?,
    })
}

fn ipsec_v1(values: &mut Values, section: &mut Section<'_, '_>) -> Result<IpsecOffloadV1, FileError> {
    let mut set = IpsecOffloadV1 {
        encapsulation: values.mask(section, "encapsulation")?,
        ah_esp_combined: values.flag(section, "ah-esp-combined")?,
        transport_tunnel_combined: values.flag(section, "transport-tunnel-combined")?,
        ipv4_options: values.flag(section, "ipv4-options")?,
        flags: values.number(section, "udp-esp-flags", u32::MAX)?,
        ext_sa_capacity: values.number(section, "sa-capacity", u32::MAX)?,
        ..IpsecOffloadV1::default()
    };
    let (ah, esp) = (&mut set.ipv4_ah, &mut set.ipv4_esp);
    for (name, member) in [
        ("ah-md5", &mut ah.md5),
        ("ah-sha1", &mut ah.sha_1),
        ("ah-transport", &mut ah.transport),
        ("ah-tunnel", &mut ah.tunnel),
        ("ah-send", &mut ah.send),
        ("ah-receive", &mut ah.receive),
        ("esp-des", &mut esp.des),
        ("esp-3des", &mut esp.triple_des),
        ("esp-null", &mut esp.null_esp),
        ("esp-transport", &mut esp.transport),
        ("esp-tunnel", &mut esp.tunnel),
        ("esp-send", &mut esp.send),
        ("esp-receive", &mut esp.receive),
    ] {
        *member = values.flag(section, name)?;
    }
    Ok(set)
}

fn large_send(values: &mut Values, section: &mut Section<'_, '_>) -> Result<LargeSendSet, FileError> {
    Ok(LargeSendSet {
        encapsulation: values.mask(section, "encapsulation")?,
        max_offload_size: values.number(section, "max-offload-size", u32::MAX)?,
        min_segment_count: values.number(section, "min-segment-count", u32::MAX)?,
        tcp_options: values.flag(section, "tcp-options")?,
        ip_options: values.flag(section, "ip-options")?,
        ext_udp: values.flag(section, "udp")?,
    })
}

fn checksum(values: &mut Values, section: &mut Section<'_, '_>) -> Result<ChecksumSet, FileError> {
    Ok(ChecksumSet {
        encapsulation: values.mask(section, "encapsulation")?,
        ip_options_supported: values.flag(section, "ip-options")?,
        tcp_options_supported: values.flag(section, "tcp-options")?,
        tcp_checksum: values.flag(section, "tcp")?,
        udp_checksum: values.flag(section, "udp")?,
        ip_checksum: values.flag(section, "ip")?,
    })
}

/// One capability structure of the file.
struct Section<'s, 'a> {
    name: &'static str,
    fields: Fields<'s, 'a>,
}

impl<'s, 'a> Section<'s, 'a> {
    fn take(top: &mut Fields<'s, 'a>, name: &'static str, known: &'static [&'static str]) -> Result<Option<Self>, FileError> {
        let Some(field) = top.take(name) else { return Ok(None) };
        let source = field.source;
        let (at, table): (usize, DeTable<'a>) = field.table("a table expected")?;
        Ok(Some(Self { name, fields: Fields::new(source, at, table, known)? }))
    }
}

/// Takes values, and notes where they are known from.
struct Values {
    provenance: Vec<Provenance>,
}

impl Values {
    /// The value of a field, out of the table that tells its source if it is in one.
    fn take<'s, 'a>(&mut self, section: &mut Section<'s, 'a>, name: &'static str) -> Result<Option<Field<'s, 'a>>, FileError> {
        let Some(field) = section.fields.take(name) else { return Ok(None) };
        let mut provenance = Provenance { field: format!("{}.{name}", section.name), source: String::new(), confidence: None };
        let value = if field.is_table() {
            let source = field.source;
            let (at, table) = field.table("a table expected")?;
            let mut fields = Fields::new(source, at, table, VALUE)?;
            if let Some(source) = fields.take("source") {
                provenance.source = line(&source)?;
            }
            provenance.confidence = fields.take("confidence").map(|field| confidence(&field)).transpose()?;
            // Errors about it are about the field.
            fields.require("value", format!("the value of {name}"))?.renamed(name)
        } else {
            field
        };
        self.provenance.push(provenance);
        Ok(Some(value))
    }

    fn flag(&mut self, section: &mut Section<'_, '_>, name: &'static str) -> Result<bool, FileError> {
        self.take(section, name)?.map_or(Ok(false), |field| field.boolean())
    }

    fn number(&mut self, section: &mut Section<'_, '_>, name: &'static str, most: u32) -> Result<u32, FileError> {
        self.take(section, name)?.map_or(Ok(0), |field| field.integer(0, i128::from(most), &format!("0 to {most}")))
    }

    fn mask<M: Named>(&mut self, section: &mut Section<'_, '_>, name: &'static str) -> Result<M, FileError> {
        let Some(field) = self.take(section, name)? else { return Ok(M::default()) };
        let source = field.source;
        let mut mask = M::default();
        for (at, text) in field.texts("an array of names")? {
            let invalid = || Problem::Invalid { field: name, found: quote_word(&text, |_| false), allowed: format!("{} allowed", M::allowed()) };
            mask |= M::of_name(&text).ok_or_else(|| source.error(at, invalid()))?;
        }
        Ok(mask)
    }

    /// A mask whose bits are written as numbers.
    fn numbers_mask<M: Named>(&mut self, section: &mut Section<'_, '_>, name: &'static str) -> Result<Option<M>, FileError> {
        let Some(field) = self.take(section, name)? else { return Ok(None) };
        let source = field.source;
        let mut mask = M::default();
        for (at, number) in field.integers("an array of numbers")? {
            let invalid = || Problem::Invalid { field: name, found: number.to_string(), allowed: format!("{} allowed", M::allowed()) };
            mask |= M::of_name(&number.to_string()).ok_or_else(|| source.error(at, invalid()))?;
        }
        Ok(Some(mask))
    }
}

fn line(field: &Field<'_, '_>) -> Result<String, FileError> {
    match field.text("a text")? {
        text if text.chars().any(char::is_control) => Err(field.invalid(quote(text), "a text without control characters expected")),
        text => Ok(text.to_owned()),
    }
}

fn word(field: &Field<'_, '_>) -> Result<String, FileError> {
    let good = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte));
    match field.text("a text")? {
        text if good(text) => Ok(text.to_owned()),
        text => Err(field.invalid(quote(text), "a name of lower-case letters, digits, \"-\", \".\", \"_\" expected")),
    }
}

fn version(field: &Field<'_, '_>) -> Result<NdisVersion, FileError> {
    const VERSIONS: [(&str, NdisVersion); 4] =
        [("6.0", NdisVersion::V6_0), ("6.1", NdisVersion::V6_1), ("6.20", NdisVersion::V6_20), ("6.30", NdisVersion::V6_30)];
    let text = field.text("a text")?;
    let found = VERSIONS.iter().find(|(name, _)| *name == text);
    found.map(|(_, version)| *version).ok_or_else(|| field.invalid(quote_word(text, |_| false), "\"6.0\", \"6.1\", \"6.20\" or \"6.30\" allowed"))
}

fn confidence(field: &Field<'_, '_>) -> Result<Confidence, FileError> {
    let text = field.text("a text")?;
    let found = Confidence::ALL.into_iter().find(|confidence| confidence.name() == text);
    found.ok_or_else(|| field.invalid(quote_word(text, |_| false), "\"confirmed\", \"inferred\" or \"unknown\" allowed"))
}
