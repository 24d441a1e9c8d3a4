//! One state, line by line.

use ipsec::{Encryption, ReplayWindow};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, Spi};
use secret::SecretBytes;
use transport::{AddressRange, Mode, PortRange, Selector, UdpEncapsulation};

use super::super::error::{FileError, Problem};
use super::super::{SaFileRules, checks};
use super::algorithms::{self, Algorithm};
use super::lines::{Line, Word, shown};

/// First words of lines, for errors.
const KNOWN: &[&str] = &[
    "src",
    "proto",
    "replay-window",
    "flag",
    "mark",
    "output-mark",
    "auth",
    "auth-trunc",
    "aead",
    "enc",
    "encap",
    "anti-replay",
    "sel",
    "tfcpad",
    "dir",
    "if_id",
    "lastused",
    "crypto",
    "lifetime",
    "stats:",
    "security",
    "nat_keepalive_interval",
    "pcpu-num",
];

/// A state's flags that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) esn: bool,
    pub(super) align4: bool,
    pub(super) af_unspec: bool,
}

/// Sequence numbers: of what was received, and of what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) received: u32,
    pub(super) received_high: u32,
    pub(super) sent: u32,
    pub(super) sent_high: u32,
}

/// A selector as it stands; it is put together when the whole state is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sel {
    pub(super) at: usize,
    pub(super) source: (IpAddress, u8),
    pub(super) destination: (IpAddress, u8),
    pub(super) protocol: Option<IpProtocol>,
    pub(super) source_port: PortRange,
    pub(super) destination_port: PortRange,
}

/// What a state says.
pub(super) struct State {
    pub(super) at: usize,
    pub(super) source: IpAddress,
    pub(super) destination: IpAddress,
    /// Where the `proto` line begins; `None`: there was none.
    pub(super) id_at: Option<usize>,
    pub(super) operation: Operation,
    pub(super) spi: Spi,
    /// Where the SPI stands.
    pub(super) spi_at: usize,
    pub(super) reqid: u32,
    pub(super) mode: Mode,
    pub(super) replay_window: Option<u32>,
    /// The one that the context of extended numbers has, and which counts then.
    pub(super) context_window: Option<u32>,
    pub(super) flags: Flags,
    pub(super) numbers: Numbers,
    pub(super) encryption: Option<(Encryption, SecretBytes, u8)>,
    pub(super) authentication: Option<(ipsec::Authentication, SecretBytes)>,
    /// Where the first line with an algorithm is.
    pub(super) algorithm_at: Option<usize>,
    pub(super) encap: Option<(usize, UdpEncapsulation)>,
    pub(super) sel: Option<Sel>,
    pub(super) tfcpad: Option<(usize, u16)>,
    pub(super) direction: Option<Direction>,
    /// What will not be done as the state says.
    pub(super) notes: Vec<(usize, String)>,
    seen: Vec<&'static str>,
    block: Block,
}

/// Which lines belong together with one before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    /// The window and the bitmap of an `anti-replay esn context`.
    Context,
    /// `lifetime config:` and `lifetime current:`.
    Lifetime,
    /// `stats:`.
    Stats,
}

impl State {
    /// A state of which the first line, behind `src`, is `line`.
    pub(super) fn begin(word: Word<'_>, line: &mut Line<'_>) -> Result<Self, FileError> {
        line.field = "src";
        let source = line.address()?;
        line.expect("dst")?;
        line.field = "dst";
        let at = line.peek().map_or(word.at, |word| word.at);
        let destination = line.address()?;
        if destination.version() != source.version() {
            return Err(line.invalid(at, format!("{destination}, {},", destination.version()), format!("the source {source} is {}", source.version())));
        }
        line.end()?;
        Ok(Self {
            at: word.at,
            source,
            destination,
            id_at: None,
            operation: Operation::Esp,
            spi: Spi(0),
            spi_at: word.at,
            reqid: 0,
            mode: Mode::Transport,
            replay_window: None,
            context_window: None,
            flags: Flags::default(),
            numbers: Numbers::default(),
            encryption: None,
            authentication: None,
            algorithm_at: None,
            encap: None,
            sel: None,
            tfcpad: None,
            direction: None,
            notes: Vec::new(),
            seen: Vec::new(),
            block: Block::None,
        })
    }

