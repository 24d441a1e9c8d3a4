#!/usr/bin/env python3
"""Every suite and mode, made and opened by scapy, to compare with what ipsecov2 opens and makes.

  scapy_suites.py make OUT.pcap SAFILE.toml PLAIN.pcap REPORT.jsonl [--link raw|ethernet]
      OUT gets protected packets, SAFILE the inbound bundles that open them, PLAIN the packets that
      are inside, in the same order. `ipsecov2 pcap open --sa SAFILE --report X OUT Y` must make
      PLAIN of it, and a report X that says the same as REPORT.

  scapy_suites.py clear PLAIN.pcap SAFILE.toml [--link raw|ethernet]
      PLAIN gets clear packets, SAFILE outbound bundles whose selectors take all of them.
      `ipsecov2 pcap protect --sa SAFILE PLAIN X` must yield what `verify X SAFILE PLAIN` accepts.

  scapy_suites.py protect OUT.pcap SAFILE.toml PLAIN.pcap [--link raw|ethernet]
      What `ipsecov2 pcap protect` does, as far as the bundles of `clear` go, to try `verify`.

  scapy_suites.py verify IN.pcap SAFILE.toml PLAIN.pcap
      Opens every packet of IN with the outbound bundles of SAFILE and compares it, byte for byte
      and in order, with those packets of PLAIN (pcap or pcapng) that a bundle selects. Also
      checked: the bundle is the first that selects the packet and has its tunnel around it,
      sequence numbers follow each other from the ones in SAFILE, no IV repeats under a key, the ESP
      padding is 1, 2, 3..., AH has the right length and no padding but zeros, UDP ports, lengths and
      checksums, padding behind packets in tunnels, dummy packets after every so many. Exit 1 and the
      differences (the first 20), else 0.

`make` and `clear` cover ESP with null, DES, 3DES and AES-CBC with every HMAC, AES-GCM, AES-GMAC and
ChaCha20-Poly1305, encryption without authentication; AH with every HMAC and AES-GMAC; AH over ESP;
transport over tunnel; ESP in UDP, all four types; with and without extended sequence numbers (these
start just below a wrap of the low half, those of `make` arrive out of order as well); IPv4 options
and IPv6 extension headers. `make` adds what a receiver must take and ipsecov2 does not send: other
padding, AH of both lengths on IPv4, text behind packets in tunnels, dummy packets, other UDP source
ports and checksums, fields that changed on the way, IKE packets and keepalives. The output is the
same in every run. Needs Python 3.11, scapy and cryptography.
"""
import json
import random
import struct
import sys
import tomllib

from scapy_common import ESN_HIGH, arguments, ends, ip_packets, parse, report, upper_protocol, with_length, write
from scapy_layers import (
    AUTHENTICATION, DESTINATION_OPTIONS, ENCRYPTION, FRAGMENT, HOP_BY_HOP, ROUTING, Bundle, Shape, StrictJudge, plain_shape)

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, IPOption_EOL, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    HBHOptUnknown, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Pad1, PadN,
    RouterAlert)
from scapy.layers.ipsec import AH, ESP, IPSecIntegrityError, SecurityAssociation
from scapy.packet import Raw

# The order in which the packets of one bundle arrive: from the first number on; the extended ones wrap after four.
ARRIVAL = [0, 1, 4, 2, 3, 63, 5, 99, 98, 69, 100, 102, 101, 103, 110, 104, 107, 106, 105, 108, 160, 109,
           161, 163, 162, 164]
WRAP = (ESN_HIGH + 1 << 32) - 4
NATTED = 31000  # UDP source ports begin here
HMACS = [name for name in AUTHENTICATION if name.startswith("hmac-")]
GMACS = [name for name in AUTHENTICATION if name.startswith("aes-gmac-")]
CBC = [name for name in ENCRYPTION if name.endswith("-cbc") or name.startswith("aes-cbc-")]
VERSIONS = [(4, 4), (6, 6), (4, 6), (6, 4)]  # inside, outside
MODES = [("transport", 4, 4), ("transport", 6, 6), *(("tunnel", *versions) for versions in VERSIONS)]


class Case:
    """Bundles for the packets of one flow: layers are tables of an SA file without names and addresses, innermost first."""

    def __init__(self, name, inner, *layers, whole=False, natted=False):
        self.name, self.inner, self.layers = name, inner, layers
        self.whole = whole  # every packet that there is, not only some
        self.natted = natted


