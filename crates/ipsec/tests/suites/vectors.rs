//! Published packets and blocks: RFC 3602, RFC 7634, draft-mcgrew-gcm-test (AES-GMAC; AES-GCM's are in `esp_vectors.rs`), NIST SP 800-38A, FIPS 81 and
//! NIST SP 800-67 (3DES). Each was computed a second time with another implementation than those here.

use ipsec::{AwsLc, Crypto, Data, EspSa, KeyParameters, Nonce, OpenJob, Provider, RustCrypto, Scratch, SealJob, Suite, Verdict, read_trailer};
use secret::SecretBytes;

use super::{Parameters, suite};

fn bytes(hex: &str) -> Vec<u8> {
    SecretBytes::from_hex(hex).unwrap().expose().to_vec()
}

/// A whole packet, as opened and as sealed, from the ESP header to the end of the ICV.
struct Packet {
    suite: Suite,
    encryption_key: &'static str,
    authentication_key: &'static str,
    /// 64 bits with extended sequence numbers.
    sequence: u64,
    extended: bool,
    sealed: &'static str,
    /// Payload, padding, pad length, next header.
    text: &'static str,
}

fn packets() -> Vec<Packet> {
    let aes = suite("aes-cbc-128", "");
    let gmac = suite("null", "aes-gmac-128");
    vec![
        // RFC 3602 section 4, cases 5 to 8: encryption only.
        Packet {
            suite: aes,
            encryption_key: "90d382b410eeba7ad938c46cec1a82bf",
            authentication_key: "",
            sequence: 1,
            extended: false,
            sealed: "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
            text: "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01",
        },
        Packet {
            suite: aes,
            encryption_key: "90d382b410eeba7ad938c46cec1a82bf",
            authentication_key: "",
            sequence: 8,
            extended: false,
            sealed: "000043210000000869d08df7d203329db093fc4924e5bd80f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
            text: "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201",
        },
        Packet {
            suite: aes,
            encryption_key: "0123456789abcdef0123456789abcdef",
            authentication_key: "",
            sequence: 2,
            extended: false,
            sealed: "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d",
            text: "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536370102030405060708090a0a04",
        },
        Packet {
            suite: aes,
            encryption_key: "0123456789abcdef0123456789abcdef",
            authentication_key: "",
            sequence: 5,
            extended: false,
            sealed: "000087650000000585d47224b5f3dd5d2101d4ea8dffab2215b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb50f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
            text: "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0102030405060708090a0a04",
        },
        // RFC 7634 appendix A.
        Packet {
            suite: suite("chacha20-poly1305", ""),
            encryption_key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
            authentication_key: "",
            sequence: 5,
            extended: false,
            sealed: "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
            text: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
        },
        // draft-mcgrew-gcm-test-01 section 4: AES-GMAC, the IV in what is authenticated (erratum 1821 of RFC 4543).
        Packet {
            suite: gmac,
            encryption_key: "",
            authentication_key: "4c80cdefbb5d10da906ac73c3613a63422433c64",
            sequence: 7,
            extended: false,
            sealed: "0000432100000007000000000000000045000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201f2a9a836e155106aa8dcd618e4099aaa",
            text: "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        },
        // The same with extended sequence numbers; the ICV is another implementation's AES-GCM without text.
        Packet {
            suite: gmac,
            encryption_key: "",
            authentication_key: "4c80cdefbb5d10da906ac73c3613a63422433c64",
            sequence: 0x8765_4321_0000_0007,
            extended: true,
            sealed: "0000432100000007000000000000000045000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201e5064460c20287524e756bbd3db47f3c",
            text: "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        },
    ]
}

fn whole_packets<P: Provider>(provider: &P) {
    for (index, packet) in packets().into_iter().enumerate() {
        let parameters = Parameters {
            encryption_key: SecretBytes::from_hex(packet.encryption_key).unwrap(),
            authentication_key: SecretBytes::from_hex(packet.authentication_key).unwrap(),
            extended: packet.extended,
            ..Parameters::new(packet.suite)
        };
        let sa: EspSa<P> = parameters.build(provider).unwrap();
        let mut esp = bytes(packet.sealed);
        let text = sa.text(esp.len()).unwrap();
        let mut jobs = [sa.open_job(&mut esp, packet.sequence).unwrap()];
        provider.open(&mut jobs, &mut Scratch::new());
        let [job] = jobs;
        assert_eq!(job.verdict, Verdict::Good, "{} packet {index}", provider.name());
        let Data::InPlace(opened) = job.data else { unreachable!() };
        assert_eq!(opened, bytes(packet.text), "{} packet {index}", provider.name());
        let (length, trailer) = read_trailer(opened).unwrap();
        assert_eq!(length + usize::from(trailer.pad_length) + 2, text.len());
        assert!(matches!(trailer.next_header, 1 | 4));

        // Sealed again with the published IV; the SA would make another.
        let mut icv = vec![0xee; job.tag.len()];
        let mut jobs = [SealJob::new(job.key, job.nonce, job.aad, Data::InPlace(opened), &mut icv)];
        provider.seal(&mut jobs);
        assert_eq!(jobs[0].verdict, Verdict::Good);
        assert_eq!(icv, job.tag, "{} packet {index}", provider.name());
        assert_eq!(esp, bytes(packet.sealed), "{} packet {index}", provider.name());
    }
}

#[test]
fn published_packets() {
    whole_packets(&AwsLc);
    whole_packets(&RustCrypto);
    for provider in Crypto::with_paths() {
        whole_packets(&provider);
    }
}

const SP_800_38A: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

/// Algorithm, key, IV, plaintext, ciphertext.
#[rustfmt::skip]
const CBC: [(&str, &str, &str, &str, &str); 9] = [
    // FIPS 81, table C1: "Now is the time for all ".
    ("des-cbc", "0123456789abcdef", "1234567890abcdef", "4e6f77206973207468652074696d6520666f7220616c6c20", "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"),
    ("3des-cbc", "0123456789abcdeff1e0d3c2b5a49786fedcba9876543210", "fedcba9876543210", "37363534333231204e6f77206973207468652074696d6520666f722000000000", "3fe301c962ac01d02213763c1cbd4cdc799657c064ecf5d41c673812cfde9675"),
    // RFC 3602 section 4, cases 1 to 4.
    ("aes-cbc-128", "06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41", "53696e676c6520626c6f636b206d7367", "e353779c1079aeb82708942dbe77181a"),
    ("aes-cbc-128", "c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"),
    ("aes-cbc-128", "6c3ea0477630ce21a2ce334aa746c2cd", "c782dc4c098c66cbd9cd27d825682c81", "5468697320697320612034382d62797465206d657373616765202865786163746c7920332041455320626c6f636b7329", "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684"),
    ("aes-cbc-128", "56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9", "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf", "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"),
    // NIST SP 800-38A, F.2.1 to F.2.6.
    ("aes-cbc-128", "2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f", SP_800_38A, "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"),
    ("aes-cbc-192", "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f", SP_800_38A, "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd"),
    ("aes-cbc-256", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f", SP_800_38A, "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"),
];

fn blocks<P: Provider>(provider: &P) {
    for (algorithm, key, iv, plain, cipher) in CBC {
        let encryption = algorithm.parse().unwrap();
        let key = provider.key(&KeyParameters::separate(encryption, &bytes(key), ipsec::Authentication::None, &[])).unwrap();
        let iv = bytes(iv);
        let nonce: Nonce = match <[u8; 16]>::try_from(&iv[..]) {
            Ok(iv) => iv.into(),
            Err(_) => <[u8; 8]>::try_from(&iv[..]).unwrap().into(),
        };
        let aad = ipsec::Aad::encrypt_then_mac([0; 8], &iv, None);
        let mut text = bytes(plain);
        provider.seal(&mut [SealJob::new(&key, nonce, aad, Data::InPlace(&mut text), &mut [])]);
        assert_eq!(text, bytes(cipher), "{} {algorithm}", provider.name());
        let mut jobs = [OpenJob::new(&key, nonce, aad, Data::InPlace(&mut text), &[])];
        provider.open(&mut jobs, &mut Scratch::new());
        assert_eq!(jobs[0].verdict, Verdict::Good);
        assert_eq!(text, bytes(plain), "{} {algorithm}", provider.name());
    }
}

#[test]
fn published_blocks() {
    blocks(&AwsLc);
    blocks(&RustCrypto);
    for provider in Crypto::all() {
        blocks(&provider);
    }
}