    /// Reads a line of it, behind its first word.
    pub(super) fn line(&mut self, word: Word<'_>, line: &mut Line<'_>, rules: SaFileRules<'_>) -> Result<(), FileError> {
        if self.in_block(word, line)? {
            return Ok(());
        }
        self.block = Block::None;
        let Some(&first) = KNOWN.iter().find(|known| **known == word.text) else {
            return Err(match word.text {
                "coa" | "iptfs-opts" | "comp" => {
                    line.invalid(word.at, format!("{:?}", word.text), "only ESP and AH in transport and tunnel mode are supported")
                }
                _ => line.source.error(word.at, Problem::UnknownField { found: shown(word.text), allowed: KNOWN }),
            });
        };
        line.field = first;
        // The two lines of lifetimes share a word; the two kinds of contexts, too, and there is one or the other.
        if first != "lifetime" {
            let group = match first {
                "auth-trunc" => "auth",
                "flag" => "replay-window",
                first => first,
            };
            if self.seen.contains(&group) {
                return Err(line.invalid(word.at, "a second line", "one allowed"));
            }
            self.seen.push(group);
        }
        match first {
            "proto" => self.id(word, line, rules)?,
            "replay-window" | "flag" => self.flags(word, line)?,
            "auth" | "auth-trunc" | "enc" | "aead" => self.algorithm(word, line)?,
            "encap" => self.encap(word, line)?,
            "anti-replay" => self.context(line)?,
            "sel" => self.selector(word, line)?,
            "tfcpad" => {
                let (_, length) = line.number(0, 65535)?;
                self.tfcpad = Some((word.at, length as u16)).filter(|_| length > 0);
            }
            "dir" => self.direction = Some(direction(line)?),
            "crypto" => self.offload(line)?,
            "lifetime" => {
                self.block = Block::Lifetime;
                line.skip();
            }
            "stats:" => self.block = Block::Stats,
            // What the state is about beside IPsec.
            _ => line.skip(),
        }
        // A word behind a key could be a part of it.
        if self.algorithm_at.is_some() && ["auth", "auth-trunc", "enc", "aead"].contains(&first) {
            return line.next().map_or(Ok(()), |word| Err(line.invalid(word.at, "another word", "the end of the line expected")));
        }
        line.end()
    }

