//! `docs/requirements.md` says for every requirement which code meets it and which tests show it. This keeps it true: nothing is missing, nothing is named
//! that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What features.md asks for that waits for the gateway on real links: rows without a test.
const WAITING: [&str; 4] = ["R-15", "R-17", "R-22", "R-31"];

#[test]
fn the_table_is_complete_and_true() {
    let root = root();
    let problems = problems(&root, &read(&root.join("docs/requirements.md")), &numbers(&root), &WAITING);
    assert!(problems.is_empty(), "docs/requirements.md:\n{}", problems.join("\n"));
}

#[test]
fn no_other_number_is_cited() {
    let (root, mut wrong) = (root(), Vec::new());
    let numbers = numbers(&root);
    for file in rust_files(&root) {
        for (line, text) in (1..).zip(read(&file).lines()) {
            for cited in cited(text) {
                if !numbers.contains(&cited) && file.file_name() != Some("requirements.rs".as_ref()) {
                    wrong.push(format!("{}:{line}: {cited}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such requirement:\n{}", wrong.join("\n"));
}

/// A test that is called after a number of features.md has a row there.
#[test]
fn every_named_test_has_its_row() {
    let root = root();
    let rows = rows(&read(&root.join("docs/requirements.md")));
    let mut named = BTreeSet::new();
    for file in rust_files(&root) {
        for name in tests(&read(&file)).into_keys() {
            if let Some(number) = name.strip_prefix("r_").and_then(|rest| rest.get(..2)).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
                named.insert(format!("R-{number}"));
            }
        }
    }
    assert!(named.len() >= 30, "{named:?}");
    for number in named {
        let row = rows.iter().find(|row| row.number == number);
        assert!(row.is_some_and(|row| !row.tests.is_empty()), "{number} has tests, and no row that names them");
    }
}

/// OV2-CAP-0: the documentation says that Microsoft marks the feature as deprecated, and why it is useful still.
#[test]
fn the_documentation_says_that_the_feature_is_deprecated() {
    let readme = read(&root().join("README.md"));
    assert!(readme.contains("Microsoft marks the Windows feature as deprecated; as an"), "README.md");
}

/// Each way in which the table can be wrong is found.
#[test]
fn a_table_that_is_not_true_is_refused() {
    const GOOD: &str = "| `OV2-A-1` | What. | `ipsecov2/tests/requirements.rs::problems` | `ipsecov2/tests/requirements.rs::no_other_number_is_cited` |\n\
                        | `R-01` | What. | `ipsecov2/tests/requirements.rs::no_other_number_is_cited` |\n";
    let numbers = ["OV2-A-1", "R-01"].map(str::to_owned);
    let found = |table: &str| problems(&root(), table, &numbers, &[]);
    assert_eq!(found(GOOD), Vec::<String>::new());
    let line = GOOD.lines().next().unwrap();
    for (from, to, problem) in [
        ("no_other_number_is_cited", "no_other_number", "OV2-A-1: there is no test no_other_number in ipsecov2/tests/requirements.rs"),
        ("requirements.rs::no_other", "requirement.rs::no_other", "OV2-A-1: there is no file ipsecov2/tests/requirement.rs"),
        ("::problems", "::problem", "OV2-A-1: problem is not defined in ipsecov2/tests/requirements.rs"),
        ("::problems", "::WAIT", "OV2-A-1: WAIT is not defined in ipsecov2/tests/requirements.rs"),
        ("`ipsecov2/tests/requirements.rs::problems`", "", "OV2-A-1: no code"),
        ("`ipsecov2/tests/requirements.rs::problems`", "`problems`", "OV2-A-1: `problems` is no path::item"),
        ("::no_other_number_is_cited", "::rows", "OV2-A-1: there is no test rows in ipsecov2/tests/requirements.rs"),
        ("What.", "", "OV2-A-1: nothing is said of it"),
        (" | `ipsecov2/tests/requirements.rs::no_other_number_is_cited` |", " | |", "OV2-A-1: no test"),
        (" | `ipsecov2/tests/requirements.rs::no_other_number_is_cited` |", " |", "OV2-A-1: 3 columns, 4 expected"),
        (line, "", "OV2-A-1 is missing"),
        (line, &format!("{line}\n{line}"), "OV2-A-1 is there twice"),
        (line, &format!("{line}\n{}", line.replace("A-1", "A-9")), "OV2-A-9 is no requirement"),
    ] {
        assert!(found(&GOOD.replacen(from, to, 1)).iter().any(|found| found == problem), "{problem}: {:?}", found(&GOOD.replacen(from, to, 1)));
    }
    let (first, last) = GOOD.split_once('\n').unwrap();
    assert!(found(&format!("{last}{first}\n")).iter().any(|found| found == "R-01 is not in its place"));
    let waiting = GOOD.replace("| `ipsecov2/tests/requirements.rs::no_other_number_is_cited` |\n| `R-01`", "x");
    assert!(!problems(&root(), &waiting, &numbers, &["R-01"]).is_empty());
    let tested = problems(&root(), GOOD, &numbers, &["R-01"]);
    assert_eq!(tested, ["R-01: it is said to wait, and has tests"]);
}

#[test]
fn tests_are_known_by_their_attribute() {
    let text = "#[test]\nfn one() {}\n\n/// Text.\n#[test]\n#[should_panic]\n/// More.\nfn two() {}\n#[test]\n#[ignore]\nfn three() {}\nfn four() {}\nproptest! {\n    \
                #[test]\n    fn five(x in 0..1) {}\n}\n#[test]\nconst X: u8 = 1;\nfn six() {}\n// #[test]\nfn seven() {}\n";
    let found: Vec<_> = tests(text).into_iter().collect();
    assert_eq!(found, [("five", true), ("one", true), ("three", false), ("two", true)].map(|(name, runs)| (name.to_owned(), runs)));
    assert_eq!(
        cited("OV2-SEND-4, OV2-RECV-5a; OV1-2a and OV1-3. R-07-1 OV2-CAP-14/OV2 `OV2-X`"),
        ["OV2-SEND-4", "OV2-RECV-5a", "OV1-2a", "OV1-3", "OV2-CAP-14"]
    );
    assert!(defines("pub(crate) const fn take(&self)", "take") && defines("    struct Take<T> {", "Take"));
    assert!(!defines("// fn take()", "take") && !defines("fn retake()", "take") && !defines("fn take_all()", "take") && !defines("x.take()", "take"));
}

/// One row of the tables.
#[derive(Debug)]
struct Row {
    number: String,
    text: String,
    columns: usize,
    code: Vec<String>,
    tests: Vec<String>,
}

/// The rows whose first cell is a number: `| number | text | code | tests |`, and of features.md's `| number | text | tests |`.
fn rows(table: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let number = cells[0].trim_matches('`');
        if !line.starts_with("| `") || !(number.starts_with("OV") || number.starts_with("R-")) {
            continue;
        }
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let is_feature = number.starts_with("R-");
        rows.push(Row {
            number: number.to_owned(),
            text: cell(1).to_owned(),
            columns: cells.len() + usize::from(is_feature),
            code: if is_feature { vec![] } else { quoted(cell(2)) },
            tests: quoted(cell(if is_feature { 2 } else { 3 })),
        });
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn problems(root: &Path, table: &str, numbers: &[String], waiting: &[&str]) -> Vec<String> {
    let rows = rows(table);
    let mut problems = Vec::new();
    for number in numbers {
        match rows.iter().filter(|row| row.number == *number).count() {
            0 => problems.push(format!("{number} is missing")),
            1 => {}
            _ => problems.push(format!("{number} is there twice")),
        }
    }
    let mut last = 0;
    for row in &rows {
        match numbers.iter().position(|number| *number == row.number) {
            None => problems.push(format!("{} is no requirement", row.number)),
            Some(place) if place < last => problems.push(format!("{} is not in its place", numbers[last])),
            Some(place) => last = place,
        }
        let mut problem = |what: String| problems.push(format!("{}: {what}", row.number));
        if row.columns != 4 {
            problem(format!("{} columns, 4 expected", row.columns));
        }
        if row.text.is_empty() {
            problem("nothing is said of it".to_owned());
        }
        if row.code.is_empty() && row.number.starts_with("OV") {
            problem("no code".to_owned());
        }
        match (row.tests.is_empty(), waiting.contains(&row.number.as_str())) {
            (true, false) => problem("no test".to_owned()),
            (false, true) => problem("it is said to wait, and has tests".to_owned()),
            _ => {}
        }
        for (named, is_test) in row.code.iter().map(|code| (code, false)).chain(row.tests.iter().map(|test| (test, true))) {
            let Some((file, item)) = named.split_once("::") else {
                problem(format!("`{named}` is no path::item"));
                continue;
            };
            let Ok(text) = fs::read_to_string(root.join("crates").join(file)) else {
                problem(format!("there is no file {file}"));
                continue;
            };
            if is_test {
                match tests(&text).get(item) {
                    None => problem(format!("there is no test {item} in {file}")),
                    Some(false) => problem(format!("the test {item} in {file} is ignored")),
                    Some(true) => {}
                }
            } else if let Some(missing) = item.split("::").find(|part| !text.lines().any(|line| defines(line, part))) {
                problem(format!("{missing} is not defined in {file}"));
            }
        }
    }
    problems
}

/// Whether a line of code defines `item`.
fn defines(line: &str, item: &str) -> bool {
    const KEYWORDS: [&str; 10] = ["fn ", "struct ", "enum ", "trait ", "const ", "static ", "type ", "mod ", "impl ", "macro_rules! "];
    let code = line.split("//").next().unwrap_or_default();
    KEYWORDS.iter().any(|keyword| {
        code.match_indices(keyword).any(|(at, _)| {
            let starts = at == 0 || code[..at].ends_with([' ', '(']);
            let ends = code[at + keyword.len()..].strip_prefix(item).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'));
            starts && ends
        })
    })
}

/// The tests of a file, and whether they run: functions with the attribute of a test right before them.
fn tests(text: &str) -> BTreeMap<String, bool> {
    let (mut is_test, mut is_ignored) = (false, false);
    let mut tests = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_ignored = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            let name: String = rest.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect();
            tests.insert(name, !is_ignored);
            (is_test, is_ignored) = (false, false);
        } else if !(line.is_empty() || line.starts_with("#[") || line.starts_with("//")) {
            (is_test, is_ignored) = (false, false);
        }
    }
    tests
}

/// The requirements that a line cites.
fn cited(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("OV") {
        let word: String = line[at..].chars().take_while(|next| next.is_ascii_alphanumeric() || *next == '-').collect();
        let mut parts = word.split('-');
        let starts = matches!(parts.next(), Some("OV1" | "OV2"));
        if starts && parts.next_back().is_some_and(|last| last.starts_with(|next: char| next.is_ascii_digit())) {
            found.push(word);
        }
    }
    found
}

fn numbers(root: &Path) -> Vec<String> {
    let numbers: Vec<String> = read(&root.join("testdata/requirements.txt")).lines().map(str::to_owned).collect();
    assert_eq!((numbers.len(), numbers.iter().collect::<BTreeSet<_>>().len()), (69 + 42, 69 + 42));
    numbers
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All source files of the crates and of the fuzz targets.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.join("crates"), root.join("fuzz/checks"), root.join("fuzz/fuzz_targets")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let is_output = path.file_name() == Some("target".as_ref());
            if path.is_dir() && !is_output {
                directories.push(path);
            } else if path.extension() == Some("rs".as_ref()) {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 300, "{}", files.len());
    files
}
