#!/usr/bin/env python3
"""AH packets made by scapy: writes the vectors that crates/ipsec/tests/ah/scapy.txt keeps.

  scapy_ah.py > crates/ipsec/tests/ah/scapy.txt

A line is one packet: name, algorithm, key (AES-GMAC: with salt), high half of the sequence number
or "-", offset of the AH, packet; numbers and bytes in hexadecimal. The ICV is computed over the
packet as it arrives, masked by scapy's zero_mutable_fields, with HMAC or AES-GCM (of nothing, all of
it additional data) from the Python package cryptography. The same ICV is then put into forms that
the packet has on the way and scapy does not know: before the last hop of a route, with a home
address in its option, with the fragment header of a whole packet, with other mutable fields. The output
is the same in every run. Needs scapy and cryptography.
"""
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.config import conf

conf.verb = 0
from scapy.layers.inet import IP, UDP, IPOption, IPOption_EOL, IPOption_NOP, IPOption_Router_Alert  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    HAO, HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Pad1, PadN, RouterAlert)
from scapy.layers.ipsec import AH, AUTH_ALGOS, zero_mutable_fields  # noqa: E402
from scapy.packet import Raw  # noqa: E402

ALGORITHMS = {
    "hmac-md5-96": ("HMAC-MD5-96", 16, 12),
    "hmac-sha1-96": ("HMAC-SHA1-96", 20, 12),
    "hmac-sha-256-128": ("SHA2-256-128", 32, 16),
    "hmac-sha-384-192": ("SHA2-384-192", 48, 24),
    "hmac-sha-512-256": ("SHA2-512-256", 64, 32),
    "aes-gmac-128": (None, 20, 24),
    "aes-gmac-192": (None, 28, 24),
    "aes-gmac-256": (None, 36, 24),
}
SPI = 0x10203040
AH_PROTOCOL, UDP_PROTOCOL = 51, 17
A, B, C, D = "192.0.2.1", "192.0.2.2", "198.51.100.3", "203.0.113.4"
A6, B6, C6, D6, HOME = "2001:db8::1", "2001:db8::2", "2001:db8:1::3", "2001:db8:2::4", "2001:db8:f::5"


def key(algorithm):
    return bytes((7 * at + 3) & 0xFF for at in range(ALGORITHMS[algorithm][1]))


def ah(algorithm, alignment, field=None, following=UDP_PROTOCOL, sequence=0x01020304, padding=0):
    """An AH; field: IV and ICV, or zero."""
    length = ALGORITHMS[algorithm][2]
    pad = -(12 + length) % alignment
    total = 12 + length + pad
    return AH(nh=following, payloadlen=total // 4 - 2, spi=SPI, seq=sequence, icv=field or bytes(length),
              padding=bytes([padding]) * pad)


def protect(algorithm, packet, high):
    """The ICV field of a packet as it arrives."""
    name, _, length = ALGORITHMS[algorithm]
    iv = b"\x0f\x1e\x2d\x3c\x4b\x5a\x69\x78"
    text = bytes(zero_mutable_fields(packet.copy(), sending=False))
    if high is not None:
        text += struct.pack(">I", high)
    if name is None:
        return iv + AESGCM(key(algorithm)[:-4]).encrypt(key(algorithm)[-4:] + iv, b"", text)
    mac = AUTH_ALGOS[name].new_mac(key(algorithm))
    mac.update(text)
    return mac.finalize()[:length]


def line(name, algorithm, high, offset, packet):
    print(name, algorithm, key(algorithm).hex(), "-" if high is None else f"{high:x}", f"{offset:x}", packet.hex())


