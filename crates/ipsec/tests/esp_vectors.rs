//! The AES-GCM packets of draft-mcgrew-gcm-test-01 section 4, byte for byte, sealed and opened by every provider.

use ipsec::{AesKeySize, Authentication, AwsLc, Crypto, Encryption, EspParameters, EspSa, Provider, RustCrypto, Scratch, Verdict, read_trailer};
use secret::SecretBytes;

/// One packet of the draft.
struct Vector {
    size: AesKeySize,
    key: &'static str,
    salt: &'static str,
    spi: &'static str,
    /// 4 bytes, or 8 with extended sequence numbers.
    sequence: &'static str,
    iv: &'static str,
    /// Payload, padding, pad length, next header.
    plaintext: &'static str,
    ciphertext: &'static str,
    icv: &'static str,
}

#[rustfmt::skip]
const VECTORS: [Vector; 16] = [
    Vector {
        size: AesKeySize::Aes128, key: "4c80cdefbb5d10da906ac73c3613a634", salt: "2e443b68",
        spi: "00004321", sequence: "8765432100000000", iv: "4956ed7e3b244cfe",
        plaintext: "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201",
        ciphertext: "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
        icv: "459018148f6cbe722fd04796562dfdb4",
    },
    Vector {
        size: AesKeySize::Aes128, key: "feffe9928665731c6d6a8f9467308308", salt: "cafebabe",
        spi: "0000a5f8", sequence: "0000000a", iv: "facedbaddecaf888",
        plaintext: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
        ciphertext: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1",
        icv: "83b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Vector {
        size: AesKeySize::Aes256, key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab", salt: "11223344",
        spi: "4a2cbfe3", sequence: "00000002", iv: "0102030405060708",
        plaintext: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        ciphertext: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e",
        icv: "b335f4eecfdbf831824b4c4915956c96",
    },
    Vector {
        size: AesKeySize::Aes128, key: "00000000000000000000000000000000", salt: "00000000",
        spi: "00000000", sequence: "00000001", iv: "0000000000000000",
        plaintext: "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
        ciphertext: "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3",
        icv: "f821d496eeb096e98ad2b69e4799c71d",
    },
    Vector {
        size: AesKeySize::Aes128, key: "3de09874b388e6491988d0c3607eae1f", salt: "57690e43",
        spi: "42f67e3f", sequence: "1010101010101010", iv: "4e280000a2fca1a3",
        plaintext: "4500003c99c300008001cb7c40679318010101010800085c020043006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
        ciphertext: "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a",
        icv: "e0d731cc978ecafaeae88f00e80d6e48",
    },
    Vector {
        size: AesKeySize::Aes128, key: "3de09874b388e6491988d0c3607eae1f", salt: "57690e43",
        spi: "42f67e3f", sequence: "1010101010101010", iv: "4e280000a2fca1a3",
        plaintext: "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
        ciphertext: "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed",
        icv: "369f071f35e034be95f112e4e7d05d35",
    },
    Vector {
        size: AesKeySize::Aes192, key: "feffe9928665731c6d6a8f9467308308feffe9928665731c", salt: "cafebabe",
        spi: "0000a5f8", sequence: "0000000a", iv: "facedbaddecaf888",
        plaintext: "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
        ciphertext: "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77",
        icv: "95457b9652037f5318027b5b4cd7a636",
    },
    Vector {
        size: AesKeySize::Aes128, key: "abbccddef00112233445566778899aab", salt: "decaf888",
        spi: "00000100", sequence: "0000000000000001", iv: "cafedebaceface74",
        plaintext: "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec959b6266c04722b14923010101",
        ciphertext: "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c226f2127b27db35724e7845d68",
        icv: "651f57e65f354f75ff17015769623436",
    },
    Vector {
        size: AesKeySize::Aes256, key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab", salt: "73616c74",
        spi: "17405e67", sequence: "156f3126dd0db99b", iv: "616e640169766563",
        plaintext: "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
        ciphertext: "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e",
        icv: "451626c2415771e3b7eebca614c89b35",
    },
    Vector {
        size: AesKeySize::Aes128, key: "3de09874b388e6491988d0c3607eae1f", salt: "57690e43",
        spi: "42f67e3f", sequence: "1010101010101010", iv: "4e280000a2fca1a3",
        plaintext: "45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b325ae270c03899493915010101",
        ciphertext: "fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0740f742444747b5b39ab533163aad4550ee5160975",
        icv: "cdb608c5769189609763b8e18caa81e2",
    },
    Vector {
        size: AesKeySize::Aes256, key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab", salt: "73616c74",
        spi: "17405e67", sequence: "156f3126dd0db99b", iv: "616e640169766563",
        plaintext: "636973636f0172756c657301746865016e6574776501646566696e6501746865746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f72726f7701020201",
        ciphertext: "d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b012a49363412364f8",
        icv: "c0cac587f249e56b11e24f30e44ccc76",
    },
    Vector {
        size: AesKeySize::Aes128, key: "7d773d00c144c525ac619d18c84a3f47", salt: "d9664267",
        spi: "335467ae", sequence: "ffffffff", iv: "43457e9182443bc6",
        plaintext: "01020201",
        ciphertext: "437f866b",
        icv: "cb3f699fe9b0822bac961c4504bef270",
    },
    Vector {
        size: AesKeySize::Aes128, key: "abbccddef00112233445566778899aab", salt: "decaf888",
        spi: "00000100", sequence: "0000000000000001", iv: "cafedebaceface74",
        plaintext: "746f016265016f72016e6f7401746f0162650001",
        ciphertext: "29c9fc69a197d038ccdd14e2ddfcaa0543332164",
        icv: "412503524303ed3c6c5f283843af8c3e",
    },
    Vector {
        size: AesKeySize::Aes256, key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961", salt: "7475726e",
        spi: "796b6963", sequence: "ffffffffffffffff", iv: "333021696765746d",
        plaintext: "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        ciphertext: "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9",
        icv: "d0937ba2945f669368661a329fb4c053",
    },
    Vector {
        size: AesKeySize::Aes128, key: "3de09874b388e6491988d0c3607eae1f", salt: "57690e43",
        spi: "3f7ef642", sequence: "1010101010101010", iv: "4e280000a2fca1a3",
        plaintext: "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        ciphertext: "fba2caa8c6c5f9f0f22ca54a061210ad3f6e5791cf1aca210d117cec9c35791765acbd8701ad79845bf9fe3fba487bc963219306",
        icv: "84eecadb56912546e7a95c9740d7cb05",
    },
    Vector {
        size: AesKeySize::Aes128, key: "4c80cdefbb5d10da906ac73c3613a634", salt: "22433c64",
        spi: "00004321", sequence: "8765432100000007", iv: "4855ec7d3a234bfd",
        plaintext: "0800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        ciphertext: "74752e8aeb5d873cd7c0f4acc36c4bff84b7d7b98f0ca8b6acda6894bc619069",
        icv: "ef9cbc28fe1b56a7c4e0d58c86cd2bc0",
    },
];