def esp(encryption, authentication="none", icv=None, esn=False):
    table = {"operation": "esp", "encryption": encryption}
    if icv:
        table["icv-length"] = icv
    if authentication != "none":
        table["authentication"] = authentication
    return table | ({"extended-sequence-numbers": True} if esn else {})


def ah(authentication, esn=False):
    return {"operation": "ah", "authentication": authentication} | ({"extended-sequence-numbers": True} if esn else {})


def layer(mode, outer, *associations, **more):
    return {"mode": mode, "outer": outer, "association": list(associations)} | {name.replace("_", "-"): value for name, value in more.items()}


def cases():
    """Every suite with ESN and without, the modes taking turns."""
    yield from esp_cases()
    yield from ah_cases()
    yield from both_cases()
    yield from nested_cases()
    yield from udp_cases()
    yield from flow_cases()


def esp_cases():
    suites = [(encryption, authentication, None) for encryption in ["null", *CBC] for authentication in HMACS]
    suites += [("null", authentication, None) for authentication in GMACS]
    suites += [("chacha20-poly1305", "none", None)] * 3
    suites += [(f"aes-gcm-{bits}", "none", icv) for bits, icv in [(128, 8), (192, 12), (256, 16)]]
    suites += [(encryption, "none", None) for encryption in CBC]
    turn = 0
    for esn in (False, True):
        for encryption, authentication, icv in suites:
            mode, inner, outer = MODES[turn % len(MODES)]
            allow = {"allow_unauthenticated": True} if (encryption, authentication) in [(name, "none") for name in CBC] else {}
            name = f"{encryption}{f'-{icv}' if icv else ''}-{authentication}-{mode}-{inner}in{outer}{'-esn' if esn else ''}-{turn}"
            yield Case(name, inner, layer(mode, outer, esp(encryption, authentication, icv, esn), **allow), whole=turn in (0, 1, 12, 13))
            turn += 1
        turn += 2


def ah_cases():
    turn = 0
    for esn in (False, True):
        for authentication in HMACS + GMACS:
            for mode, inner, outer in [("transport", 4, 4), ("transport", 6, 6), MODES[2 + turn % 4]]:
                more = {"ah_alignment": 8} if turn % 2 and outer == 4 else {}
                name = f"ah-{authentication}-{mode}-{inner}in{outer}{'-esn' if esn else ''}"
                whole = mode == "transport" and authentication in ("hmac-sha-256-128", "aes-gmac-256")
                yield Case(name, inner, layer(mode, outer, ah(authentication, esn), **more), whole=whole)
            turn += 1
        turn += 1


