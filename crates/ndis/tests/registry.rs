//! The registry: what is stored is read, senseless values are reported, and a file stays whole (OV2-CAP-5, OV2-CAP-8).

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use ndis::{
    AdapterKeywords, FileRegistry, IpsecSetting, Keyword, MemoryRegistry, OffloadParameters, Registry, RegistryError, SystemSettings, SystemValue, TxRx,
};
use proptest::prelude::*;

fn texts(registry: &dyn Registry, adapter: &str) -> BTreeMap<Keyword, String> {
    registry.adapter(adapter).unwrap().into_iter().map(|(keyword, stored)| (keyword, stored.text)).collect()
}

fn file_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn both_kinds_keep_what_is_set_and_forget_what_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = FileRegistry::open(directory.path().join("registry")).unwrap();
    let memory = MemoryRegistry::new();
    for registry in [&memory as &dyn Registry, &file] {
        assert_eq!(registry.get("nic0", Keyword::IpsecV2).unwrap(), None);
        registry.set("nic0", Keyword::IpsecV2, 2).unwrap();
        registry.set("nic 1]", Keyword::IpsecV2, 0).unwrap();
        registry.set_system(SystemValue::EnabledOffload, 0).unwrap();
        assert_eq!(registry.get("nic0", Keyword::IpsecV2).unwrap().unwrap().text, "2");
        assert_eq!(registry.get("nic 1]", Keyword::IpsecV2).unwrap().unwrap().text, "0");
        assert_eq!(registry.get("nic2", Keyword::IpsecV2).unwrap(), None);
        assert!(!SystemSettings::read(registry).unwrap().ipsec_offload_enabled);
        registry.remove_system(SystemValue::EnabledOffload).unwrap();
        assert_eq!(SystemSettings::read(registry).unwrap(), SystemSettings::default());
        registry.remove("nic0", Keyword::IpsecV2).unwrap();
        registry.remove("nic0", Keyword::IpsecV2).unwrap();
        assert_eq!(texts(registry, "nic0"), BTreeMap::new());

        let refused = registry.change_adapter("nic0", &[(Keyword::LsoV1Ipv4, Some(0)), (Keyword::LsoV2Ipv4, Some(2))]).unwrap_err();
        assert_eq!(refused.to_string(), "*LsoV2IPv4: \"2\" found, 0 (disabled) or 1 (enabled) allowed");
        assert_eq!(texts(registry, "nic0"), BTreeMap::new(), "all or nothing");
        for name in ["", " nic", "nic\n[system]", "nic\0"] {
            assert!(matches!(registry.set(name, Keyword::LsoV1Ipv4, 0), Err(RegistryError::AdapterName { .. })), "{name:?}");
        }
        assert!(registry.set_system(SystemValue::DisableTaskOffload, 2).is_err());
    }
}

#[test]
fn a_senseless_value_is_replaced_by_its_default_and_reported() {
    let registry = MemoryRegistry::new();
    registry.set_text("nic0", Keyword::IpsecV2, "both");
    registry.set_text("nic0", Keyword::LsoV1Ipv4, "0");
    registry.set_system_text(SystemValue::DisableTaskOffload, "yes");
    let keywords = AdapterKeywords::read(&registry, "nic0").unwrap();
    assert_eq!(keywords.adapter(), "nic0");
    assert_eq!(keywords.ipsec_v2(), IpsecSetting::AhAndEsp);
    assert!(!keywords.switch(Keyword::LsoV1Ipv4).is_on());
    let problems: Vec<_> = keywords.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["adapter nic0: *IPsecOffloadV2: \"both\" found, 0 (disabled), 1 (AH), 2 (ESP) or 3 (AH and ESP) allowed; using the default, 3"]);
    let system = SystemSettings::read(&registry).unwrap();
    assert!(!system.disable_task_offload && system.ipsec_offload_enabled);
    assert_eq!(system.problems[0].to_string(), "DisableTaskOffload: \"yes\" found, 0 or 1 allowed; using the default, 0");
}

#[test]
fn a_granular_checksum_keyword_goes_before_the_grouped_one() {
    let registry = MemoryRegistry::new();
    registry.set("nic0", Keyword::TcpUdpChecksumIpv4, 1).unwrap();
    registry.set("nic0", Keyword::UdpChecksumIpv4, 2).unwrap();
    let keywords = AdapterKeywords::read(&registry, "nic0").unwrap();
    assert_eq!(keywords.checksum(Keyword::IpChecksumIpv4), TxRx::Transmit);
    assert_eq!(keywords.checksum(Keyword::TcpChecksumIpv4), TxRx::Transmit);
    assert_eq!(keywords.checksum(Keyword::UdpChecksumIpv4), TxRx::Receive);
    assert_eq!(keywords.checksum(Keyword::TcpChecksumIpv6), TxRx::Both);
}

