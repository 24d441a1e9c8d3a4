//! `ipsecov2 caps`.

use std::fmt::Write as _;

use bitflags::Flags;
use clap::Args;
use ipsec::Crypto;
use ndis::{ChecksumSet, IpsecService, LargeSendSet, Offload};
use packet::Medium;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::output::{self, Failure};
use crate::host::{ADAPTER, Host, HostConfig};
use crate::profile::Profile;

/// The name of the document's form.
const SCHEMA: &str = "ipsecov2-caps-1";

const EXAMPLES: &str = "\
Examples:
  ipsecov2 caps
  ipsecov2 caps --profile intel-82599
  ipsecov2 caps --json | jq '.current.ipsec_v2.encryption_algorithms'

Hardware capabilities are what the adapter could do, whatever its keywords say; the default configuration is what the keywords leave of it; the current
configuration is what may be used now. docs/json.md describes the document.";

/// Arguments of `caps`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The NIC: one that the program knows, or a profile's file.
    #[arg(long, value_name = "NAME|FILE", default_value = "software")]
    profile: String,
    /// Writes a JSON document.
    #[arg(long)]
    json: bool,
}

/// What an adapter reports.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    adapter: String,
    ndis_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipsec_service: Option<&'static str>,
    medium: &'static str,
    mtu: u32,
    hardware: Value,
    default: Value,
    current: Value,
}

pub(super) fn run(arguments: &Arguments, crypto: Crypto) -> Result<(), Failure> {
    let profile = Profile::find(&arguments.profile).map_err(Failure::usage)?;
    let host = Host::new(&HostConfig { crypto, ..HostConfig::default() }.with_profile(&profile)).map_err(Failure::failed)?;
    let status = |what: &str, status: ndis::Status| Failure::failed(format_args!("{ADAPTER}: {what}: {status}"));
    let operator = host.operator();
    let bound = operator.bind_parameters().ok_or_else(|| Failure::failed(format_args!("{ADAPTER}: it is not bound")))?;
    let hardware = operator.hardware_capabilities().map_err(|error| status("OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES", error))?;
    let current = operator.current_config().map_err(|error| status("OID_TCP_OFFLOAD_CURRENT_CONFIG", error))?;
    let document = Document {
        schema: SCHEMA,
        adapter: bound.adapter.clone(),
        ndis_version: bound.version.to_string(),
        ipsec_service: hardware.ipsec_service(bound.version).map(IpsecService::name),
        medium: match bound.medium {
            Medium::Ethernet => "ethernet",
            Medium::Ip => "ip",
        },
        mtu: bound.mtu,
        hardware: capabilities(&hardware),
        default: capabilities(&bound.default_offload_configuration),
        current: capabilities(&current),
    };
    if arguments.json { output::print_json(&document) } else { output::print(&table(&document)) }
}

/// A capability set as a document: services, and in each its members.
pub(super) fn capabilities(offload: &Offload) -> Value {
    let v2 = &offload.ipsec_v2;
    let (v1, ah, esp) = (&offload.ipsec_v1, &offload.ipsec_v1.ipv4_ah, &offload.ipsec_v1.ipv4_esp);
    json!({
        "ipsec_v2": {
            "encapsulation": names(&v2.encapsulation),
            "ah": v2.ah,
            "esp": v2.esp,
            "ah_esp_combined": v2.ah_esp_combined,
            "transport": v2.transport,
            "tunnel": v2.tunnel,
            "transport_tunnel_combined": v2.transport_tunnel_combined,
            "ipv6_supported": v2.ipv6_supported,
            "ipv4_options": v2.ipv4_options,
            "ipv6_non_ipsec_extension_headers": v2.ipv6_non_ipsec_extension_headers,
            "extended_sequence_numbers": v2.extended_sequence_numbers,
            "lso_supported": v2.lso_supported,
            "udp_esp": names(&v2.udp_esp),
            "authentication_algorithms": names(&v2.authentication_algorithms),
            "encryption_algorithms": names(&v2.encryption_algorithms),
            "sa_offload_capacity": v2.sa_offload_capacity,
            "ext_refused_icv_lengths": names(&v2.ext_refused_icv_lengths),
            "ext_lso_tunnel": v2.ext_lso_tunnel,
        },
        "ipsec_v1": {
            "encapsulation": names(&v1.encapsulation),
            "ah_esp_combined": v1.ah_esp_combined,
            "transport_tunnel_combined": v1.transport_tunnel_combined,
            "ipv4_options": v1.ipv4_options,
            "flags": v1.flags,
            "ah_md5": ah.md5,
            "ah_sha_1": ah.sha_1,
            "ah_transport": ah.transport,
            "ah_tunnel": ah.tunnel,
            "ah_send": ah.send,
            "ah_receive": ah.receive,
            "esp_des": esp.des,
            "esp_triple_des": esp.triple_des,
            "esp_null": esp.null_esp,
            "esp_transport": esp.transport,
            "esp_tunnel": esp.tunnel,
            "esp_send": esp.send,
            "esp_receive": esp.receive,
            "ext_sa_capacity": v1.ext_sa_capacity,
        },
        "lso_v1": large_send(&offload.lso_v1),
        "lso_v2_ipv4": large_send(&offload.lso_v2.ipv4),
        "lso_v2_ipv6": large_send(&offload.lso_v2.ipv6),
        "checksum_ipv4_transmit": checksum(&offload.checksum.ipv4_transmit),
        "checksum_ipv4_receive": checksum(&offload.checksum.ipv4_receive),
        "checksum_ipv6_transmit": checksum(&offload.checksum.ipv6_transmit),
        "checksum_ipv6_receive": checksum(&offload.checksum.ipv6_receive),
        "flags": names(&offload.flags),
    })
}

