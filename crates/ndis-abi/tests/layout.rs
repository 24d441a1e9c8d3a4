//! The crate against the table of the binary interface, `ndis-abi.json`: nothing differs, nothing is missing on either
//! side.
//!
//! The table was drawn from Microsoft's headers, symbol records and reference pages. The crate asserts the numbers of
//! the present target when it is compiled; this test compares the numbers of 64-bit and of 32-bit Windows on any host.

use std::collections::{BTreeMap, BTreeSet};

use ndis_abi::layout::{Both, FieldLayout, Parts, StructLayout};
use ndis_abi::table::{CONSTANTS, ENUMERATIONS, SIZES, STRUCTURES};
use ndis_abi::version::{ByVersion, MAX_NET_BUFFER_LIST_INFO, SIZEOF_BY_VERSION, VERSIONS};
use ndis_abi::{NDIS_NET_BUFFER_LIST_INFO, registry};
use serde_json::{Map, Value};

fn table() -> Value {
    serde_json::from_str(include_str!("ndis-abi.json")).expect("the table is JSON")
}

fn section<'a>(table: &'a Value, name: &str) -> &'a Map<String, Value> {
    table[name].as_object().unwrap_or_else(|| panic!("section {name}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// An architecture: its name in the table, and which number of the crate's pairs is its own.
#[derive(Clone, Copy)]
struct Arch {
    name: &'static str,
    of: fn(Both) -> usize,
    pointer: usize,
}

const ARCHS: [Arch; 2] = [Arch { name: "x64", of: |both| both.x64, pointer: 8 }, Arch { name: "x86", of: |both| both.x86, pointer: 4 }];

/// A field as both sides can state it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    offset: usize,
    size: usize,
    kind: String,
    /// Lowest bit and width, for a bit field.
    bits: Option<(u64, u64)>,
}

/// Structures with a name of their own, whose inside the table does not list.
const WITHOUT_ENTRY: [&str; 3] = ["GUID", "VXLAN_INFO", "VXLAN_PARAMETERS"];

/// Members whose C counterpart has no name: what they contain belongs to the structure around them.
fn is_anonymous(name: &str) -> bool {
    matches!(name, "Bits" | "Bits2" | "NetBufferHeader")
}

/// The crate's spelling of a type in the table's terms. Parts without a name of their own are "struct" in the table.
fn kind(field: &FieldLayout, named: bool, arch: Arch) -> String {
    if !named && !matches!(field.parts, Parts::Whole) {
        return "struct".into();
    }
    let name = field.type_name;
    let name = name.strip_prefix("MEMORY_ALLOCATION_ALIGNED<").and_then(|n| n.strip_suffix('>')).unwrap_or(name);
    let Some((element, length)) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')?.split_once("; ")) else {
        return name.into();
    };
    let length: usize = length.parse().expect("array lengths are numbers");
    if element == "POINTER_SIZED_BYTES" {
        return format!("UCHAR[{}]", length * arch.pointer);
    }
    if length == 0 { format!("{element}[]") } else { format!("{element}[{length}]") }
}

/// All fields that the crate declares, by their dotted names.
fn declared(layout: &StructLayout, names: &BTreeSet<&str>, arch: Arch) -> BTreeMap<String, Place> {
    fn walk(fields: &[FieldLayout], prefix: &str, base: usize, names: &BTreeSet<&str>, arch: Arch, found: &mut BTreeMap<String, Place>) {
        let mut add = |name: String, place: Place| {
            assert!(found.insert(name.clone(), place).is_none(), "{name} is declared once");
        };
        for field in fields {
            let offset = base + (arch.of)(field.offset);
            let size = (arch.of)(field.size);
            let anonymous = is_anonymous(field.name);
            let named = names.contains(field.type_name) || WITHOUT_ENTRY.contains(&field.type_name);
            let inner = if anonymous { prefix.to_owned() } else { format!("{prefix}{}.", field.name) };
            if !anonymous {
                let place = Place { offset, size, kind: kind(field, named, arch), bits: None };
                add(format!("{prefix}{}", field.name), place);
            }
            match field.parts {
                Parts::Bits(bits) if !named => {
                    for bit in bits {
                        let bits = Some((u64::from(bit.shift), u64::from(bit.width)));
                        add(format!("{inner}{}", bit.name), Place { offset, size, kind: word(size), bits });
                    }
                }
                Parts::Fields(fields) if !named => {
                    let mut parts = BTreeMap::new();
                    walk(fields, &inner, offset, names, arch, &mut parts);
                    for (name, place) in parts {
                        add(name, place);
                    }
                }
                _ => {}
            }
        }
    }

    let mut found = BTreeMap::new();
    walk(layout.fields, "", 0, names, arch, &mut found);
    found
}