def write(name, algorithm, arrived, *others, seen=True, alignment=None, high=None, payload=None, **fields):
    """Lines for the form that arrives, if it is seen on a wire, and for each of the others: (suffix, headers)."""
    version = arrived.version
    alignment = alignment or (4 if version == 4 else 8)
    payload = payload if payload is not None else UDP(sport=4000, dport=53, chksum=0x1234) / Raw(b"a question")

    def whole(headers, field=None):
        headers = headers.copy()
        rest = bytes(ah(algorithm, alignment, field, **fields)) + bytes(payload)
        last = headers.lastlayer()
        if version == 4:
            headers.proto = AH_PROTOCOL
            headers.len = len(headers) + len(rest)
        else:
            last.nh = AH_PROTOCOL
            headers.plen = len(headers) - 40 + len(rest)
        return bytes(headers), headers / ah(algorithm, alignment, field, **fields) / Raw(bytes(payload))

    field = protect(algorithm, whole(arrived)[1], high)
    for suffix, headers in [("", arrived)] * seen + list(others):
        start, packet = whole(headers, field)
        line(name + suffix, algorithm, high, len(start), bytes(packet))


def option(kind, value):
    return IPOption(copy_flag=kind >> 7, optclass=kind >> 5 & 3, option=kind & 31, value=value)


def route(kind, pointer, *addresses):
    data = bytes([pointer]) + b"".join(bytes(map(int, address.split("."))) for address in addresses)
    return option(kind, data)


def routing(kind, left, *addresses):
    return IPv6ExtHdrRouting(type=kind, segleft=left, addresses=list(addresses), len=2 * len(addresses))


def ipv4_shapes(write_all):
    plain = IP(src=A, dst=B, id=7, ttl=9, tos=4, flags="DF")
    other = IP(src=A, dst=B, id=7, ttl=250, tos=0xB9, flags=0, chksum=0xBEEF)
    write_all("ipv4", plain, ("-mutated", other))
    options = [
        IPOption_Router_Alert(),
        option(0x82, b"\xab\xcd"),  # security
        option(0x85, b"\x77"),  # extended security
        IPOption_NOP(),
        option(0x86, b"\x55"),  # commercial security
        option(0x95, b"\x01\x02"),  # multi-destination delivery
        option(0x44, b"\x05\x00\x01\x02\x03\x04"),  # time stamp
        option(0x07, b"\x04\x0a\x00\x00\x01"),  # record route
        option(0xde, b"\x99"),  # unknown
        IPOption_EOL(),
    ]
    changed = list(options)
    changed[6] = option(0x44, b"\x09\x10\xff\xfe\xfd\xfc")
    changed[7] = option(0x07, b"\x08\xc6\x33\x64\x01")
    changed[8] = option(0xde, b"\x11")
    write_all("ipv4-options", IP(src=A, dst=B, options=options), ("-mutated", IP(src=A, dst=B, ttl=1, options=changed)))
    for name, kind in [("loose", 0x83), ("strict", 0x89)]:
        # Each hop puts its own address in the place of the one that it goes to.
        write_all(
            f"ipv4-{name}-route",
            IP(src=A, dst=D, options=[route(kind, 12, B, C)]),
            ("-sent", IP(src=A, dst=B, options=[route(kind, 4, C, D)])),
            ("-halfway", IP(src=A, dst=C, options=[route(kind, 8, B, D)])),
        )
    inner = IP(src="10.0.1.1", dst="10.0.2.1", ttl=3) / UDP(sport=1, dport=2) / Raw(b"inside")
    write_all("ipv4-tunnel", plain, payload=inner, following=4)
    write_all("ipv4-padded", plain, alignment=8, padding=0xA5)
    write_all("ipv4-extended", plain, high=0x80000001, sequence=0xFFFFFFFF)