def both_cases():
    suites = [("null", "none"), ("des-cbc", "none"), ("aes-cbc-192", "none"), ("aes-cbc-128", "hmac-sha1-96"), ("3des-cbc", "hmac-md5-96"),
              ("aes-gcm-192", "none"), ("null", "aes-gmac-128"), ("null", "hmac-md5-96"), ("chacha20-poly1305", "none"),
              ("aes-cbc-256", "hmac-sha-384-192")]
    outside = HMACS + GMACS
    for turn in range(24):
        encryption, authentication = suites[turn % len(suites)]
        over = outside[turn % len(outside)]
        mode, inner, outer = MODES[turn % len(MODES)]
        # Each association has numbers of its own, extended or not.
        kinds = (turn // 2 % 2 == 1, turn // 3 % 2 == 1)
        name = f"ah-{over}-over-{encryption}-{authentication}-{mode}-{inner}in{outer}-{turn}"
        yield Case(name, inner, layer(mode, outer, esp(encryption, authentication, None, kinds[0]), ah(over, kinds[1])), whole=turn in (0, 1))


def nested_cases():
    """Transport over tunnel, with up to four IPsec headers."""
    forms = [
        lambda esn, turn: [esp("aes-gcm-256", esn=esn)],
        lambda esn, turn: [ah(HMACS[turn % 5], esn)],
        lambda esn, turn: [esp(CBC[turn % 5], HMACS[(turn + 2) % 5], esn=esn)],
        lambda esn, turn: [esp("null", "none", esn=esn), ah(GMACS[turn % 3], esn)],
        lambda esn, turn: [esp("aes-cbc-256", "hmac-sha-256-128", esn=esn), ah("hmac-sha-512-256", not esn)],
        lambda esn, turn: [esp("null", GMACS[turn % 3], esn=esn)],
    ]
    turn = 0
    for inside in range(len(forms)):
        for outside in range(len(forms)):
            inner, outer = VERSIONS[(turn + inside) % 4]
            transport = layer("transport", inner, *forms[inside](turn % 2 == 1, turn))
            tunnel = layer("tunnel", outer, *forms[outside](turn // 2 % 2 == 1, turn + 1))
            yield Case(f"nested-{inside}-{outside}-{inner}in{outer}", inner, transport, tunnel)
            turn += 1


def udp_cases():
    suites = [("aes-gcm-128", "none"), ("aes-cbc-128", "hmac-sha-256-128"), ("chacha20-poly1305", "none"), ("null", "aes-gmac-192"),
              ("3des-cbc", "hmac-sha1-96")]
    turn = 0
    for esn in (False, True):
        for inner, outer in VERSIONS:
            def one(mode, version, udp, turn, esn=esn):
                more = {"udp_encapsulation": {"source-port": 4500, "destination-port": 4500}} if udp else {}
                encryption, authentication = suites[turn % len(suites)]
                return layer(mode, version, esp(encryption, authentication, esn=esn), **more)

            suffix = f"{inner}in{outer}{'-esn' if esn else ''}"
            if inner == outer:
                yield Case(f"udp-1-{suffix}", inner, one("transport", inner, True, turn), whole=True)
            yield Case(f"udp-2-{suffix}", inner, one("tunnel", outer, True, turn + 1))
            yield Case(f"udp-3-{suffix}", inner, one("transport", inner, False, turn + 2), one("tunnel", outer, True, turn + 3))
            yield Case(f"udp-4-{suffix}", inner, one("transport", inner, True, turn + 3), one("tunnel", outer, False, turn + 2))
            turn += 1
        yield Case(f"udp-natted{'-esn' if esn else ''}", 4, one("transport", 4, True, turn), natted=True)


def flow_cases():
    """Traffic flow confidentiality on send."""
    every, pad = {"dummy-every": 3}, {"pad-to": 700}
    yield Case("flow-dummies", 4, layer("transport", 4, esp("aes-gcm-128"), traffic_flow=every))
    yield Case("flow-padded", 6, layer("tunnel", 4, esp("aes-cbc-256", "hmac-sha-256-128"), traffic_flow=pad))
    yield Case("flow-both", 4, layer("tunnel", 6, esp("chacha20-poly1305", esn=True), traffic_flow=every | pad))
    yield Case("flow-ah", 4, layer("tunnel", 4, esp("null", "hmac-sha1-96"), ah("hmac-sha1-96"), traffic_flow=every | pad))
    yield Case("flow-nested", 4, layer("transport", 4, esp("aes-gcm-256")), layer("tunnel", 4, esp("aes-cbc-128", "hmac-sha1-96"), traffic_flow=every | pad))


# --- SA files ----------------------------------------------------------------------------------------


def sa_file(direction, rng):
    """The text of an SA file with the bundles of every case, and how many of them each case has."""
    text, counts, spi = [f"# {direction} bundles for packets of scapy_suites.py. The keys are no secret.\n"], [], 0x1001
    for number, case in enumerate(cases()):
        names = [case.name, f"{case.name}-tunnel"][: len(case.layers)]
        for place, (name, table) in enumerate(zip(names, case.layers)):
            inner = ends(number, case.inner)
            source, destination = inner if table["mode"] == "transport" else ends(number, table["outer"] + 10)
            fields = {"name": name, "direction": direction, "mode": table["mode"], "source": source, "destination": destination}
            if place + 1 < len(names):
                fields["inside"] = names[place + 1]
            fields |= {key: value for key, value in table.items() if key not in ("mode", "outer", "association")}
            if direction == "inbound":
                fields.pop("traffic-flow", None)
            if table["mode"] == "tunnel":
                bits = 32 if case.inner == 4 else 128
                fields["selectors"] = [{"source": f"{inner[0]}/{bits}", "destination": f"{inner[1]}/{bits}"}]
            text.append("\n[[sa]]\n" + lines(fields))
            for association in table["association"]:
                text.append("[[sa.association]]\n" + lines(association_fields(association, spi, direction, rng)))
                spi += 1
        counts.append(len(names))
    return "".join(text), counts


def association_fields(table, spi, direction, rng):
    fields = {"operation": table["operation"], "spi": spi} | table
    for kind, sizes in [("encryption", ENCRYPTION), ("authentication", AUTHENTICATION)]:
        if kind in table and sizes[table[kind]][1]:
            fields[f"{kind}-key"] = rng.randbytes(sizes[table[kind]][1]).hex()
    if "extended-sequence-numbers" in table:
        fields["sequence-number-high"] = ESN_HIGH
        if direction == "outbound":
            # Another one for each SA.
            fields["sequence-number"] = 0xFFFFFFFF - spi % 5
    return fields


def lines(fields):
    return "".join(f"{name} = {toml(value, name)}\n" for name, value in fields.items())


def toml(value, name=""):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"0x{value:08x}" if name in ("spi", "sequence-number") else str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(toml(each) for each in value) + " ]"
    return json.dumps(value)


def chains(text, counts):
    """The bundles of each case, innermost first."""
    bundles = iter([Bundle(table) for table in tomllib.loads(text)["sa"]])
    return [[next(bundles) for _ in range(count)] for count in counts]


# --- Clear packets ----------------------------------------------------------------------------------


def clear_packets(number, case, rng):
    """Packets of one case: every upper protocol, sizes around the boundaries, options and extension headers."""
    source, destination = ends(number, case.inner)
    if case.inner == 4:
        def ip(**more):
            return IP(src=source, dst=destination, id=rng.randrange(65536), ttl=rng.randrange(2, 256), tos=rng.randrange(256), **more)
        echo, odd = ICMP(type=8, id=7, seq=1), ipv4_odd(ip)
    else:
        def ip(**more):
            return IPv6(src=source, dst=destination, fl=rng.randrange(1 << 20), tc=rng.randrange(256), hlim=rng.randrange(2, 256), **more)
        echo, odd = ICMPv6EchoRequest(id=7, seq=1), ipv6_odd(ip, number)

    def data(size):
        return Raw(rng.randbytes(size))

    zero = {"chksum": 0} if case.inner == 4 else {}
    uppers = [UDP(sport=5000, dport=7) / data(33), TCP(sport=40000, dport=443, flags="FA", seq=1405, ack=1), UDP(sport=9, dport=9, **zero) / data(2)]
    plain = [
        ip() / UDP(sport=5000, dport=53) / data(2),
        ip() / echo / data(rng.randrange(1, 40)),
        ip() / TCP(sport=40000, dport=443, flags="PA", seq=1, ack=1) / data(64),
        ip() / UDP(sport=5000, dport=53, **zero) / data(rng.randrange(40)),
        ip() / UDP(sport=5000, dport=443) / data(1200),
        ip() / TCP(sport=40000, dport=443, flags="S", options=[("MSS", 1340), ("SAckOK", b"")]),
        ip() / UDP(sport=5000, dport=4500) / data(7),
        ip() / echo,
        ip() / UDP(sport=5000, dport=53),
        ip() / TCP(sport=40000, dport=443, flags="A", seq=65, ack=1) / data(1340),
    ]
    odd = [headers / uppers[turn % 3] for turn, headers in enumerate(odd)]
    if not case.whole:
        at = number % len(odd)
        plain, odd = plain[:6], [odd[at], odd[at - 1]]
    return [bytes(packet) for packet in plain + odd]


def ipv4_odd(ip):
    def option(kind, value):
        return IPOption(copy_flag=kind >> 7, optclass=kind >> 5 & 3, option=kind & 31, value=value)

    record_route = option(0x07, b"\x04" + bytes(12))
    return [
        ip(options=[IPOption_NOP()] * 4),
        ip(options=[IPOption_Router_Alert()]),
        ip(options=[record_route, IPOption_NOP()]),
        ip(options=[option(0x44, b"\x05\x00" + bytes(8)), IPOption_Router_Alert()]),
        ip(options=[option(0x82, b"\xab\xcd\xef"), IPOption_NOP(), option(0x95, b"\x01\x02"), IPOption_EOL(), IPOption_EOL()]),
        # A route that has come to its end, and an unknown option.
        ip(flags="DF", options=[option(0x83, b"\x08\xc6\x33\x64\x01"), option(0xDE, b"\x99"), IPOption_NOP(), IPOption_NOP()]),
    ]


def ipv6_odd(ip, number):
    via = ends(number, 6)[0].replace("::1", "::99")

    def options(data):
        return [HBHOptUnknown(otype=0x3E, optlen=len(data), optdata=data), Pad1(), HBHOptUnknown(otype=0x1E, optlen=3, optdata=b"\x01\x02\x03")]

    def routing(kind):
        return IPv6ExtHdrRouting(type=kind, segleft=0, addresses=[via], len=2)

    return [
        ip() / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),
        ip() / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0), PadN(optdata=b"")]),
        ip() / IPv6ExtHdrHopByHop(options=options(b"\xaa\xbb\xcc\xdd")),
        ip() / IPv6ExtHdrDestOpt(options=options(b"\x01\x02\x03\x04")),
        ip() / routing(0),
        ip() / routing(2),
        # A whole packet, although it has a fragment header (RFC 6946).
        ip() / IPv6ExtHdrFragment(offset=0, m=0, id=0x0F0F0000 + number),
        ip() / IPv6ExtHdrHopByHop(options=options(b"\x09\x08\x07\x06")) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]) / routing(0)
        / IPv6ExtHdrDestOpt(options=options(b"\x05\x06\x07\x08")),
    ]


