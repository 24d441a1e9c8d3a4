"""ESP and AH around packets, one SA bundle at a time, for scapy_suites.py.

Scapy's algorithms encrypt, decrypt and compute ICVs, scapy's zero_mutable_fields masks what AH does not
cover. What scapy does not have comes from the Python package cryptography: AES-GMAC in AH, ICVs of 8
and 12 bytes. Where headers go is decided here.
"""
import random
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy_common import Selecting, addresses, internet_checksum, parse, with_length

from scapy.layers.inet import IP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.layers.ipsec import AH, AUTH_ALGOS, CRYPT_ALGOS, ESP, IPSecIntegrityError, SecurityAssociation, _ESPPlain, zero_mutable_fields
from scapy.packet import Raw

UDP_PROTOCOL, ESP_PROTOCOL, AH_PROTOCOL, NO_NEXT_HEADER = 17, 50, 51, 59
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
IP_IN = {4: 4, 6: 41}  # next header of a packet of this IP version in a tunnel
FULL_ICV = 16  # of combined algorithms

# Name in SA files: scapy's name, bytes of key and salt.
ENCRYPTION = {
    "null": ("NULL", 0),
    "des-cbc": ("DES", 8),
    "3des-cbc": ("3DES", 24),
    "aes-cbc-128": ("AES-CBC", 16),
    "aes-cbc-192": ("AES-CBC", 24),
    "aes-cbc-256": ("AES-CBC", 32),
    "aes-gcm-128": ("AES-GCM", 20),
    "aes-gcm-192": ("AES-GCM", 28),
    "aes-gcm-256": ("AES-GCM", 36),
    "chacha20-poly1305": ("CHACHA20-POLY1305", 36),
}
AUTHENTICATION = {
    "none": ("NULL", 0),
    "hmac-md5-96": ("HMAC-MD5-96", 16),
    "hmac-sha1-96": ("HMAC-SHA1-96", 20),
    "hmac-sha-256-128": ("SHA2-256-128", 32),
    "hmac-sha-384-192": ("SHA2-384-192", 48),
    "hmac-sha-512-256": ("SHA2-512-256", 64),
    "aes-gmac-128": ("AES-NULL-GMAC", 20),
    "aes-gmac-192": ("AES-NULL-GMAC", 28),
    "aes-gmac-256": ("AES-NULL-GMAC", 36),
}


