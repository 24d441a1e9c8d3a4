#!/usr/bin/env python3
"""ESP packets made and opened by scapy, to compare with what ipsecov2 opens and makes.

  scapy_esp.py make OUT.pcap SAFILE.toml PLAIN.pcap [--link raw|ethernet]
      OUT gets ESP packets, SAFILE the inbound bundles that open them, PLAIN the packets that are
      inside, in the same order. `ipsecov2 pcap open --sa SAFILE OUT X` must yield PLAIN.

  scapy_esp.py clear PLAIN.pcap SAFILE.toml [--link raw|ethernet]
      PLAIN gets clear packets, SAFILE outbound bundles whose selectors take all of them.
      `ipsecov2 pcap protect --sa SAFILE PLAIN X` must yield what `verify X SAFILE PLAIN` accepts.

  scapy_esp.py verify IN.pcap SAFILE.toml PLAIN.pcap
      Opens every packet of IN with the outbound bundles of SAFILE and compares it, byte for byte
      and in order, with those packets of PLAIN (pcap or pcapng) that a bundle selects. Also
      checked: the bundle is the first that selects the packet, sequence numbers follow each other
      from the one in SAFILE, no IV repeats under a key, the padding is 1, 2, 3..., the IPv4 header
      checksum and all lengths are right. Exit 1 and the differences (the first 20), else 0.

make and clear cover tunnel mode with IPv4 and IPv6 inside and outside, transport mode over both,
AES-GCM with all key and ICV sizes, with and without extended sequence numbers (these start just
below a wrap of the low half, those of `make` arrive out of order as well). The output is the same
in every run. Needs Python 3.11, scapy and cryptography.
"""
import random
import struct
import sys
import tomllib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy_common import (
    ESN_HIGH, Selecting, addresses, arguments, ends, internet_checksum, ip_packets, parse, report, upper_protocol, with_length, write)

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.packet import Raw

FULL_ICV = 16
# The order in which the packets of one bundle arrive: low half and step of the high half.
ARRIVAL = [(1, 0), (2, 0), (5, 0), (3, 0), (4, 0), (64, 0), (6, 0), (100, 0), (99, 0), (70, 0), (1000, 0)]
ARRIVAL_ESN = [(0xFFFFFFFC, 0), (0xFFFFFFFD, 0), (0, 1), (0xFFFFFFFF, 0), (1, 1), (0xFFFFFFFE, 0), (2, 1),
               (40, 1), (5, 1), (39, 1), (41, 1)]


class Bundle(Selecting):
    """One [[sa]] of an SA file with one AES-GCM ESP association."""

    def __init__(self, table):
        def refuse(what):
            sys.exit(f"scapy_esp: bundle {table.get('name')!r}: {what} is not known here")

        for field in ("udp-encapsulation", "inside"):
            if field in table:
                refuse(field)
        if len(table["association"]) != 1 or table["association"][0]["operation"] != "esp":
            refuse("anything but one ESP association")
        association = table["association"][0]
        if not association["encryption"].startswith("aes-gcm-"):
            refuse(association["encryption"])
        super().__init__(table)
        self.association = association
        self.spi = association["spi"]
        self.icv = association.get("icv-length", FULL_ICV)
        self.key = bytes.fromhex(association["encryption-key"])
        self.esn = association.get("extended-sequence-numbers", False)
        self.last = association.get("sequence-number-high", 0) << 32 | association.get("sequence-number", 0)
        self.ivs = set()
        header = IP if self.source.version == 4 else IPv6
        self.scapy = SecurityAssociation(
            ESP, spi=self.spi, crypt_algo="AES-GCM", crypt_key=self.key, esn_en=self.esn,
            tunnel_header=header(src=str(self.source), dst=str(self.destination)) if self.tunnel else None)

    def nonce_and_aad(self, esp, sequence):
        """Of the bytes from the SPI on."""
        number = struct.pack(">Q" if self.esn else ">I", sequence if self.esn else sequence & 0xFFFFFFFF)
        return self.key[-4:] + esp[8:16], esp[:4] + number

    def seal(self, packet, sequence, iv):
        """The ESP packet, as bytes; scapy knows only whole ICVs, so a shorter one is cut afterwards."""
        # Scapy takes a zero passed to encrypt() for "not given", so the numbers are set instead.
        self.scapy.seq_num, self.scapy.esn = sequence & 0xFFFFFFFF, sequence >> 32
        whole = bytes(self.scapy.encrypt(parse(packet), iv=iv))
        cut = FULL_ICV - self.icv
        return with_length(whole, len(whole) - cut)

    def open(self, packet, sequence):
        """The packet inside and its ESP padding; raises IPSecIntegrityError."""
        start = esp_offset(packet)
        esp = packet[start:]
        nonce, aad = self.nonce_and_aad(esp, sequence)
        sealed, icv = esp[16 : len(esp) - self.icv], esp[len(esp) - self.icv :]
        # The whole ICV is made here and must begin with the one received; then scapy can check and open.
        counter = Cipher(algorithms.AES(self.key[:-4]), modes.CTR(nonce + b"\0\0\0\2")).decryptor()
        clear = counter.update(sealed) + counter.finalize()
        whole = AESGCM(self.key[:-4]).encrypt(nonce, clear, aad)[-FULL_ICV:]
        if whole[: self.icv] != icv:
            raise IPSecIntegrityError("the ICV is wrong")
        full = packet[: start + 16] + sealed + whole
        self.scapy.esn = sequence >> 32
        opened = bytes(self.scapy.decrypt(parse(with_length(full, len(full)))))
        return opened, clear[-2 - clear[-2] : -2]