    /// Whether a line belongs to what was before; reads it then.
    fn in_block(&mut self, word: Word<'_>, line: &mut Line<'_>) -> Result<bool, FileError> {
        match self.block {
            Block::Lifetime if ["limit:", "expire", "add"].contains(&word.text) || word.text.ends_with("(bytes),") => line.skip(),
            Block::Stats if word.text == "replay-window" => line.skip(),
            Block::Context => {
                line.field = "anti-replay";
                let is_bitmap = word.text.len() == 8 && word.text.bytes().all(|byte| byte.is_ascii_hexdigit());
                match word.text {
                    "seq-hi" | "seq" | "oseq-hi" | "oseq" => {
                        self.numbers(word, line)?;
                        line.end()?;
                    }
                    "replay_window" => {
                        self.context_window = Some(line.number(0, ReplayWindow::MAX_SIZE)?.1);
                        line.expect("bitmap-length")?;
                        line.number(0, u32::MAX)?;
                        line.end()?;
                    }
                    _ if is_bitmap => line.skip(),
                    _ => return Ok(false),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `proto esp spi 0x00001001 reqid 1 mode tunnel`.
    fn id(&mut self, word: Word<'_>, line: &mut Line<'_>, rules: SaFileRules<'_>) -> Result<(), FileError> {
        self.id_at = Some(word.at);
        let proto = line.require("\"esp\" or \"ah\"")?;
        self.operation = match proto.text {
            "esp" => Operation::Esp,
            "ah" => Operation::Ah,
            _ => return Err(line.wrong(proto, "\"esp\" or \"ah\" allowed")),
        };
        line.expect("spi")?;
        line.field = "spi";
        let (place, number) = line.number(0, u32::MAX)?;
        self.spi_at = place.at;
        // 0 is what a state has while its keys are being negotiated; it is looked at when it is known whether there are any.
        self.spi = match checks::spi(number, rules) {
            Ok(spi) => spi,
            Err(_) if number == 0 => Spi(0),
            Err(allowed) => return Err(line.invalid(place.at, format!("{number:#010x}"), allowed)),
        };
        line.expect("reqid")?;
        line.field = "reqid";
        self.reqid = line.number(0, u32::MAX)?.1;
        line.expect("mode")?;
        line.field = "mode";
        let mode = line.require("\"transport\" or \"tunnel\"")?;
        self.mode = match mode.text {
            "transport" => Mode::Transport,
            "tunnel" => Mode::Tunnel,
            _ => return Err(line.wrong(mode, "\"transport\" or \"tunnel\" allowed")),
        };
        Ok(())
    }

    /// `replay-window 32 seq 0x00000000 flag af-unspec esn extra_flag oseq-may-wrap (0x10100000)`.
    fn flags(&mut self, first: Word<'_>, line: &mut Line<'_>) -> Result<(), FileError> {
        if first.text == "replay-window" {
            line.field = "replay-window";
            self.replay_window = Some(line.number(0, ReplayWindow::MAX_SIZE)?.1);
        }
        line.field = "flag";
        while let Some(word) = line.next() {
            let will_not = match word.text {
                "flag" | "extra_flag" | "icmp" => continue,
                // The number of the message that asked for the SA.
                "seq" => {
                    line.require("a number")?;
                    continue;
                }
                "esn" => {
                    self.flags.esn = true;
                    continue;
                }
                "align4" => {
                    self.flags.align4 = true;
                    continue;
                }
                "af-unspec" => {
                    self.flags.af_unspec = true;
                    continue;
                }
                "noecn" => "congestion marks of the outer header are carried into the inner one all the same",
                "decap-dscp" => "the inner header keeps its own DSCP",
                "nopmtudisc" => "the outer header's DF bit is set as for any other SA",
                "dont-encap-dscp" => "the outer header gets the inner one's DSCP all the same",
                "oseq-may-wrap" => "the SA ends with its last sequence number",
                text if text.starts_with("(0x") => continue,
                _ => {
                    let allowed = "allowed: noecn, decap-dscp, nopmtudisc, icmp, af-unspec, align4, esn, dont-encap-dscp, oseq-may-wrap";
                    return Err(line.wrong(word, allowed));
                }
            };
            self.notes.push((word.at, format!("flag {}: {will_not}", word.text)));
        }
        Ok(())
    }

    fn algorithm(&mut self, word: Word<'_>, line: &mut Line<'_>) -> Result<(), FileError> {
        self.algorithm_at.get_or_insert(word.at);
        let taken = match algorithms::read(line, word)? {
            Algorithm::Encryption(encryption, key) => self.encryption.replace((encryption, key, 0)).is_some(),
            Algorithm::Authentication(authentication, key) => self.authentication.replace((authentication, key)).is_some(),
            Algorithm::Combined(encryption, key, icv) => self.encryption.replace((encryption, key, icv)).is_some() || self.authentication.is_some(),
            Algorithm::Gmac(authentication, key) => {
                self.encryption.replace((Encryption::Null, SecretBytes::default(), 0)).is_some() || self.authentication.replace((authentication, key)).is_some()
            }
        };
        let is_combined = self.seen.contains(&"aead") && (self.seen.contains(&"enc") || self.seen.contains(&"auth"));
        if taken || is_combined { Err(line.invalid(word.at, "a further algorithm", "aead stands alone; enc and auth once each allowed")) } else { Ok(()) }
    }

    /// `encap type espinudp sport 4500 dport 4500 addr 0.0.0.0`.
    fn encap(&mut self, first: Word<'_>, line: &mut Line<'_>) -> Result<(), FileError> {
        line.expect("type")?;
        let kind = line.require("\"espinudp\"")?;
        if kind.text != "espinudp" {
            return Err(line.wrong(kind, "\"espinudp\" allowed (RFC 3948)"));
        }
        line.expect("sport")?;
        let source_port = line.number(0, 65535)?.1 as u16;
        line.expect("dport")?;
        let destination_port = line.number(1, 65535)?.1 as u16;
        // The address that a peer had before a NAT changed it.
        if line.take("addr") {
            line.address()?;
        }
        self.encap = Some((first.at, UdpEncapsulation { source_port, destination_port }));
        Ok(())
    }

    /// `anti-replay context: seq 0x1, oseq 0x0, bitmap 0x00000001`, or the first line of an `anti-replay esn context:`.
    fn context(&mut self, line: &mut Line<'_>) -> Result<(), FileError> {
        let is_extended = line.take("esn");
        line.expect("context:")?;
        if is_extended {
            self.block = Block::Context;
            // In the newest version, an outbound SA's numbers stand on the same line.
            return line.next().map_or(Ok(()), |word| self.numbers(word, line));
        }
        let word = line.require("\"seq\"")?;
        self.numbers(word, line)
    }

    /// Pairs of names and numbers, beginning with the name `word`.
    fn numbers(&mut self, word: Word<'_>, line: &mut Line<'_>) -> Result<(), FileError> {
        let mut next = Some(word);
        while let Some(word) = next {
            let number = line.number(0, u32::MAX)?.1;
            match word.text {
                "seq" => self.numbers.received = number,
                "seq-hi" => self.numbers.received_high = number,
                "oseq" => self.numbers.sent = number,
                "oseq-hi" => self.numbers.sent_high = number,
                "bitmap" => {}
                _ => return Err(line.wrong(word, "allowed: seq-hi, seq, oseq-hi, oseq, bitmap")),
            }
            next = line.next();
        }
        Ok(())
    }

    /// `crypto offload parameters: dev eth2 dir out mode packet`: the device is another's business, the direction is not.
    fn offload(&mut self, line: &mut Line<'_>) -> Result<(), FileError> {
        while let Some(word) = line.next() {
            if word.text == "dir" {
                let direction = direction(line)?;
                self.direction.get_or_insert(direction);
            }
        }
        Ok(())
    }

    /// `sel src 10.0.1.0/24 dst 10.0.2.0/24 proto tcp sport 1 dport 2`.
    fn selector(&mut self, first: Word<'_>, line: &mut Line<'_>) -> Result<(), FileError> {
        line.expect("src")?;
        let source = prefix(line)?;
        line.expect("dst")?;
        let at = line.peek().map_or(first.at, |word| word.at);
        let destination = prefix(line)?;
        if source.0.version() != destination.0.version() {
            return Err(line.invalid(at, format!("{}, {},", destination.0, destination.0.version()), format!("the source is {}", source.0.version())));
        }
        let mut sel = Sel { at: first.at, source, destination, protocol: None, source_port: PortRange::ANY, destination_port: PortRange::ANY };
        while let Some(word) = line.next() {
            match word.text {
                // 0 is any, not the header with that number.
                "proto" => sel.protocol = Some(protocol(line)?).filter(|protocol| protocol.0 != 0),
                "sport" => sel.source_port = port(line)?,
                "dport" => sel.destination_port = port(line)?,
                // 0 is everybody.
                "uid" => drop(line.number(0, 0)?),
                _ => return Err(line.wrong(word, "allowed: proto, sport, dport")),
            }
        }
        let has_ports = sel.protocol.is_none_or(IpProtocol::has_ports);
        if !has_ports && (sel.source_port, sel.destination_port) != (PortRange::ANY, PortRange::ANY) {
            return Err(line.invalid(first.at, "ports of a protocol without ports", "only TCP, UDP, SCTP, DCCP and UDP-Lite have ports"));
        }
        self.sel = Some(sel);
        Ok(())
    }
}

impl Sel {
    /// The selector. A prefix of no bits is any address of its version; it is just any where the version is known otherwise (by the other prefix, or in
    /// transport mode), or of no matter (flag `af-unspec`): `is_open`.
    pub(super) fn selector(&self, is_open: bool) -> Selector {
        let range = |(address, length): (IpAddress, u8), other: u8| {
            if length == 0 && (is_open || other > 0) { None } else { AddressRange::prefix(address, length) }
        };
        Selector {
            source: range(self.source, self.destination.1),
            destination: range(self.destination, self.source.1),
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }
}

fn direction(line: &mut Line<'_>) -> Result<Direction, FileError> {
    let word = line.require("\"in\" or \"out\"")?;
    match word.text {
        "in" => Ok(Direction::Inbound),
        "out" => Ok(Direction::Outbound),
        _ => Err(line.wrong(word, "\"in\" or \"out\" allowed")),
    }
}

/// An address and a number of bits, of which Linux looks only at so many.
fn prefix(line: &mut Line<'_>) -> Result<(IpAddress, u8), FileError> {
    const EXPECTED: &str = "a prefix such as 10.0.1.0/24 expected";
    let word = line.require("a prefix such as 10.0.1.0/24")?;
    let wrong = || line.invalid(word.at, super::super::error::quote_address(word.text), EXPECTED);
    let (address, length) = word.text.split_once('/').map_or((word.text, None), |(address, length)| (address, Some(length)));
    let address: IpAddress = address.parse().map_err(|_| wrong())?;
    let most: u8 = if address.is_v4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => checks::number(length).and_then(|length| u8::try_from(length).ok()).filter(|length| *length <= most).ok_or_else(wrong)?,
    };
    let hosts = most - length;
    let kept = if hosts == 128 { 0 } else { address.to_number() >> hosts << hosts };
    Ok((IpAddress::from_number(address.version(), kept).unwrap_or(address), length))
}

fn protocol(line: &mut Line<'_>) -> Result<IpProtocol, FileError> {
    let word = line.require("a protocol")?;
    // Names of /etc/protocols that are not ours.
    let named = match word.text {
        "ipv6-icmp" => Some(IpProtocol::ICMPV6),
        "ipencap" => Some(IpProtocol::IPV4),
        "mobility-header" => Some(IpProtocol::MOBILITY),
        other => IpProtocol::from_name(other),
    };
    let numbered = || checks::number(word.text).and_then(|number| u8::try_from(number).ok()).map(IpProtocol);
    named.or_else(numbered).ok_or_else(|| line.wrong(word, "a name such as tcp or a number from 0 to 255 expected"))
}

fn port(line: &mut Line<'_>) -> Result<PortRange, FileError> {
    let port = line.number(0, 65535)?.1 as u16;
    Ok(PortRange { first: port, last: port })
}