def ipv6_shapes(write_all):
    plain = IPv6(src=A6, dst=B6, hlim=9, tc=4, fl=0x12345)
    write_all("ipv6", plain, ("-mutated", IPv6(src=A6, dst=B6, hlim=255, tc=0xFF, fl=0xFEDCB)))
    write_all("ipv6-padded", plain, padding=0x5A)
    write_all("ipv6-extended", plain, high=0, sequence=0)

    def options(data):
        mutable = HBHOptUnknown(otype=0x3E, optlen=len(data), optdata=data)
        fixed = HBHOptUnknown(otype=0x1E, optlen=3, optdata=b"\x01\x02\x03")
        return [mutable, Pad1(), fixed, PadN(optdata=b"\x00\x00")]

    for name, header in [("hop-by-hop", IPv6ExtHdrHopByHop), ("destination", IPv6ExtHdrDestOpt)]:
        write_all(
            f"ipv6-{name}", plain / header(options=options(b"\xaa\xbb\xcc\xdd")), ("-mutated", plain / header(options=options(b"\x11\x22\x33\x44")))
        )
    write_all("ipv6-router-alert", plain / IPv6ExtHdrHopByHop(options=[RouterAlert(value=1), PadN(optdata=b"")]))

    write_all(
        "ipv6-routing-0",
        IPv6(src=A6, dst=D6) / routing(0, 0, B6, C6),
        ("-sent", IPv6(src=A6, dst=B6) / routing(0, 2, C6, D6)),
        ("-halfway", IPv6(src=A6, dst=C6) / routing(0, 1, B6, D6)),
    )
    write_all("ipv6-routing-2", IPv6(src=A6, dst=HOME) / routing(2, 0, B6), ("-sent", IPv6(src=A6, dst=B6) / routing(2, 1, HOME)))
    write_all("ipv6-routing-other", plain / routing(253, 0, C6))

    def home(address):
        return IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\x00\x00"), HAO(hoa=address)])

    write_all("ipv6-home", IPv6(src=HOME, dst=B6) / home(A6), ("-sent", IPv6(src=A6, dst=B6) / home(HOME)), seen=False)

    def all_of_them(source, destination, first, second, left, data, home_address, fragment):
        headers = IPv6(src=source, dst=destination)
        headers /= IPv6ExtHdrHopByHop(options=options(data)) / IPv6ExtHdrDestOpt(options=options(data))
        headers /= routing(0, left, first, second)
        if fragment:
            headers /= IPv6ExtHdrFragment(offset=0, m=0, id=0x11223344)
        return headers / home(home_address)

    write_all(
        "ipv6-everything",
        all_of_them(HOME, D6, B6, C6, 0, b"\x00\x00\x00\x01", A6, False),
        ("-sent", all_of_them(A6, B6, C6, D6, 2, b"\x09\x08\x07\x06", HOME, False)),
        ("-atomic", all_of_them(A6, C6, B6, D6, 1, b"\x19\x18\x17\x16", HOME, True)),
        high=0xFFFFFFFF,
        seen=False,
    )
    write_all("ipv6-atomic", plain, ("-sent", plain / IPv6ExtHdrFragment(offset=0, m=0, id=99)), seen=False)
    inner = IPv6(src=C6, dst=D6) / UDP(sport=1, dport=2) / Raw(b"inside")
    write_all("ipv6-tunnel", plain, payload=inner, following=41)


def check_against_sign():
    """What scapy's own sender makes of a route of type 0 is what is computed here over its end."""
    sent = IPv6(src=A6, dst=B6) / routing(0, 2, C6, D6) / ah("hmac-sha1-96", 8) / Raw(b"text")
    arrived = IPv6(src=A6, dst=D6) / routing(0, 0, B6, C6) / ah("hmac-sha1-96", 8) / Raw(b"text")
    signed = AUTH_ALGOS["HMAC-SHA1-96"].sign(sent.copy(), key("hmac-sha1-96"))
    if signed[AH].icv != protect("hmac-sha1-96", arrived, None):
        sys.exit("scapy_ah: scapy's sender and receiver disagree")


def main():
    check_against_sign()
    for algorithm in ALGORITHMS:
        def short(name, arrived, *others, algorithm=algorithm, **fields):
            # Every shape under one algorithm, the plain ones and ESN under all.
            if algorithm == "hmac-sha-256-128" or name in ("ipv4", "ipv6", "ipv4-extended", "ipv6-extended", "ipv6-padded"):
                write(name, algorithm, arrived, *others, **fields)

        ipv4_shapes(short)
        ipv6_shapes(short)


if __name__ == "__main__":
    main()