# --- What happens on the way --------------------------------------------------------------------------


def travelled(packet, rng):
    """The packet after routers have changed what they may change, in the outermost headers."""
    packet = bytearray(packet)
    if packet[0] >> 4 == 4:
        packet[1] = packet[1] & 3 | rng.randrange(64) << 2
        packet[8] -= 1
        end, at = (packet[0] & 15) * 4, 20
        while at < end and packet[at] != 0:
            size = 1 if packet[at] == 1 else packet[at + 1]
            if packet[at] in (0x07, 0x44) and packet[at + 2] + 3 <= size:
                # One more address, or time, of one more hop.
                start = at + packet[at + 2] - 1
                packet[start : start + 4] = rng.randbytes(4)
                packet[at + 2] += 4
            at += size
        return with_length(bytes(packet), len(packet))
    packet[1:4] = rng.randbytes(3)
    packet[0:2] = struct.pack(">H", 0x6000 | rng.randrange(64) << 6 | packet[1] & 15)
    packet[7] -= 1
    following, at = packet[6], 40
    while following in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS):
        size = 8 if following == FRAGMENT else packet[at + 1] * 8 + 8
        option = at + 2
        while following == HOP_BY_HOP and option < at + size:
            length = 0 if packet[option] == 0 else packet[option + 1] + 1
            if packet[option] & 0x20:
                packet[option + 2 : option + 1 + length] = rng.randbytes(length - 1)
            option += 1 + length
        following, at = packet[at], at + size
    return bytes(packet)