fn word(size: usize) -> String {
    match size {
        2 => "USHORT".into(),
        _ => "ULONG".into(),
    }
}

/// All fields of the table's entry.
fn expected(entry: &Value) -> BTreeMap<String, Place> {
    let fields = entry["fields"].as_array().expect("fields");
    let places = fields.iter().map(|field| {
        let bits = field.get("bit_offset").map(|low| (number(low), number(&field["bit_width"])));
        let name = field["type"].as_str().expect("type");
        // The table writes pointers in two ways, and 32-bit words in two ways where they hold bit fields.
        let kind = match name.strip_suffix(" *") {
            Some(target) => format!("P{target}"),
            None if bits.is_some() && name == "UINT32" => "ULONG".into(),
            None => name.into(),
        };
        let place = Place { offset: number(&field["offset"]) as usize, size: number(&field["size"]) as usize, kind, bits };
        (field["name"].as_str().expect("name").to_owned(), place)
    });
    places.collect()
}

#[test]
fn structures_are_those_of_the_table() {
    let table = table();
    let entries = section(&table, "structs");
    let names: BTreeSet<&str> = entries.keys().map(String::as_str).collect();
    let ours: BTreeSet<&str> = STRUCTURES.iter().map(|layout| layout.name).collect();
    assert_eq!(ours, names);
    assert_eq!(STRUCTURES.len(), names.len(), "each structure is listed once");

    for layout in STRUCTURES {
        for arch in ARCHS {
            let entry = &entries[layout.name][arch.name];
            let what = format!("{} on {}", layout.name, arch.name);
            assert_eq!((arch.of)(layout.size) as u64, number(&entry["size"]), "size of {what}");
            assert_eq!((arch.of)(layout.align) as u64, number(&entry["align"]), "alignment of {what}");
            let ours = declared(layout, &names, arch);
            let theirs = expected(entry);
            for (name, place) in &theirs {
                assert_eq!(ours.get(name), Some(place), "{name} of {what}");
            }
            let extra: Vec<_> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
            assert!(extra.is_empty(), "{what} has fields that the table lacks: {extra:?}");
        }
    }
}

#[test]
fn constants_are_those_of_the_table() {
    let table = table();
    let expected: BTreeMap<&str, u64> = section(&table, "constants").iter().map(|(name, value)| (name.as_str(), number(value))).collect();
    let mut declared = BTreeMap::new();
    for constant in CONSTANTS.iter().copied().flatten() {
        let before = declared.insert(constant.name, u64::from(constant.value));
        assert!(before.is_none(), "{} is declared once", constant.name);
    }
    assert_eq!(declared, expected);

    for (name, value) in section(&table, "oids") {
        assert_eq!(declared.get(name.as_str()), Some(&number(value)), "{name}");
        assert!(ndis_abi::OIDS.iter().any(|oid| oid.name == name), "{name} is an OID");
    }
}

#[test]
fn enumerations_are_those_of_the_table() {
    let table = table();
    let expected: BTreeMap<String, BTreeMap<String, u64>> = section(&table, "enums")
        .iter()
        .map(|(name, values)| {
            let values = values.as_object().expect("enumerators");
            (name.clone(), values.iter().map(|(name, value)| (name.clone(), number(value))).collect())
        })
        .collect();
    let declared: BTreeMap<String, BTreeMap<String, u64>> = ENUMERATIONS
        .iter()
        .map(|all| {
            let values = all.enumerators.iter().map(|one| (one.name.to_owned(), u64::from(one.value)));
            (all.name.to_owned(), values.collect())
        })
        .collect();
    assert_eq!(declared, expected);
}

#[test]
fn sizes_by_revision_are_those_of_the_table() {
    let table = table();
    let mut expected = section(&table, "size_macros").clone();
    for size in SIZES.iter().copied().flatten() {
        let entry = expected.remove(size.name).unwrap_or_else(|| panic!("{} is in the table, once", size.name));
        for arch in ARCHS {
            assert_eq!((arch.of)(size.value) as u64, number(&entry[arch.name]), "{} on {}", size.name, arch.name);
        }
        let (_, field) = size.through.split_once('.').expect("structure and field");
        let through = entry["through"].as_str().expect("last field");
        assert_eq!(field, through.trim_end_matches(" (1 byte)"), "last field of {}", size.name);
    }
    assert!(expected.is_empty(), "sizes that the crate lacks: {:?}", expected.keys().collect::<Vec<_>>());
}

