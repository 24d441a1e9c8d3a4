//! What was measured, for programs and for people.

use std::fmt::Write as _;

use ipsec::Crypto;
use serde::{Serialize, Serializer};

use super::{Cell, Operation, Table, suite_name};

/// A row whose quartiles are further apart than this part of its figure is marked: the machine did something else meanwhile.
const WIDE: f64 = 0.1;
/// The name of a row's form.
const SCHEMA: &str = "ipsecov2-bench-1";

/// One figure. Its JSON form is described in docs/json.md.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name of the form.
    pub schema: &'static str,
    /// What was measured.
    pub table: Table,
    /// Sealing or opening.
    pub operation: Operation,
    /// The cryptographic library.
    pub provider: String,
    /// Name of the suite.
    pub suite: String,
    /// Bytes of the inner IP packet; of the provider's table, as they were asked for.
    pub bytes: usize,
    /// Bytes under the cipher.
    pub text: usize,
    /// Workers.
    pub workers: usize,
    /// SAs.
    pub sas: u32,
    /// Packets in a batch.
    pub batch: usize,
    /// Nanoseconds a packet, of all workers together.
    #[serde(serialize_with = "rounded")]
    pub ns: f64,
    /// Distance between the quartiles of `ns`, as a part of it.
    #[serde(serialize_with = "rounded")]
    pub spread: f64,
    /// Whether that is so much that the figure should not be believed.
    pub wide: bool,
    /// Million packets a second.
    #[serde(serialize_with = "rounded")]
    pub mpps: f64,
    /// Gigabits a second, of `bytes`.
    #[serde(serialize_with = "rounded")]
    pub gbps: f64,
    /// Nanoseconds a packet of the limit.
    #[serde(serialize_with = "rounded")]
    pub limit_ns: f64,
    /// The limit's time over this one's.
    #[serde(serialize_with = "rounded")]
    pub of_limit: f64,
    /// How many times as fast as one of the workers alone; `None` of one worker.
    #[serde(serialize_with = "rounded_if_any")]
    pub scaling: Option<f64>,
}

impl Row {
    /// Of `text` bytes under the cipher. Own nanoseconds come with their spread, the limit's with the ratio.
    pub(super) fn new(
        (table, operation, provider): (Table, Operation, Crypto),
        cell: &Cell,
        text: usize,
        (ns, spread): (f64, f64),
        (limit_ns, of_limit): (f64, f64),
        scaling: Option<f64>,
    ) -> Self {
        let &Cell { suite, bytes, workers, sas, batch } = cell;
        Self {
            schema: SCHEMA,
            table,
            operation,
            provider: provider.to_string(),
            suite: suite_name(suite),
            bytes,
            text,
            workers,
            sas,
            batch,
            ns,
            spread,
            wide: spread > WIDE,
            mpps: 1e3 / ns,
            gbps: f64::from(bytes as u32) * 8.0 / ns,
            limit_ns,
            of_limit,
            scaling,
        }
    }
}

/// Six digits are more than can be measured.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn rounded<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(format!("{value:.5e}").parse().unwrap_or(*value))
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn rounded_if_any<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => rounded(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// The rows as tables, one of each kind, for people.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let suites = rows.iter().map(|row| row.suite.len()).max().unwrap_or_default().max("suite".len());
    let providers = rows.iter().map(|row| row.provider.len()).max().unwrap_or_default().max("provider".len());
    for table in Table::ALL {
        let of_table: Vec<&Row> = rows.iter().filter(|row| row.table == table).collect();
        if of_table.is_empty() {
            continue;
        }
        let scales = of_table.iter().any(|row| row.scaling.is_some());
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "\n{:<12} {:<suites$}  {:<providers$} {:>5} {:>5} {:>7} {:>5} {:>9} {:>6} {:>8} {:>7} {:>9} {:>8}{}",
            table.name(),
            "suite",
            "provider",
            "bytes",
            "batch",
            "workers",
            "SAs",
            "ns/packet",
            "spread",
            "Mpps",
            "Gb/s",
            "limit ns",
            "of limit",
            if scales { "  scaling" } else { "" }
        );
        for row in of_table {
            let operation = if table == Table::Provider { row.operation.name() } else { "" };
            let scaling = row.scaling.map(|scaling| format!(" {scaling:>8.2}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "{operation:<12} {:<suites$}  {:<providers$} {:>5} {:>5} {:>7} {:>5} {:>9.1} {:>4.0} %{} {:>7.3} {:>7.2} {:>9.1} {:>8.2}{scaling}",
                row.suite,
                row.provider,
                row.bytes,
                row.batch,
                row.workers,
                row.sas,
                row.ns,
                row.spread * 100.0,
                if row.wide { '!' } else { ' ' },
                row.mpps,
                row.gbps,
                row.limit_ns,
                row.of_limit,
            );
        }
    }
    if rows.iter().any(|row| row.wide) {
        let _ = writeln!(text, "\n! quartiles more than {:.0} % apart: the machine did something else meanwhile", WIDE * 100.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(table: Table, ns: f64) -> Row {
        Row::new((table, Operation::Seal, Crypto::RustCrypto), &Cell::default(), 1424, (ns, 0.034), (ns / 2.0, 0.5), None)
    }

    #[test]
    fn json_has_rounded_figures_that_fit() {
        let json = serde_json::to_value(row(Table::NicSend, 123.456_789)).unwrap();
        assert_eq!((json["schema"].as_str(), json["table"].as_str(), json["operation"].as_str()), (Some("ipsecov2-bench-1"), Some("nic-send"), Some("seal")));
        assert_eq!((json["suite"].as_str(), json["provider"].as_str()), (Some("aes-gcm-128"), Some("rustcrypto")));
        assert_eq!((json["ns"].as_f64(), json["mpps"].as_f64(), json["gbps"].as_f64()), (Some(123.457), Some(8.1), Some(92.016)));
        assert!(json["scaling"].is_null());
    }

    #[test]
    fn names_are_the_same_everywhere() {
        for table in Table::ALL {
            assert_eq!(serde_json::to_value(table).unwrap(), table.name());
        }
        for operation in Operation::ALL {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    #[test]
    fn tables_are_apart() {
        let text = text(&[row(Table::Outbound, 200.0), row(Table::Provider, 100.0), Row { scaling: Some(1.987), ..row(Table::Outbound, 110.0) }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert!(lines[1].starts_with("provider     suite") && lines[2].starts_with("seal ") && lines[4].starts_with("outbound "), "{text}");
        assert!(lines[5].ends_with(" 0.50") && lines[6].ends_with(" 0.50     1.99") && lines[4].ends_with(" of limit  scaling"), "{text}");
        assert!(lines.iter().all(|line| line.len() <= 130), "{text}");
    }

    #[test]
    fn rows_that_spread_are_marked() {
        let wide = Row::new((Table::NicSend, Operation::Seal, Crypto::RustCrypto), &Cell::default(), 1424, (100.0, 0.11), (50.0, 0.5), None);
        let marked = text(&[wide.clone(), row(Table::NicSend, 100.0)]);
        assert!(wide.wide && marked.contains(" 11 %! ") && marked.contains("  3 %  ") && marked.contains("\n! quartiles more than 10 % apart"), "{marked}");
        assert!(!text(&[row(Table::NicSend, 100.0)]).contains('!'));
    }
}
