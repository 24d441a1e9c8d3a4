//! The words of a line, each with its place.

use packet::IpAddress;

use super::super::checks;
use super::super::error::{FileError, Problem, quote_address, quote_word};
use super::super::reader::Source;

/// A word and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// The words of a line that are not taken yet.
pub(super) struct Line<'a> {
    pub(super) source: Source<'a>,
    /// What the line is about: the field in errors.
    pub(super) field: &'static str,
    rest: &'a str,
    /// Where `rest` begins.
    at: usize,
}

/// The lines of a text; with `ip -o` a backslash ends them.
pub(super) fn lines(source: Source<'_>) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0;
    source.text.split(['\n', '\\']).map(move |rest| {
        let line = Line { source, field: "line", rest, at };
        at += rest.len() + 1;
        line
    })
}

impl<'a> Line<'a> {
    /// The next word, if there is one, without taking it.
    pub(super) fn peek(&self) -> Option<Word<'a>> {
        let rest = self.rest.trim_start();
        let text = rest.split(char::is_whitespace).next().filter(|text| !text.is_empty())?;
        Some(Word { at: self.at + self.rest.len() - rest.len(), text })
    }

    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        let word = self.peek()?;
        let taken = word.at - self.at + word.text.len();
        self.rest = self.rest.get(taken..).unwrap_or_default();
        self.at += taken;
        Some(word)
    }

    /// The rest of the line is of no interest.
    pub(super) fn skip(&mut self) {
        self.at += self.rest.len();
        self.rest = "";
    }

    /// Takes the next word if it is `text`.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_it = self.peek().is_some_and(|word| word.text == text);
        if is_it {
            self.next();
        }
        is_it
    }

    pub(super) fn invalid(&self, at: usize, found: impl Into<String>, allowed: impl Into<String>) -> FileError {
        self.source.error(at, Problem::Invalid { field: self.field, found: found.into(), allowed: allowed.into() })
    }

    /// The word is not what it should be.
    pub(super) fn wrong(&self, word: Word<'_>, allowed: impl Into<String>) -> FileError {
        self.invalid(word.at, shown(word.text), allowed)
    }

    /// The next word, which has to be there.
    pub(super) fn require(&mut self, expected: &str) -> Result<Word<'a>, FileError> {
        let end = self.at + self.rest.trim_end().len();
        self.next().ok_or_else(|| self.invalid(end, "the end of the line", format!("{expected} expected")))
    }

    /// The next word has to be `text`.
    pub(super) fn expect(&mut self, text: &str) -> Result<(), FileError> {
        let expected = format!("{text:?}");
        let word = self.require(&expected)?;
        if word.text == text { Ok(()) } else { Err(self.wrong(word, format!("{expected} expected"))) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), FileError> {
        self.next().map_or(Ok(()), |word| Err(self.wrong(word, "the end of the line expected")))
    }

    pub(super) fn address(&mut self) -> Result<IpAddress, FileError> {
        let word = self.require("an address")?;
        word.text.parse().map_err(|_| self.invalid(word.at, quote_address(word.text), "an IPv4 or IPv6 address expected"))
    }

    /// A number from `first` to `last`. A comma may follow it, and with `ip -s` the same number once more in brackets.
    pub(super) fn number(&mut self, first: u32, last: u32) -> Result<(Word<'a>, u32), FileError> {
        let allowed = format!("a number from {first} to {last}");
        let word = self.require(&allowed)?;
        let text = word.text.trim_end_matches(',');
        let text = text.split_once('(').map_or(text, |(text, _)| text);
        match checks::number(text).filter(|number| (first..=last).contains(number)) {
            Some(number) => Ok((word, number)),
            None if word.text.len() <= LONGEST_NUMBER => Err(self.invalid(word.at, quote_word(word.text, |_| false), format!("{allowed} allowed"))),
            None => Err(self.wrong(word, format!("{allowed} allowed"))),
        }
    }
}

/// Characters of a number that is quoted although it is not allowed.
const LONGEST_NUMBER: usize = 12;

/// Quotes a word of the format, known or not. What could be a part of a key, which a line's end may have cut into pieces of any length, is not quoted.
pub(super) fn shown(text: &str) -> String {
    let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_:".contains(&byte)) && !text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_word { quote_word(text, |_| false) } else { "another word".to_owned() }
}