def travelled_together(wire, clear, rng):
    """The same for a protected packet and the clear packet whose headers it has."""
    seed = rng.random()
    return travelled(wire, random.Random(seed)), travelled(clear, random.Random(seed))


def behind_nat(clear, number):
    """The packet as its sender, who has another address, made it: its checksums are for that one."""
    sent = parse(clear)
    sent.src = f"172.16.{number}.1"
    upper = sent.payload
    if not (isinstance(upper, UDP) and upper.chksum == 0) and isinstance(upper, (TCP, UDP)):
        del upper.chksum
    sent = bytearray(bytes(sent))
    sent[12:16] = clear[12:16]
    return with_length(bytes(sent), len(sent))


def around_ike(bundle, turn, rng):
    """An IKE packet, or a keepalive, that comes to the port of ESP in UDP."""
    source, destination = str(bundle.source), str(bundle.destination)
    headers = IP(src=source, dst=destination) if bundle.source.version == 4 else IPv6(src=source, dst=destination)
    payload = b"\xff" if turn % 2 else bytes(4) + rng.randbytes(28 + turn)
    return bytes(headers / UDP(sport=NATTED + turn, dport=4500) / Raw(payload))


# --- make, clear, protect ---------------------------------------------------------------------------


class Arrivals:
    """Sequence numbers of one bundle in the order in which its packets arrive."""

    def __init__(self, bundle, shift):
        self.bundle, self.shift, self.turn = bundle, shift, 0

    def next(self):
        step = ARRIVAL[self.turn]
        self.turn += 1
        # Bundles and associations begin at different numbers, so that no one can be taken for the other.
        return {each.operation: (WRAP + self.shift % 3 if each.esn else 1 + self.shift) + step + (1 if each.operation == "ah" else 0)
                for each in self.bundle.associations}