def esp_offset(packet):
    protocol, at = upper_protocol(packet)
    if protocol != 50:
        raise ValueError(f"protocol {protocol} instead of ESP")
    return at


# --- The SA file and the packets of make and clear --------------------------------------------------


def cases():
    """(name, mode, inner IP version, outer IP version, AES bits, ICV bytes, ESN)"""
    sizes = [(128, 16), (192, 12), (256, 8), (256, 16), (128, 8), (128, 12), (192, 16), (192, 8), (256, 12)]
    number = 0
    for esn in (False, True):
        for mode, inner, outer in [("transport", 4, 4), ("transport", 6, 6), ("tunnel", 4, 4), ("tunnel", 4, 6),
                                   ("tunnel", 6, 4), ("tunnel", 6, 6)]:
            bits, icv = sizes[number % len(sizes)]
            name = f"{mode}-{inner}in{outer}-{bits}-{icv}{'-esn' if esn else ''}"
            yield name, mode, inner, outer, bits, icv, esn
            number += 1


def sa_file(direction, rng):
    """The text of an SA file with one bundle per case."""
    text = [f"# {direction} bundles for packets of scapy_esp.py. The keys are no secret.\n"]
    for number, (name, mode, inner, outer, bits, icv, esn) in enumerate(cases()):
        source, destination = ends(number, inner if mode == "transport" else outer + 10)
        text.append(f'\n[[sa]]\nname = "{name}"\ndirection = "{direction}"\nmode = "{mode}"\n'
                    f'source = "{source}"\ndestination = "{destination}"\n')
        if mode == "tunnel":
            bits_of_address = 32 if inner == 4 else 128
            source, destination = (f"{end}/{bits_of_address}" for end in ends(number, inner))
            text.append(f'selectors = [ {{ source = "{source}", destination = "{destination}" }} ]\n')
        text.append(f'[[sa.association]]\noperation = "esp"\nspi = 0x{0x1001 + number:08x}\n'
                    f'encryption = "aes-gcm-{bits}"\nencryption-key = "{rng.randbytes(bits // 8 + 4).hex()}"\n')
        if icv != FULL_ICV:
            text.append(f"icv-length = {icv}\n")
        if esn:
            text.append(f"extended-sequence-numbers = true\nsequence-number-high = {ESN_HIGH}\n")
            if direction == "outbound":
                text.append("sequence-number = 0xfffffffb\n")
    return "".join(text)


def clear_packets(number, version, rng):
    """Eleven packets of one case: every upper protocol, sizes around the boundaries, options."""
    source, destination = ends(number, version)
    if version == 4:
        def ip(**more):
            return IP(src=source, dst=destination, id=rng.randrange(65536), ttl=rng.randrange(1, 256),
                      tos=rng.randrange(256), **more)
        echo, odd = ICMP(type=8, id=7, seq=1), ip(options=[IPOption_NOP()] * 4)
        second_odd = ip(flags="DF", options=[IPOption_Router_Alert()])
    else:
        def ip(**more):
            return IPv6(src=source, dst=destination, fl=rng.randrange(1 << 20), tc=rng.randrange(256),
                        hlim=rng.randrange(1, 256), **more)
        echo, odd = ICMPv6EchoRequest(id=7, seq=1), ip() / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
        second_odd = ip() / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))])

    def data(size):
        return Raw(rng.randbytes(size))

    packets = [
        ip() / echo,
        ip() / echo / data(1),
        ip() / UDP(sport=5000, dport=53),
        ip() / UDP(sport=5000, dport=53) / data(2),
        ip() / UDP(sport=5000, dport=4500) / data(7),
        ip() / UDP(sport=5000, dport=443) / data(1372 - 40),
        ip() / TCP(sport=40000, dport=443, flags="S", options=[("MSS", 1340), ("SAckOK", b"")]),
        ip() / TCP(sport=40000, dport=443, flags="PA", seq=1, ack=1) / data(64),
        ip() / TCP(sport=40000, dport=443, flags="A", seq=65, ack=1) / data(1340),
        odd / UDP(sport=5000, dport=7) / data(33),
        second_odd / TCP(sport=40000, dport=443, flags="FA", seq=1405, ack=1),
    ]
    return [bytes(packet) for packet in packets]


