//! Files that are cut, changed or lie: everything before the damage is read, nothing panics, nothing loops, and errors say where.

mod common;

use common::{Bytes, captures, read, testdata};
use link::capture::{CaptureError, CaptureReader, Problem};
use proptest::prelude::*;

/// A place in a file of `len` bytes, and a sentence.
fn sound(error: &CaptureError, len: usize) {
    assert!(error.offset.is_some_and(|offset| offset <= len as u64), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("test: ") && !text.contains('\n'), "{text}");
}

#[test]
fn every_truncation_gives_what_is_before_it() {
    for name in ["small-raw.pcap", "small-mixed.pcapng", "small-big-endian.pcapng"] {
        let whole = std::fs::read(testdata(name)).unwrap();
        let (all, error) = read(&whole);
        assert!(error.is_none());
        let mut ends = 0;
        for len in 0..whole.len() {
            let (packets, error) = read(&whole[..len]);
            assert_eq!(packets, all[..packets.len()], "{name} {len}");
            match error {
                // Between two records there is nothing wrong.
                None => ends += 1,
                Some(error) => {
                    sound(&error, len);
                    assert!(matches!(error.problem, Problem::Truncated { needed, found, .. } if found < needed), "{name} {len}: {error}");
                }
            }
        }
        assert!(ends >= all.len() && ends <= all.len() + 20, "{name}: {ends}");
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let pcap = |captured: u32| {
        let file = Bytes::new(false).pcap_header(0xa1b2_c3d4, 101).u32(0).u32(0).u32(captured).u32(captured);
        read(&file.raw(&[0; 100]).bytes)
    };
    assert!(matches!(pcap(101).1.unwrap().problem, Problem::Truncated { needed: 101, found: 100, .. }));
    assert!(matches!(pcap(262_144).1.unwrap().problem, Problem::Truncated { needed: 262_144, found: 100, .. }));
    let error = pcap(262_145).1.unwrap();
    assert_eq!(error.to_string(), "test: packet 1 at byte 24: captured length: at most 262144 expected, 262145 found");
    assert!(matches!(pcap(u32::MAX).1.unwrap().problem, Problem::Field { field: "captured length", .. }));

    let section = Bytes::new(true).section().interface(101, 0, |options| options);
    for kind in [6, 3, 1, 10, 0x0a0d_0d0a, 77] {
        let magic = if kind == 0x0a0d_0d0a { 0x1a2b_3c4d } else { 0 };
        for (length, wanted) in [(0, false), (8, false), (13, false), (16 * 1024 * 1024 + 4, false), (u32::MAX, false), (16 * 1024 * 1024, true)] {
            let error = read(&section.clone().u32(kind).u32(length).u32(magic).raw(&[0; 64]).bytes).1.unwrap();
            sound(&error, 200);
            match error.problem {
                Problem::Field { field: "block length", found, .. } => assert!(!wanted && found == u64::from(length), "{kind} {length}"),
                Problem::Truncated { needed, .. } => assert!(wanted && needed < 16 * 1024 * 1024, "{kind} {length}"),
                other => panic!("{kind} {length}: {other}"),
            }
        }
    }
}

#[test]
fn fields_that_cannot_be_are_named() {
    let start = || Bytes::new(false).section();
    let with_interface = || start().interface(101, 0, |options| options);
    let refused = |file: Bytes, says: &str| {
        let (packets, error) = read(&file.bytes);
        assert!(packets.is_empty());
        let text = error.expect(says).to_string();
        assert!(text.ends_with(says), "{text}");
    };
    refused(start().packet(0, 0, 1, &[1], |options| options), "interface that was described before in this section expected, 0 found");
    refused(with_interface().packet(1, 0, 1, &[1], |options| options), "interface that was described before in this section expected, 1 found");
    // Interfaces belong to their section.
    refused(with_interface().section().packet(0, 0, 1, &[1], |options| options), "expected, 0 found");
    refused(
        with_interface().block(6, |body| body.u32(0).u64(0).u32(5).u32(5).u32(0)),
        "test: packet 1 at byte 48: captured length: at most 4 expected, 5 found",
    );
    refused(with_interface().block(6, |body| body.u32(0)), "block length: room for the fixed fields of the block expected, 16 found");
    refused(with_interface().block(3, |body| body.u32(5).u32(0)), "captured length: at most 4 expected, 5 found");
    refused(with_interface().packet(0, 0, 0, &[], |options| options.u16(1).u16(5).u32(0)), "option length: at most 4 expected, 5 found");
    refused(start().interface(101, 0, |options| options.u16(2).u16(9)), "option length: at most 0 expected, 9 found");
    refused(start().block(1, |body| body.u32(0)), "block length: room for the fixed fields of the block expected, 16 found");
    refused(with_interface().u32(6).u32(12).u32(16), "second length of a block: 12 expected, 16 found");
    refused(Bytes::new(false).block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4d).u16(2).u16(0).u64(0)), "major version: 1 expected, 2 found");
    refused(Bytes::new(false).block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4d).u16(1).u16(1).u64(0)), "minor version: 0 or 2 expected, 1 found");
    refused(Bytes::new(false).block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4d).u32(1)), "block length: at least 28 expected, 20 found");
    refused(Bytes::new(false).block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4e)), "byte order magic: 0x1a2b3c4d or 0x4d3c2b1a expected, 1312566042 found");
    refused(Bytes::new(true).u32(0xa1b2_c3d4).u16(3).u16(4).u64(0).u64(0), "major version: 2 expected, 3 found");
    refused(Bytes::new(true).u32(0xa1b2_c3d4).u16(2).u16(3).u64(0).u64(0), "minor version: at least 4 expected, 3 found");
    let mut many = start();
    for _ in 0..4097 {
        many = many.interface(101, 0, |options| options);
    }
    refused(many, "interfaces of a section: at most 4096 expected, 4097 found");
}

#[test]
fn an_input_that_fails_says_so() {
    struct Failing(u8);
    impl std::io::Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                // Interrupted calls are made again.
                1 => Err(std::io::ErrorKind::Interrupted.into()),
                2 => {
                    let header = Bytes::new(false).pcap_header(0xa1b2_c3d4, 1).bytes;
                    buf[..header.len()].copy_from_slice(&header);
                    Ok(header.len())
                }
                _ => Err(std::io::ErrorKind::ConnectionReset.into()),
            }
        }
    }
    let error = CaptureReader::new(Failing(0), "test").unwrap().next_packet().err().unwrap();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::ConnectionReset));
    assert!(error.to_string().starts_with("test: packet 1 at byte 24: cannot read: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_files_never_panic(file in 0usize..11, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut captures = captures();
        captures.retain(|path| !path.ends_with("traffic.pcapng"));
        let mut bytes = std::fs::read(&captures[file % captures.len()]).unwrap();
        for (place, value) in changes {
            // Two thirds of the changes in the first block or record, where the consequences are.
            let range = if value % 3 == 0 { bytes.len() } else { 200 };
            let at = place.index(range);
            bytes[at] = value;
        }
        let (packets, error) = read(&bytes);
        // A packet takes at least its header's bytes.
        prop_assert!(packets.len() <= bytes.len() / 16);
        prop_assert!(packets.iter().all(|packet| packet.data.len() <= bytes.len()));
        if let Some(error) = error {
            sound(&error, bytes.len());
        }
    }
}