def shape_of(turn, number, bundle, rng):
    return Shape(
        rng,
        esp_padding=[None, "zeros", "random", "long", "longest"][(turn + number) % 5],
        tfc=[0, 0, 1, 7 + 8 * number % 50, 64][(turn + 2 * number) % 5],
        tfc_zeros=turn % 2 == 0,
        ah_alignment=[None, 4, 8][(turn + number) % 3],
        ah_padding=turn % 2 == 1,
        udp_source=NATTED + number if turn % 4 else None,
        udp_checksum=[0, 0xBEEF][turn % 2],
        outer_options=turn % 5 == 4,
        options_inside=turn % 2 == 1,
    )


def expected(chain, numbers, reason=None):
    """A line of the report; numbers: sequence numbers of the bundles that matched, innermost first."""
    associations = [{"operation": each.operation, "spi": f"0x{each.spi:08x}", "sequence": sequences[each.operation]}
                    for bundle, sequences in list(zip(chain, numbers))[::-1] for each in bundle.outermost_first()]
    done = bool(associations)
    return {"crypto_done": done, "next_crypto_done": done and len(numbers) == 2, "crypto_status": "SUCCESS" if done else None, "associations": associations,
            "verdict": "dropped" if reason else "delivered" if done else "passed", "reason": reason}


def make(args):
    rng = random.Random("make")
    text, counts = sa_file("inbound", rng)
    protected, clear, lines_of_report = [], [], []
    columns = [list(one_case(number, case, chain, rng)) for number, (case, chain) in enumerate(zip(cases(), chains(text, counts)))]
    for turn in range(max(len(column) for column in columns)):
        for column in columns:
            if turn >= len(column):
                continue
            wire, plain, line = column[turn]
            protected.append(wire)
            if plain is not None:
                clear.append(plain)
            lines_of_report.append({"packet": len(protected)} | line)
    with open(args["sa"], "w", encoding="ascii") as file:
        file.write(text)
    with open(args["report"], "w", encoding="ascii") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines_of_report)
    write(args["out"], args["link"], protected)
    write(args["plain"], args["link"], clear)
    return 0


def one_case(number, case, chain, rng):
    """(packet on the wire, packet inside or None, line of the report)"""
    arrivals = [Arrivals(bundle, number % 7 + 2 * place) for place, bundle in enumerate(chain)]
    compare_with_scapy(case, chain, arrivals, clear_packets(number, case, random.Random(number)))
    for turn, packet in enumerate(clear_packets(number, case, rng)):
        shapes = [shape_of(turn + place, number, bundle, rng) for place, bundle in enumerate(chain)]
        numbers = [arrival.next() for arrival in arrivals]
        wire = behind_nat(packet, number) if case.natted else packet
        for bundle, sequences, shape in zip(chain, numbers, shapes):
            wire = bundle.seal(wire, sequences, shape)
        if chain[-1].tunnel:
            wire = travelled(wire, rng) if turn % 2 else wire
        elif not case.natted:
            wire, packet = travelled_together(wire, packet, rng)
        opened = opened_by(chain, numbers, wire)
        if opened != packet and not case.natted:
            sys.exit(f"scapy_suites: {case.name}: what was made opens to\n{opened and opened.hex()} instead of\n{packet.hex()}")
        yield wire, packet, expected(chain, numbers)
        # Dummy packets: of each bundle with ESP in turn.
        if turn % 4 == 1:
            at = turn // 4 % len(chain)
            if chain[at].esp:
                yield dummy(chain, at, arrivals, shape_of(turn, number, chain[at], rng), packet)
        if chain[-1].udp and turn < 6:
            yield around_ike(chain[-1], number + turn, rng), None, expected([], [])


def dummy(chain, at, arrivals, shape, packet):
    """A dummy packet of the bundle at this place; its tunnel is around it."""
    shape.dummy, shape.outer_options = True, False
    numbers = [arrival.next() for arrival in arrivals[at:]]
    wire = chain[at].seal(packet, numbers[0], shape)
    for bundle, sequences in zip(chain[at + 1 :], numbers[1:]):
        wire = bundle.seal(wire, sequences, Shape(shape.rng))
    if opened_by(chain[at:], numbers, wire) is not None:
        sys.exit("scapy_suites: a dummy packet has something in it")
    return wire, None, expected(chain[at:], numbers, "dummy")