fn bytes(hex: &str) -> Vec<u8> {
    SecretBytes::from_hex(hex).unwrap().expose().to_vec()
}

fn number(hex: &str) -> u64 {
    u64::from_str_radix(hex, 16).unwrap()
}

impl Vector {
    fn extended(&self) -> bool {
        self.sequence.len() == 16
    }

    fn packet(&self, text: &str, icv_length: usize) -> Vec<u8> {
        let low = &self.sequence[self.sequence.len() - 8..];
        let mut packet = bytes(&[self.spi, low, self.iv, text].concat());
        packet.extend(&bytes(self.icv)[..icv_length]);
        packet
    }

    fn sa<P: Provider>(&self, provider: &P, icv_length: usize) -> EspSa<P> {
        let parameters = EspParameters {
            encryption: Encryption::AesGcm(self.size),
            encryption_key: &SecretBytes::from_hex(&[self.key, self.salt].concat()).unwrap(),
            icv_length,
            authentication: Authentication::None,
            authentication_key: &SecretBytes::default(),
            allow_unauthenticated: false,
            extended_sequence_numbers: self.extended(),
            // The SA makes its IV from the sequence number: the mask that gives the draft's.
            iv_mask: number(self.iv) ^ number(self.sequence),
        };
        EspSa::new(provider, &parameters).unwrap()
    }
}

fn run<P: Provider>(provider: &P) {
    for (index, vector) in VECTORS.iter().enumerate() {
        // A shorter ICV is the beginning of the full one (RFC 4106 section 6, NIST SP 800-38D section 7.1).
        for icv_length in [16, 12, 8] {
            let sa = vector.sa(provider, icv_length);
            let sealed = vector.packet(vector.ciphertext, icv_length);

            let mut esp = vector.packet(vector.plaintext, icv_length);
            let text = sa.text(esp.len()).unwrap();
            esp[8..16].fill(0xee);
            esp[text.end..].fill(0xee);
            let mut jobs = [sa.seal_job(&mut esp, number(vector.sequence)).unwrap()];
            provider.seal(&mut jobs);
            assert_eq!(jobs[0].verdict, Verdict::Good);
            assert_eq!(esp, sealed, "{} packet {index} ICV {icv_length}", provider.name());

            let mut jobs = [sa.open_job(&mut esp, number(vector.sequence)).unwrap()];
            provider.open(&mut jobs, &mut Scratch::new());
            assert_eq!(jobs[0].verdict, Verdict::Good, "{} packet {index} ICV {icv_length}", provider.name());
            assert_eq!(esp, vector.packet(vector.plaintext, icv_length));
            let (length, trailer) = read_trailer(&esp[text]).unwrap();
            assert_eq!(length + usize::from(trailer.pad_length) + 2, vector.plaintext.len() / 2);
            assert!(matches!(trailer.next_header, 1 | 4 | 59), "next header {}", trailer.next_header);
        }
    }
}

#[test]
fn aws_lc() {
    run(&AwsLc);
}

#[test]
fn rust_crypto() {
    run(&RustCrypto);
}

#[test]
fn chosen_by_name() {
    for name in Crypto::names() {
        run(&name.parse::<Crypto>().unwrap());
    }
}