class Association:
    """One [[sa.association]]."""

    def __init__(self, table):
        self.operation, self.spi = table["operation"], table["spi"]
        self.esn = table.get("extended-sequence-numbers", False)
        self.last = table.get("sequence-number-high", 0) << 32 | table.get("sequence-number", 0)
        self.ivs = set()
        self.authentication = table.get("authentication", "none")
        authentication = AUTHENTICATION[self.authentication][0]
        self.authentication_key = bytes.fromhex(table.get("authentication-key", ""))
        self.gmac = authentication == "AES-NULL-GMAC"
        if self.operation == "ah":
            # AES-GMAC: IV and ICV.
            self.field = 8 + FULL_ICV if self.gmac else AUTH_ALGOS[authentication].icv_size
            return
        encryption = ENCRYPTION[table["encryption"]][0]
        self.encryption_key = bytes.fromhex(table.get("encryption-key", ""))
        if self.gmac:
            # Scapy counts AES-GMAC among the combined algorithms.
            encryption, self.encryption_key, authentication = "AES-NULL-GMAC", self.authentication_key, "NULL"
        self.scapy = SecurityAssociation(
            ESP, spi=self.spi, crypt_algo=encryption, crypt_key=self.encryption_key, auth_algo=authentication,
            auth_key=self.authentication_key, esn_en=self.esn)
        self.combined = CRYPT_ALGOS[encryption].is_aead
        self.block, self.iv = CRYPT_ALGOS[encryption].block_size, CRYPT_ALGOS[encryption].iv_size
        self.alignment = max(self.block, 4)
        self.icv = table.get("icv-length", FULL_ICV) if self.combined else AUTH_ALGOS[authentication].icv_size
        # Scapy knows only whole ICVs.
        self.cut = FULL_ICV - self.icv if self.combined else 0

    def high(self, sequence):
        return sequence >> 32 if self.esn else 0

    # ESP: the bytes from the SPI on.

    def seal_esp(self, payload, following, sequence, iv, padding=None):
        """padding: not by the rules, but of a length that fits."""
        if padding is None:
            padding = bytes(range(1, 1 + -(len(payload) + 2) % self.alignment))
        if (len(payload) + len(padding) + 2) % self.alignment:
            raise ValueError(f"{len(padding)} bytes of padding do not fit")
        plain = _ESPPlain(spi=self.spi, seq=sequence & 0xFFFFFFFF, iv=iv, data=Raw(payload), padding=padding, padlen=len(padding), nh=following)
        esn = {"esn_en": self.esn, "esn": self.high(sequence)}
        esp = self.scapy.crypt_algo.encrypt(self.scapy, plain, self.scapy.crypt_key, **esn)
        esp = bytes(self.scapy.auth_algo.sign(esp, self.scapy.auth_key, **esn))
        return esp[: len(esp) - self.cut]

    def open_esp(self, esp, sequence):
        """Payload, padding and next header; raises IPSecIntegrityError."""
        if len(esp) < 8 + self.iv + self.alignment + self.icv or (len(esp) - self.icv - 8 - self.iv) % self.alignment:
            raise ValueError(f"{len(esp)} bytes are no ESP packet")
        esn = {"esn_en": self.esn, "esn": self.high(sequence)}
        parsed = ESP(self.with_whole_icv(esp, sequence) if self.cut else esp)
        self.scapy.auth_algo.verify(parsed, self.scapy.auth_key, **esn)
        icv = FULL_ICV if self.combined else self.icv
        plain = self.scapy.crypt_algo.decrypt(self.scapy, parsed, self.scapy.crypt_key, icv, **esn)
        if plain.padlen + 2 > len(esp) - self.icv - 8 - self.iv:
            raise ValueError(f"padding of {plain.padlen} bytes cannot be")
        return bytes(plain.data), bytes(plain.padding), plain.nh

    def with_whole_icv(self, esp, sequence):
        """The whole ICV must begin with the one received; then scapy can check and open."""
        end = len(esp) - self.icv
        number = struct.pack(">Q" if self.esn else ">I", sequence if self.esn else sequence & 0xFFFFFFFF)
        key, nonce = self.encryption_key[:-4], self.encryption_key[-4:] + esp[8:16]
        counter = Cipher(algorithms.AES(key), modes.CTR(nonce + b"\0\0\0\2")).decryptor()
        clear = counter.update(esp[16:end]) + counter.finalize()
        whole = AESGCM(key).encrypt(nonce, clear, esp[:4] + number)[-FULL_ICV:]
        if whole[: self.icv] != esp[end:]:
            raise IPSecIntegrityError("the ICV is wrong")
        return esp[:end] + whole

    # AH, in a packet.

    def ah_length(self, alignment):
        return 12 + self.field + -(12 + self.field) % alignment

    def header(self, following, sequence, alignment, padding):
        """An AH with padding of bytes that `padding` gives, and zeros in the place of IV and ICV."""
        length = self.ah_length(alignment)
        numbers = struct.pack(">BBHII", following, length // 4 - 2, 0, self.spi, sequence & 0xFFFFFFFF)
        return numbers + bytes(self.field) + padding(length - 12 - self.field)

    def icv_of(self, packet, at, sequence, iv):
        """The ICV of the whole packet with an AH at `at`, by scapy's rules about mutable fields."""
        packet, at = without_fragment_headers(packet, at)
        headers = parse(packet[:at])
        if bytes(headers) != packet[:at]:
            raise ValueError(f"scapy writes {packet[:at].hex()} as {bytes(headers).hex()}")
        length = packet[at + 1] * 4 + 8
        following, words, reserved, spi, number = struct.unpack(">BBHII", packet[at : at + 12])
        ah = AH(nh=following, payloadlen=words, reserved=reserved, spi=spi, seq=number, icv=bytes(self.field),
                padding=packet[at + 12 + self.field : at + length])
        masked = zero_mutable_fields(headers / ah / Raw(packet[at + length :]), sending=False)
        # Of a packet that has arrived, scapy's function does not look at what is behind a routing header.
        behind_route = masked.getlayer(IPv6ExtHdrRouting)
        for option in behind_route.payload.options if behind_route and isinstance(behind_route.payload, IPv6ExtHdrDestOpt) else []:
            if option.otype & 0x20:
                option.optdata = bytes(option.optlen)
        text = bytes(masked)
        if len(text) != len(packet):
            raise ValueError("masking has changed the length")
        if self.esn:
            text += struct.pack(">I", sequence >> 32)
        if self.gmac:
            key = self.authentication_key
            return iv + AESGCM(key[:-4]).encrypt(key[-4:] + iv, b"", text)
        mac = AUTH_ALGOS[AUTHENTICATION[self.authentication][0]].new_mac(self.authentication_key)
        mac.update(text)
        return mac.finalize()[: self.field]


class Shape:
    """What a sender is free to do; by default what an ordinary one does."""

    def __init__(self, rng, **wishes):
        self.rng = rng
        self.esp_padding = wishes.get("esp_padding")  # None, "zeros", "random", "long", "longest"
        self.tfc = wishes.get("tfc", 0)  # bytes behind a packet in a tunnel
        self.tfc_zeros = wishes.get("tfc_zeros", False)
        self.dummy = wishes.get("dummy", False)
        self.ah_alignment = wishes.get("ah_alignment")
        self.ah_padding = wishes.get("ah_padding", False)  # not zeros
        self.udp_source = wishes.get("udp_source")
        self.udp_checksum = wishes.get("udp_checksum", 0)
        self.outer_options = wishes.get("outer_options", False)
        self.options_inside = wishes.get("options_inside", False)  # IPv6 destination options behind ESP and AH
        self.plain_outer = wishes.get("plain_outer", False)

    def iv(self, length):
        return self.rng.randbytes(length)

    def padding(self, payload, alignment):
        least = -(len(payload) + 2) % alignment
        most = least + (255 - least) // alignment * alignment
        if self.esp_padding is None:
            return None
        if self.esp_padding == "zeros":
            return bytes(least)
        if self.esp_padding == "random":
            return self.rng.randbytes(least)
        if self.esp_padding == "long":
            return bytes(range(1, 1 + min(least + 2 * alignment, most)))
        return self.rng.randbytes(most)


class Bundle(Selecting):
    """One [[sa]]."""

    def __init__(self, table):
        super().__init__(table)
        self.associations = [Association(association) for association in table["association"]]
        self.esp = next((each for each in self.associations if each.operation == "esp"), None)
        self.ah = next((each for each in self.associations if each.operation == "ah"), None)
        self.udp = table.get("udp-encapsulation")
        self.inside = table.get("inside")
        self.flow = table.get("traffic-flow", {})
        self.packets = self.dummies = 0  # that verify has seen
        self.alignment = table.get("ah-alignment", 4 if self.source.version == 4 else 8)

    def outermost_first(self):
        return [each for each in (self.ah, self.esp) if each]

    def seal(self, packet, sequences, shape):
        """The packet under this bundle; sequences: by operation."""
        if self.tunnel:
            inner = packet
            packet = self.outer_header(IP_IN[inner[0] >> 4], shape) + inner
        pointer, at = place(packet, shape.options_inside)
        if self.esp:
            payload, following = packet[at:], packet[pointer]
            if self.tunnel and shape.tfc:
                payload += bytes(shape.tfc) if shape.tfc_zeros else shape.rng.randbytes(shape.tfc)
            if shape.dummy:
                payload, following = shape.rng.randbytes(1 + shape.rng.randrange(200)), NO_NEXT_HEADER
            esp = self.esp.seal_esp(payload, following, sequences["esp"], shape.iv(self.esp.iv), shape.padding(payload, self.esp.alignment))
            if self.udp:
                source = shape.udp_source or self.udp["source-port"]
                esp = struct.pack(">HHHH", source, self.udp["destination-port"], 8 + len(esp), shape.udp_checksum) + esp
            packet = put(packet[:at], pointer, UDP_PROTOCOL if self.udp else ESP_PROTOCOL) + esp
        if self.ah:
            alignment = shape.ah_alignment if shape.ah_alignment and packet[0] >> 4 == 4 else self.alignment
            header = self.ah.header(packet[pointer], sequences["ah"], alignment, shape.rng.randbytes if shape.ah_padding else bytes)
            packet = put(packet[:at], pointer, AH_PROTOCOL) + header + packet[at:]
            packet = with_length(packet, len(packet))
            field = self.ah.icv_of(packet, at, sequences["ah"], shape.iv(8))
            packet = packet[: at + 12] + field + packet[at + 12 + len(field) :]
        return with_length(packet, len(packet))

    def outer_header(self, following, shape):
        source, destination = str(self.source), str(self.destination)
        rng = shape.rng
        if self.source.version == 4:
            options = [IPOption_Router_Alert(), IPOption_NOP()] if shape.outer_options else []
            if shape.plain_outer:
                return bytes(IP(src=source, dst=destination, proto=following))
            # No congestion marks: what they do to the packet inside is not the matter here.
            return bytes(IP(src=source, dst=destination, id=rng.randrange(65536), ttl=rng.randrange(1, 256), tos=rng.randrange(64) << 2,
                            flags=rng.choice([0, 2]), options=options, proto=following))
        if shape.plain_outer:
            return bytes(IPv6(src=source, dst=destination, nh=following))
        header = IPv6(src=source, dst=destination, fl=rng.randrange(1 << 20), hlim=rng.randrange(1, 256), tc=rng.randrange(64) << 2, nh=following)
        if shape.outer_options:
            header.nh = HOP_BY_HOP
            header /= IPv6ExtHdrHopByHop(nh=following, options=[PadN(optdata=bytes(4))])
        return bytes(header)

    def open(self, packet, sequences, judge=None):
        """What is inside, and whether it is a dummy; raises IPSecIntegrityError, ValueError. judge: sees what a sender is free to do."""
        judge = judge or Judge()
        if addresses(packet)[:2] != (self.source, self.destination):
            raise ValueError("not the addresses of the bundle")
        judge.ip_header(packet)
        pointer, at = pointer_and_end(packet)
        following = packet[pointer]
        if self.ah:
            if following != AH_PROTOCOL:
                raise ValueError(f"protocol {following} instead of AH")
            length = packet[at + 1] * 4 + 8
            if length not in (self.ah.ah_length(4), self.ah.ah_length(8)) or len(packet) < at + length:
                raise ValueError(f"an AH of {length} bytes")
            self.check_numbers(self.ah, packet[at + 4 : at + 12], sequences)
            field = packet[at + 12 : at + 12 + self.ah.field]
            if self.ah.icv_of(packet, at, sequences["ah"], field[:8]) != field:
                raise IPSecIntegrityError("the ICV of AH is wrong")
            judge.ah(self, packet[at : at + length], field)
            following = packet[at]
            packet = put(packet[:at], pointer, following) + packet[at + length :]
        if self.udp:
            if following != UDP_PROTOCOL:
                raise ValueError(f"protocol {following} instead of UDP")
            judge.udp(self, packet[at:])
            packet = put(packet[:at], pointer, ESP_PROTOCOL) + packet[at + 8 :]
            following = ESP_PROTOCOL
        if self.esp:
            if following != ESP_PROTOCOL:
                raise ValueError(f"protocol {following} instead of ESP")
            self.check_numbers(self.esp, packet[at : at + 8], sequences)
            payload, padding, following = self.esp.open_esp(packet[at:], sequences["esp"])
            judge.esp(self, packet[at:], padding)
            if following == NO_NEXT_HEADER:
                return None, True
            packet = put(packet[:at], pointer, following) + payload
        if not self.tunnel:
            return with_length(packet, len(packet)), False
        inner = packet[at:]
        if following not in IP_IN.values() or IP_IN.get(inner[0] >> 4) != following:
            raise ValueError(f"next header {following} in a tunnel")
        length = struct.unpack(">H", inner[2:4])[0] if following == 4 else struct.unpack(">H", inner[4:6])[0] + 40
        judge.tfc(self, inner, length)
        return inner[:length], False

    def low_halves(self, packet):
        """The low halves of the packet's sequence numbers, by operation, of associations that are there."""
        pointer, at = pointer_and_end(packet)
        following, found = packet[pointer], {}
        if self.ah and following == AH_PROTOCOL:
            found["ah"] = int.from_bytes(packet[at + 8 : at + 12], "big")
            following, at = packet[at], at + packet[at + 1] * 4 + 8
        if self.udp and following == UDP_PROTOCOL:
            following, at = ESP_PROTOCOL, at + 8
        if self.esp and following == ESP_PROTOCOL:
            found["esp"] = int.from_bytes(packet[at + 4 : at + 8], "big")
        return found

    @staticmethod
    def check_numbers(association, numbers, sequences):
        spi, low = struct.unpack(">II", numbers)
        wanted = sequences[association.operation] & 0xFFFFFFFF
        if (spi, low) != (association.spi, wanted):
            raise ValueError(f"{association.operation}: SPI 0x{spi:08x}, number 0x{low:08x} instead of 0x{association.spi:08x}, 0x{wanted:08x}")


class Judge:
    """Takes everything that a receiver must take."""

    def ip_header(self, packet):
        pass

    def ah(self, bundle, header, field):
        pass

    def udp(self, bundle, datagram):
        pass

    def esp(self, bundle, esp, padding):
        pass

    def tfc(self, bundle, inner, length):
        pass


class StrictJudge(Judge):
    """Says what an ordinary sender, such as ipsecov2, should have done otherwise."""

    def __init__(self, differ):
        self.differ = differ

    def ip_header(self, packet):
        if packet[0] >> 4 == 4 and internet_checksum(packet[: (packet[0] & 15) * 4]):
            self.differ("the IPv4 header checksum is wrong")
        elif with_length(packet, len(packet)) != packet:
            self.differ("the IP length is wrong")

    def ah(self, bundle, header, field):
        association = bundle.ah
        if len(header) != association.ah_length(bundle.alignment):
            self.differ(f"an AH of {len(header)} bytes instead of {association.ah_length(bundle.alignment)}")
        if header[2:4] != bytes(2) or any(header[12 + len(field) :]):
            self.differ("the reserved field or the padding of AH is not zero")
        if association.gmac:
            self.fresh(association, field[:8])

    def udp(self, bundle, datagram):
        ports = (bundle.udp["source-port"], bundle.udp["destination-port"])
        if struct.unpack(">HHHH", datagram[:8]) != (*ports, len(datagram), 0):
            self.differ(f"UDP header {datagram[:8].hex()}")

    def esp(self, bundle, esp, padding):
        if padding != bytes(range(1, len(padding) + 1)) or len(padding) >= bundle.esp.alignment:
            self.differ(f"padding {padding.hex()}")
        if bundle.esp.iv:
            self.fresh(bundle.esp, esp[8 : 8 + bundle.esp.iv])

    def tfc(self, bundle, inner, length):
        wanted = max(length, min(bundle.flow.get("pad-to", 0), 65535)) if bundle.esp else length
        if len(inner) != wanted or any(inner[length:]):
            self.differ(f"{len(inner) - length} bytes behind the packet inside, of {length} bytes, instead of {wanted - length} zeros")

    def fresh(self, association, iv):
        if iv in association.ivs:
            self.differ("an IV repeats")
        association.ivs.add(iv)


def put(headers, pointer, protocol):
    return headers[:pointer] + bytes([protocol]) + headers[pointer + 1 :]


def pointer_and_end(packet, stop=None):
    """Where the byte stands that names what follows the IP header and its extension headers, and where that begins."""
    if packet[0] >> 4 == 4:
        return 9, (packet[0] & 15) * 4
    pointer, at = 6, 40
    while packet[pointer] in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS) and (stop is None or not stop(packet, pointer, at)):
        size = 8 if packet[pointer] == FRAGMENT else packet[at + 1] * 8 + 8
        pointer, at = at, at + size
    return pointer, at


def without_fragment_headers(packet, at):
    """AH is made before a packet is fragmented, and checked when it is whole again: it does not know of such headers."""
    pointer, here = (6, 40) if packet[0] >> 4 == 6 else (9, at)
    while here < at:
        if packet[pointer] == FRAGMENT:
            packet = put(packet[:here], pointer, packet[here]) + packet[here + 8 :]
            packet, at = with_length(packet, len(packet)), at - 8
        else:
            pointer, here = here, here + packet[here + 1] * 8 + 8
    return packet, at


def place(packet, options_inside):
    """Where ESP and AH go: behind options that routers look at; those for the destination are before or behind."""

    def stop(packet, pointer, at):
        return options_inside and packet[pointer] == DESTINATION_OPTIONS and packet[at] != ROUTING

    return pointer_and_end(packet, stop)


def plain_shape(seed):
    """What scapy's own sender does."""
    return Shape(random.Random(seed), plain_outer=True)