def rounds(rng):
    """(number of the case, number of its packet, clear packet), the cases taking turns."""
    columns = [clear_packets(number, case[2], rng) for number, case in enumerate(cases())]
    for turn in range(len(columns[0])):
        for number, column in enumerate(columns):
            yield number, turn, column[turn]


def make(out, sa_path, plain, link):
    rng = random.Random("make")
    text = sa_file("inbound", rng)
    bundles = [Bundle(table) for table in tomllib.loads(text)["sa"]]
    sealed, clear = [], []
    for number, turn, packet in rounds(rng):
        bundle = bundles[number]
        low, step = (ARRIVAL_ESN if bundle.esn else ARRIVAL)[turn]
        high = ESN_HIGH + step if bundle.esn else 0
        sealed.append(bundle.seal(packet, high << 32 | low, rng.randbytes(8)))
        clear.append(packet)
    with open(sa_path, "w", encoding="ascii") as file:
        file.write(text)
    write(out, link, sealed)
    write(plain, link, clear)
    return 0


def make_clear(plain, sa_path, link):
    rng = random.Random("clear")
    with open(sa_path, "w", encoding="ascii") as file:
        file.write(sa_file("outbound", rng))
    write(plain, link, [packet for _, _, packet in rounds(rng)])
    return 0


# --- verify ---------------------------------------------------------------------------------------------


def check(bundle, packet, differ):
    """Opens one packet of the outbound path; what is inside, or None."""
    esp = packet[esp_offset(packet) :]
    if len(esp) < 16 + 4 + bundle.icv:
        raise ValueError(f"{len(esp)} bytes are no ESP packet")
    sequence = bundle.last + 1
    if not bundle.esn and sequence >> 32:
        differ("the sequence number has wrapped")
    if struct.unpack(">I", esp[4:8])[0] != sequence & 0xFFFFFFFF:
        differ(f"sequence number 0x{esp[4:8].hex()} instead of 0x{sequence & 0xFFFFFFFF:08x}")
    bundle.last = sequence
    if esp[8:16] in bundle.ivs:
        differ("an IV repeats")
    bundle.ivs.add(esp[8:16])
    if packet[0] >> 4 == 4 and internet_checksum(packet[: (packet[0] & 15) * 4]):
        differ("the IPv4 header checksum is wrong")
    elif with_length(packet, len(packet)) != packet:
        differ("the IP length is wrong")
    if addresses(packet)[:2] != (bundle.source, bundle.destination):
        differ("not the addresses of the bundle")
    try:
        inner, padding = bundle.open(packet, sequence)
    except IPSecIntegrityError as error:
        differ(f"it does not open: {error}")
        return None
    if padding != bytes(range(1, len(padding) + 1)) or (len(esp) - bundle.icv) % 4:
        differ(f"padding {padding.hex()}")
    return inner


def verify(path, sa_path, plain):
    with open(sa_path, "rb") as file:
        bundles = [Bundle(table) for table in tomllib.load(file)["sa"] if table["direction"] == "outbound"]
    expected = []
    for packet in ip_packets(plain):
        bundle = next((bundle for bundle in bundles if bundle.selects(packet)), None)
        if bundle:
            expected.append((bundle, packet))
    differences, number = [], 0
    for number, packet in enumerate(ip_packets(path), 1):
        def differ(what, number=number):
            differences.append(f"packet {number}: {what}")

        if number > len(expected):
            differ("no clear packet is left for it")
            continue
        bundle, clear = expected[number - 1]
        try:
            if struct.unpack(">I", packet[esp_offset(packet) :][:4])[0] != bundle.spi:
                differ(f"not the SPI of bundle {bundle.name!r}")
                continue
            inner = check(bundle, packet, differ)
        except (ValueError, IndexError, struct.error) as error:
            differ(f"malformed: {error}")
            continue
        if inner is not None and inner != clear:
            differ(f"bundle {bundle.name!r}\n  inside   {inner.hex()}\n  expected {clear.hex()}")
    if number < len(expected):
        differences.append(f"{number} packets instead of {len(expected)}")
    if not expected:
        differences.append("no bundle selects any of the clear packets")
    return report(number, differences)


def main():
    args = arguments(__doc__, {"make": ["out", "sa", "plain"], "clear": ["plain", "sa"], "verify": ["in", "sa", "plain"]})
    if args["command"] == "make":
        return make(args["out"], args["sa"], args["plain"], args["link"])
    if args["command"] == "clear":
        return make_clear(args["plain"], args["sa"], args["link"])
    return verify(args["in"], args["sa"], args["plain"])


if __name__ == "__main__":
    sys.exit(main())