#[test]
fn parameters_written_back_hold_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let parameters = OffloadParameters::ipsec_v2_setting(IpsecSetting::Ah);
    let changes: Vec<_> = parameters.keyword_changes().into_iter().map(|(keyword, value)| (keyword, Some(value))).collect();
    FileRegistry::open(&path).unwrap().change_adapter("nic0", &changes).unwrap();
    let keywords = AdapterKeywords::read(&FileRegistry::open(&path).unwrap(), "nic0").unwrap();
    assert_eq!((keywords.ipsec_v2(), keywords.ipsec_v2_ipv4(), keywords.ipsec_v1()), (IpsecSetting::Ah, IpsecSetting::Ah, IpsecSetting::AhAndEsp));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[adapter nic0]\n*IPsecOffloadV2 = 1\n*IPsecOffloadV2IPv4 = 1\n");
}

#[test]
fn a_change_keeps_all_that_it_does_not_know() {
    let (_directory, path) = file_with(
        "# mine\r\n[adapter nic0]\nVendorKey = blue\n*ipsecoffloadv2 = \"3\"\n\n; end\n[vendor]\nany = thing\nany = thing\n[SYSTEM]\nDisableTaskOffload=1\nOther=x",
    );
    let registry = FileRegistry::open(&path).unwrap();
    assert_eq!(texts(&registry, "nic0"), BTreeMap::from([(Keyword::IpsecV2, "3".to_owned())]));
    assert!(SystemSettings::read(&registry).unwrap().disable_task_offload);
    registry.set("nic0", Keyword::IpsecV2, 1).unwrap();
    registry.change_adapter("nic0", &[(Keyword::LsoV1Ipv4, Some(0)), (Keyword::LsoV2Ipv4, Some(0))]).unwrap();
    registry.remove_system(SystemValue::DisableTaskOffload).unwrap();
    registry.set("nic1", Keyword::LsoV1Ipv4, 1).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "# mine\n[adapter nic0]\nVendorKey = blue\n*IPsecOffloadV2 = 1\n*LsoV1IPv4 = 0\n*LsoV2IPv4 = 0\n\n; end\n[vendor]\nany = thing\nany = thing\n\
         [SYSTEM]\nOther=x\n\n[adapter nic1]\n*LsoV1IPv4 = 1\n"
    );
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    registry.set("nic1", Keyword::LsoV1Ipv4, 1).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before, "nothing to change, nothing written");
}

#[test]
fn one_change_can_remove_replace_and_add() {
    let (_directory, path) = file_with("[adapter nic0]\n*LsoV1IPv4 = 0\n*LsoV2IPv4 = 0\n[system]\nDisableTaskOffload = 1\n");
    let registry = FileRegistry::open(&path).unwrap();
    let changes = [(Keyword::LsoV1Ipv4, None), (Keyword::LsoV2Ipv4, Some(1)), (Keyword::LsoV2Ipv6, Some(0)), (Keyword::LsoV2Ipv4, None)];
    registry.change_adapter("nic0", &changes).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[adapter nic0]\n*LsoV2IPv6 = 0\n[system]\nDisableTaskOffload = 1\n");
}

#[test]
fn errors_name_file_line_key_value_and_what_is_allowed() {
    for (text, line, contains) in [
        ("[adapter nic0\n", 1, "\"[adapter nic0\" found, a section header that ends with ']' expected"),
        ("\n[adapter]\n", 2, "[system] or [adapter NAME] expected"),
        ("[system x]\n", 1, "[system] or [adapter NAME] expected"),
        ("[]\n", 1, "[system] or [adapter NAME] expected"),
        ("[system]\nEnabledOffload\n", 2, "\"EnabledOffload\" found, KEY = VALUE"),
        ("[system]\n= 1\n", 2, "a key before '='"),
        ("a = 1\n[system]\n", 1, "before the first key"),
        ("[system]\nEnabledOffload = 1\n\n[system]\nenabledoffload = 0\n", 5, "enabledoffload = \"0\" found, but enabledoffload stands on line 2 already"),
    ] {
        let (_directory, path) = file_with(text);
        let error = FileRegistry::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}, line {line}: ", path.display())) && error.contains(contains), "{text:?}: {error}");
    }
    let (_directory, path) = file_with("[adapter nic0]\n\n*IPsecOffloadV2 = 7\n");
    let keywords = AdapterKeywords::read(&FileRegistry::open(&path).unwrap(), "nic0").unwrap();
    let problem = keywords.problems()[0].to_string();
    assert!(problem.starts_with(&format!("{}, line 3: adapter nic0: *IPsecOffloadV2: \"7\" found, 0 (disabled)", path.display())), "{problem}");

    let (_directory, path) = file_with("");
    fs::write(&path, [0xff]).unwrap();
    let error = FileRegistry::open(&path).unwrap_err();
    assert!(matches!(error, RegistryError::Io { .. }) && error.to_string().contains("cannot read"), "{error}");
    let missing = FileRegistry::open(path.join("below")).and_then(|registry| registry.set_system(SystemValue::EnabledOffload, 0));
    assert!(matches!(missing, Err(RegistryError::Io { .. })));
}