fn large_send(set: &LargeSendSet) -> Value {
    json!({
        "encapsulation": names(&set.encapsulation),
        "max_offload_size": set.max_offload_size,
        "min_segment_count": set.min_segment_count,
        "tcp_options": set.tcp_options,
        "ip_options": set.ip_options,
        "ext_udp": set.ext_udp,
    })
}

fn checksum(set: &ChecksumSet) -> Value {
    json!({
        "encapsulation": names(&set.encapsulation),
        "ip_checksum": set.ip_checksum,
        "tcp_checksum": set.tcp_checksum,
        "udp_checksum": set.udp_checksum,
        "ip_options_supported": set.ip_options_supported,
        "tcp_options_supported": set.tcp_options_supported,
    })
}

/// The names of the bits that are set.
fn names<B: Flags>(flags: &B) -> Value {
    flags.iter_names().map(|(name, _)| name).collect()
}

/// What is in a service of one of the three sets.
fn service<'a>(set: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    set.get(name).and_then(Value::as_object)
}

/// The three sets beside one another, for people.
fn table(document: &Document) -> String {
    let mut text = format!("adapter {}: NDIS {}, {}, MTU {}\n", document.adapter, document.ndis_version, document.medium, document.mtu);
    let sets = [&document.hardware, &document.default, &document.current];
    let mut absent = Vec::new();
    for name in document.hardware.as_object().into_iter().flatten().map(|(name, _)| name) {
        let Some(members) = service(&document.hardware, name) else { continue };
        let offered = sets.iter().any(|set| service(set, name).is_some_and(|members| members.get("encapsulation") != Some(&json!([]))));
        if !offered {
            absent.push(name.as_str());
            continue;
        }
        // Writing into a string does not fail.
        let _ = writeln!(text, "\n{name:<34} {:<14} {:<14} current", "hardware", "default");
        for member in members.keys() {
            let values = sets.map(|set| service(set, name).and_then(|members| members.get(member)).unwrap_or(&Value::Null));
            let all = values.iter().filter_map(|value| value.as_array()).flatten().filter_map(Value::as_str);
            let mut bits: Vec<&str> = all.collect();
            bits.sort_unstable();
            bits.dedup();
            let title = format!("  {member}");
            if values[0].is_array() && !bits.is_empty() {
                let _ = writeln!(text, "{title}");
                for bit in bits {
                    let has = values.map(|value| if value.as_array().is_some_and(|bits| bits.contains(&json!(bit))) { "yes" } else { "no" });
                    let _ = writeln!(text, "    {bit:<30} {:<14} {:<14} {}", has[0], has[1], has[2]);
                }
            } else {
                let shown = values.map(show);
                let _ = writeln!(text, "{title:<34} {:<14} {:<14} {}", shown[0], shown[1], shown[2]);
            }
        }
    }
    let flags = sets.map(|set| set.get("flags").map(show).unwrap_or_default());
    let _ = writeln!(text, "\n{:<34} {:<14} {:<14} {}", "flags", flags[0], flags[1], flags[2]);
    if !absent.is_empty() {
        let _ = writeln!(text, "not offered: {}", absent.join(", "));
    }
    text
}

fn show(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(bits) if bits.is_empty() => "none".to_owned(),
        Value::Array(bits) => bits.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