def opened_by(chain, numbers, packet):
    """The packet inside; None for a dummy."""
    for bundle, sequences in list(zip(chain, numbers))[::-1]:
        packet, is_dummy = bundle.open(packet, sequences)
        if is_dummy:
            return None
    return packet


def compare_with_scapy(case, chain, arrivals, packets):
    """Scapy's own sender puts the same bytes around these packets as scapy_layers does, where it has what they need."""
    if len(chain) != 1 or len(chain[0].associations) != 1 or case.natted:
        return
    bundle = chain[0]
    association = bundle.associations[0]
    if association.gmac and not bundle.esp or bundle.esp and association.cut:
        return
    sequences = {association.operation: (ESN_HIGH << 32 if association.esn else 0) | 0x01020304}
    version = IP if bundle.source.version == 4 else IPv6
    outer = version(src=str(bundle.source), dst=str(bundle.destination)) if bundle.tunnel else None
    if bundle.esp:
        nat = UDP(sport=bundle.udp["source-port"], dport=bundle.udp["destination-port"]) if bundle.udp else None
        peer = SecurityAssociation(ESP, bundle.esp.spi, crypt_algo=bundle.esp.scapy.crypt_algo.name, crypt_key=bundle.esp.encryption_key,
                                   auth_algo=bundle.esp.scapy.auth_algo.name, auth_key=bundle.esp.authentication_key, tunnel_header=outer,
                                   nat_t_header=nat, esn_en=association.esn, esn=ESN_HIGH)
    elif bundle.alignment == 4 or bundle.source.version == 6:
        peer = SecurityAssociation(AH, association.spi, auth_algo=AUTHENTICATION[association.authentication][0], auth_key=association.authentication_key,
                                   tunnel_header=outer, esn_en=association.esn, esn=ESN_HIGH)
    else:
        return
    for packet in packets[:6]:
        shape = plain_shape("one")
        ours = bundle.seal(packet, sequences, shape)
        iv = {"iv": plain_shape("one").iv(association.iv)} if bundle.esp else {}
        theirs = bytes(peer.encrypt(parse(packet), seq_num=0x01020304, **iv))
        if ours != theirs:
            sys.exit(f"scapy_suites: {case.name}: scapy's sender makes\n{theirs.hex()}\ninstead of\n{ours.hex()}")


def make_clear(args):
    rng = random.Random("clear")
    text, _ = sa_file("outbound", rng)
    with open(args["sa"], "w", encoding="ascii") as file:
        file.write(text)
    columns = [clear_packets(number, case, rng) for number, case in enumerate(cases())]
    rounds = range(max(len(column) for column in columns))
    write(args["plain"], args["link"], [column[turn] for turn in rounds for column in columns if turn < len(column)])
    return 0


def protect(args):
    rng = random.Random("protect")
    bundles = outbound(args["sa"])
    by_name = {bundle.name: bundle for bundle in bundles}
    out = []

    def seal(packet, bundle, dummy=False):
        sequences = {}
        for association in bundle.associations:
            association.last += 1
            sequences[association.operation] = association.last
        length = len(packet) if bundle.tunnel and bundle.esp else 65535
        shape = Shape(rng, tfc=max(0, bundle.flow.get("pad-to", 0) - length), tfc_zeros=True, dummy=dummy, options_inside=True)
        sealed = bundle.seal(packet, sequences, shape)
        after = []
        if not dummy:
            bundle.packets += 1
            if bundle.flow.get("dummy-every") and bundle.packets % bundle.flow["dummy-every"] == 0:
                after = [packet]
        wires = [sealed] if not bundle.inside else seal(sealed, by_name[bundle.inside])
        return wires + [wire for packet in after for wire in seal(packet, bundle, dummy=True)]

    for packet in ip_packets(args["plain"]):
        bundle = next((bundle for bundle in bundles if bundle.selects(packet)), None)
        if bundle:
            out += seal(packet, bundle)
    write(args["out"], args["link"], out)
    return 0


# --- verify ---------------------------------------------------------------------------------------------


def outbound(path):
    with open(path, "rb") as file:
        return [Bundle(table) for table in tomllib.load(file)["sa"] if table["direction"] == "outbound"]