#[test]
fn a_failed_change_leaves_the_file_as_it_was() {
    let (_directory, path) = file_with("[system]\nEnabledOffload = 1\n");
    let registry = FileRegistry::open(&path).unwrap();
    // The new file's place is taken by a directory: it cannot be written.
    let mut blocked = path.clone().into_os_string();
    blocked.push(".new");
    fs::create_dir(&blocked).unwrap();
    assert!(matches!(registry.set_system(SystemValue::EnabledOffload, 0), Err(RegistryError::Io { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[system]\nEnabledOffload = 1\n");
}

#[test]
fn changes_from_several_threads_all_arrive_and_readers_see_whole_states() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry");
    let pair = |value| [(Keyword::LsoV2Ipv4, Some(value)), (Keyword::LsoV2Ipv6, Some(value))];
    FileRegistry::open(&path).unwrap().change_adapter("shared", &pair(0)).unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            // Each thread has its own registry on the same file, as two programs would.
            let registry = FileRegistry::open(&path).unwrap();
            scope.spawn(move || {
                for round in 0..8 {
                    registry.set(&format!("nic{writer}-{round}"), Keyword::IpsecV2, round % 4).unwrap();
                    registry.change_adapter("shared", &pair(round % 2)).unwrap();
                }
            });
        }
        let registry = FileRegistry::open(&path).unwrap();
        scope.spawn(move || {
            for _ in 0..64 {
                let shared = texts(&registry, "shared");
                assert_eq!(shared[&Keyword::LsoV2Ipv4], shared[&Keyword::LsoV2Ipv6]);
            }
        });
    });
    let registry = FileRegistry::open(&path).unwrap();
    for writer in 0..4 {
        for round in 0..8 {
            let stored = registry.get(&format!("nic{writer}-{round}"), Keyword::IpsecV2).unwrap().unwrap();
            assert_eq!(stored.text, (round % 4).to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_and_memory_agree_after_any_changes(
        steps in prop::collection::vec((0usize..3, prop::collection::vec((prop::sample::select(Keyword::ALL), prop::option::of(0u32..2)), 1..5)), 1..12),
    ) {
        let (_directory, path) = file_with("[adapter nic0]\n# c\n\n[system]\n[adapter nic1]\n*LsoV1IPv4=0\n[adapter nic0]\nUnknown=1\n");
        let file = FileRegistry::open(&path).unwrap();
        let memory = MemoryRegistry::new();
        memory.set("nic1", Keyword::LsoV1Ipv4, 0).unwrap();
        let names = ["nic0", "nic1", "nic2"];
        for (name, changes) in steps {
            file.change_adapter(names[name], &changes).unwrap();
            memory.change_adapter(names[name], &changes).unwrap();
        }
        for name in names {
            prop_assert_eq!(texts(&file, name), texts(&memory, name));
        }
        let text = fs::read_to_string(&path).unwrap();
        prop_assert!(text.contains("# c\n") && text.contains("Unknown=1\n"));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "([\\[\\]a-z*=# \"\n]|system|adapter ){0,60}") {
        let (_directory, path) = file_with(&text);
        if let Ok(registry) = FileRegistry::open(&path) {
            registry.set("nic0", Keyword::IpsecV2, 1).unwrap();
            prop_assert_eq!(&registry.get("nic0", Keyword::IpsecV2).unwrap().unwrap().text, "1");
            registry.remove("nic0", Keyword::IpsecV2).unwrap();
            prop_assert_eq!(registry.get("nic0", Keyword::IpsecV2).unwrap(), None);
        }
    }
}