#[test]
fn slots_are_those_of_the_table() {
    let table = table();
    let mut expected = section(&table, "net_buffer_list_info_index").clone();
    for slot in NDIS_NET_BUFFER_LIST_INFO::SLOTS {
        let entry = expected.remove(slot.name).unwrap_or_else(|| panic!("{} is in the table, once", slot.name));
        assert_eq!(slot.x64.map(u64::from), entry["x64"].as_u64(), "{} on x64", slot.name);
        assert_eq!(slot.x86.map(u64::from), entry["x86"].as_u64(), "{} on x86", slot.name);
    }
    assert!(expected.is_empty(), "slots that the crate lacks: {:?}", expected.keys().collect::<Vec<_>>());
    assert_eq!(NDIS_NET_BUFFER_LIST_INFO::IPsecOffloadV2HeaderNetBufferListInfo.0, 12);
}

#[test]
fn forms_by_version_are_those_of_the_table() {
    fn compare(ours: &ByVersion, entry: &Value) {
        for (arch, numbers) in [("x64", ours.x64), ("x86", ours.x86)] {
            let theirs = entry[arch].as_object().expect("numbers by version");
            let ours_by_version: BTreeMap<_, _> = VERSIONS.iter().map(ToString::to_string).zip(numbers.map(u64::from)).collect();
            let theirs: BTreeMap<_, _> = theirs.iter().map(|(version, n)| (version.clone(), number(n))).collect();
            assert_eq!(ours_by_version, theirs, "{} on {arch}", ours.name);
        }
    }

    let table = table();
    let mut expected = section(&table, "sizeof_by_ndis_version").clone();
    for ours in SIZEOF_BY_VERSION {
        compare(ours, &expected.remove(ours.name).unwrap_or_else(|| panic!("{} is in the table", ours.name)));
        let full = STRUCTURES.iter().find(|layout| layout.name == ours.name).expect("a structure of this crate");
        assert_eq!(ours.x64.last().copied(), Some(full.size.x64 as u32), "the newest form of {}", ours.name);
        assert_eq!(ours.x86.last().copied(), Some(full.size.x86 as u32), "the newest form of {}", ours.name);
    }
    assert!(expected.is_empty(), "structures that the crate lacks: {expected:?}");
    compare(&MAX_NET_BUFFER_LIST_INFO, &table["max_net_buffer_list_info"]);
}

#[test]
fn keywords_are_those_of_the_table() {
    fn leading_number(text: &str) -> Option<u64> {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().ok()
    }

    let table = table();
    let parameters: Vec<String> = expected(&section(&table, "structs")["NDIS_OFFLOAD_PARAMETERS"]["x64"]).into_keys().collect();
    let mut expected = section(&table, "registry_keywords").clone();
    for keyword in registry::KEYWORDS {
        let entry = expected.remove(keyword.name).unwrap_or_else(|| panic!("{} is in the table, once", keyword.name));
        assert_eq!(keyword.display, entry["display"], "{}", keyword.name);
        let values = entry["values"].as_object().expect("values");
        let ours: BTreeMap<_, _> = keyword.values.iter().map(|(n, meaning)| (n.to_string(), *meaning)).collect();
        let theirs: BTreeMap<_, _> = values.iter().map(|(n, meaning)| (n.clone(), meaning.as_str().expect("meaning"))).collect();
        assert_eq!(ours, theirs, "values of {}", keyword.name);
        let default = entry["default"].as_str().expect("default");
        assert_eq!(keyword.default.map(u64::from), leading_number(default), "default of {}", keyword.name);
        let minimum = default.split_once("minimum ").and_then(|(_, rest)| leading_number(rest));
        assert_eq!(keyword.minimum.map(u64::from), minimum, "minimum of {}", keyword.name);
        let counterpart = entry["maps_to"].as_str().expect("counterpart").replace("NDIS_OFFLOAD_PARAMETERS.", "");
        let counterpart = parameters.iter().find(|name| **name == counterpart).map(String::as_str);
        assert_eq!(keyword.parameter, counterpart, "counterpart of {}", keyword.name);
    }
    assert!(expected.is_empty(), "keywords that the crate lacks: {:?}", expected.keys().collect::<Vec<_>>());

    let settings = table["registry_values"].as_array().expect("system settings");
    assert_eq!(registry::SYSTEM_SETTINGS.len(), settings.len());
    for (ours, theirs) in registry::SYSTEM_SETTINGS.iter().zip(settings) {
        assert_eq!(ours.key, theirs["key"]);
        assert_eq!(ours.value, theirs["value"]);
        let meanings = theirs["meaning"].as_object().expect("meanings");
        assert_eq!(ours.values.len(), meanings.len(), "{}", ours.value);
        for (n, meaning) in ours.values {
            assert_eq!(*meaning, meanings[&n.to_string()], "{} = {n}", ours.value);
        }
    }
}
