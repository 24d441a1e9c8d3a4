"""What the scripts of this directory share: IP packets, captures, selectors of SA files, reports of differences."""
import argparse
import ipaddress
import struct
import sys

from scapy.config import conf

conf.verb = 0
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.utils import RawPcapReader, RawPcapWriter  # noqa: E402

ETHERNET, RAW = 1, 101
LINKS = {"ethernet": ETHERNET, "raw": RAW}
ESN_HIGH = 7  # high half of the first extended sequence number
SHOWN = 20  # differences that verify prints


def parse(packet):
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def addresses(packet):
    if packet[0] >> 4 == 4:
        return ipaddress.ip_address(packet[12:16]), ipaddress.ip_address(packet[16:20]), packet[9]
    return ipaddress.ip_address(packet[8:24]), ipaddress.ip_address(packet[24:40]), upper_protocol(packet)[0]


def upper_protocol(packet):
    """Protocol behind the IP header and its extension headers, and where it begins."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 15) * 4
    following, at = packet[6], 40
    while following in (0, 43, 44, 60):
        size = 8 if following == 44 else packet[at + 1] * 8 + 8
        following, at = packet[at], at + size
    return following, at


def in_range(address, text):
    if "-" in text:
        first, last = (ipaddress.ip_address(end) for end in text.split("-"))
        return address.version == first.version and first <= address <= last
    return address in ipaddress.ip_network(text)


def internet_checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_length(packet, length):
    """The packet cut to `length`, with the IP length and checksum that belong to it."""
    packet = bytearray(packet[:length])
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        struct.pack_into(">H", packet, 2, length)
        struct.pack_into(">H", packet, 10, 0)
        struct.pack_into(">H", packet, 10, internet_checksum(bytes(packet[:header])))
    else:
        struct.pack_into(">H", packet, 4, length - 40)
    return bytes(packet)


class Selecting:
    """A [[sa]] table, and which packets it selects."""

    def __init__(self, table):
        self.table = table
        self.name, self.tunnel = table["name"], table["mode"] == "tunnel"
        self.source = ipaddress.ip_address(table["source"])
        self.destination = ipaddress.ip_address(table["destination"])

    def selects(self, packet):
        source, destination, protocol = addresses(packet)
        if "selectors" not in self.table:
            return self.tunnel or (source, destination) == (self.source, self.destination)
        return any(self.selector_takes(selector, source, destination, protocol) for selector in self.table["selectors"])

    def selector_takes(self, selector, source, destination, protocol):
        for field, value in selector.items():
            if field == "source":
                fits = in_range(source, value)
            elif field == "destination":
                fits = in_range(destination, value)
            elif field == "protocol":
                fits = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}.get(value, value) == protocol
            else:
                sys.exit(f"bundle {self.name!r}: selector field {field} is not known here")
            if not fits:
                return False
        return True


def ends(number, kind):
    """Source and destination of a case: kind 4 or 6 inside, 14 or 16 outside."""
    return {
        4: (f"10.{number}.1.1", f"10.{number}.2.1"),
        6: (f"fd00:{number:x}:1::1", f"fd00:{number:x}:2::1"),
        14: ("192.0.2.1", "192.0.2.2"),
        16: ("2001:db8::1", "2001:db8::2"),
    }[kind]


def ip_packets(path):
    """IP packets of a RAW or Ethernet capture, without what a link padded."""
    with RawPcapReader(path) as reader:
        for data, meta in reader:
            link = getattr(meta, "linktype", None)
            if (reader.linktype if link is None else link) == ETHERNET:
                kind, data = data[12:14], data[14:]
                while kind in (b"\x81\x00", b"\x88\xa8"):
                    kind, data = data[2:4], data[4:]
                if kind not in (b"\x08\x00", b"\x86\xdd"):
                    continue
            length = struct.unpack(">H", data[2:4])[0] if data[0] >> 4 == 4 else struct.unpack(">H", data[4:6])[0] + 40
            yield data[:length]


def write(path, link, packets):
    writer = RawPcapWriter(path, linktype=link, nano=True, endianness="<")
    writer.write_header(None)
    for number, packet in enumerate(packets):
        if link == ETHERNET:
            kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
            packet = b"\x02\0\0\0\x02\x01\x02\0\0\0\x01\x01" + kind + packet
        # Sequential whole microseconds, so that no form of capture rounds them.
        writer.write_packet(packet, sec=1_767_225_600, usec=number * 1000_000, caplen=len(packet), wirelen=len(packet))
    writer.close()


def report(number, differences):
    """Prints what verify found in `number` packets; the exit code."""
    for line in differences[:SHOWN]:
        print(line, file=sys.stderr)
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more", file=sys.stderr)
    print(f"{number} packets, {len(differences)} differences")
    return 1 if differences else 0


def arguments(description, commands):
    """The command line: commands with the files that they take; those that write captures have --link."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, files in commands.items():
        command = subparsers.add_parser(name)
        for file in files:
            command.add_argument(file)
        if name != "verify":
            command.add_argument("--link", choices=sorted(LINKS), default="raw")
    args = vars(parser.parse_args())
    args["link"] = LINKS[args.get("link") or "raw"]
    return args