class Verifier:
    def __init__(self, bundles, packets):
        self.bundles = bundles
        self.by_name = {bundle.name: bundle for bundle in bundles}
        self.by_spi = {association.spi: bundle for bundle in bundles for association in bundle.associations}
        self.expected = []
        for packet in packets:
            bundle = next((bundle for bundle in bundles if bundle.selects(packet)), None)
            if bundle:
                self.expected.append((bundle, packet))
        self.matched = 0
        self.differences = []

    def take(self, number, packet):
        def differ(what):
            self.differences.append(f"packet {number}: {what}")

        try:
            opened, chain, is_dummy = self.opened(packet, StrictJudge(differ))
        except (ValueError, IndexError, KeyError, struct.error, IPSecIntegrityError) as error:
            differ(f"{type(error).__name__}: {error}")
            opened, chain, is_dummy = None, None, False
        if is_dummy:
            return
        if self.matched == len(self.expected):
            differ("no clear packet is left for it")
            return
        bundle, clear = self.expected[self.matched]
        self.matched += 1
        if chain is None:
            return
        wanted = [bundle.inside, bundle.name] if bundle.inside else [bundle.name]
        if chain != wanted:
            differ(f"under {chain} instead of {wanted}")
        elif opened != clear:
            differ(f"bundle {bundle.name!r}\n  inside   {opened.hex()}\n  expected {clear.hex()}")

    def opened(self, packet, judge):
        """What is inside, names of the bundles from the outside on, whether it is a dummy."""
        names = []
        while True:
            bundle = self.bundle_of(packet)
            if bundle is None:
                return packet, names, False
            sequences, found = {}, bundle.low_halves(packet)
            for association in bundle.associations:
                wanted = association.last + 1
                if not association.esn and wanted >> 32:
                    judge.differ("the sequence number has wrapped")
                low = found.get(association.operation, wanted & 0xFFFFFFFF)
                if low != wanted & 0xFFFFFFFF:
                    judge.differ(f"bundle {bundle.name!r}, {association.operation}: sequence number 0x{low:08x} instead of 0x{wanted & 0xFFFFFFFF:08x}")
                # The one nearest to it: to find out what else differs.
                association.last = wanted + (low - wanted + (1 << 31)) % (1 << 32) - (1 << 31)
                sequences[association.operation] = association.last
            names.append(bundle.name)
            packet, is_dummy = bundle.open(packet, sequences, judge)
            if is_dummy:
                bundle.dummies += 1
                every = bundle.flow.get("dummy-every", 0)
                if not every or bundle.dummies > bundle.packets // every:
                    judge.differ(f"a dummy packet too many of bundle {bundle.name!r}")
                return None, names, True
            bundle.packets += 1

    def bundle_of(self, packet):
        protocol, at = upper_protocol(packet)
        if protocol == 17 and packet[at + 2 : at + 4] == b"\x11\x94":
            # What is inside may be UDP to this port as well.
            return self.by_spi.get(int.from_bytes(packet[at + 8 : at + 12], "big")) if len(packet) > at + 16 else None
        if protocol not in (50, 51):
            return None
        return self.by_spi[int.from_bytes(packet[at : at + 4] if protocol == 50 else packet[at + 4 : at + 8], "big")]

    def finish(self):
        if self.matched < len(self.expected):
            self.differences.append(f"{self.matched} packets instead of {len(self.expected)}")
        if not self.expected:
            self.differences.append("no bundle selects any of the clear packets")
        for bundle in self.bundles:
            every = bundle.flow.get("dummy-every", 0)
            if every and bundle.dummies != bundle.packets // every:
                self.differences.append(f"bundle {bundle.name!r}: {bundle.dummies} dummy packets after {bundle.packets}, one is due after every {every}")


def verify(args):
    verifier = Verifier(outbound(args["sa"]), ip_packets(args["plain"]))
    number = 0
    for number, packet in enumerate(ip_packets(args["in"]), 1):
        verifier.take(number, packet)
    verifier.finish()
    return report(number, verifier.differences)


def main():
    commands = {"make": (make, ["out", "sa", "plain", "report"]), "clear": (make_clear, ["plain", "sa"]),
                "protect": (protect, ["out", "sa", "plain"]), "verify": (verify, ["in", "sa", "plain"])}
    args = arguments(__doc__, {name: files for name, (_, files) in commands.items()})
    return commands[args["command"]][0](args)


if __name__ == "__main__":
    sys.exit(main())
