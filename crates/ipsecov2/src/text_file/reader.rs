//! Typed access to the tables of a TOML file: each value with the place where it stands, nothing taken silently.

use toml::de::{DeTable, DeValue};
use zeroize::Zeroize;

use super::error::{FileError, Position, Problem, quote};

/// The text that is read, for places in errors.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    pub(crate) fn error(&self, at: usize, problem: Problem) -> FileError {
        FileError::At { file: self.file.to_owned(), position: self.position(at), problem }
    }

    pub(crate) fn position(&self, at: usize) -> Position {
        Position::of(self.text, at)
    }
}

/// The fields of one table that are not taken yet.
pub(crate) struct Fields<'s, 'a> {
    pub(crate) source: Source<'s>,
    /// Where the table begins.
    pub(crate) at: usize,
    left: Vec<Field<'s, 'a>>,
}

impl<'s, 'a> Fields<'s, 'a> {
    /// Refuses fields that are not among `known`.
    pub(crate) fn new(source: Source<'s>, at: usize, table: DeTable<'a>, known: &'static [&'static str]) -> Result<Self, FileError> {
        let mut left = Vec::new();
        let mut unknown: Option<(usize, String)> = None;
        for (key, value) in table {
            let (key_at, value_at) = (key.span().start, value.span().start);
            match known.iter().find(|name| **name == key.get_ref().as_ref()) {
                Some(&name) => left.push(Field { source, name, key_at, at: value_at, value: value.into_inner() }),
                // The first in the text, which is not the first in the table's order.
                None if unknown.as_ref().is_none_or(|(first, _)| key_at < *first) => unknown = Some((key_at, quote(key.get_ref()))),
                None => {}
            }
        }
        match unknown {
            Some((at, found)) => Err(source.error(at, Problem::UnknownField { found, allowed: known })),
            None => Ok(Self { source, at, left }),
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Field<'s, 'a>> {
        let place = self.left.iter().position(|field| field.name == name)?;
        Some(self.left.swap_remove(place))
    }

    /// Where the value of a field begins that is not taken yet; without it, where the table begins.
    pub(crate) fn position_of(&self, name: &str) -> usize {
        self.left.iter().find(|field| field.name == name).map_or(self.at, |field| field.key_at)
    }

    /// Takes a field that has to be there.
    pub(crate) fn require(&mut self, name: &'static str, allowed: impl Into<String>) -> Result<Field<'s, 'a>, FileError> {
        self.take(name).ok_or_else(|| self.source.error(self.at, Problem::Missing { field: name, allowed: allowed.into() }))
    }
}

/// A field and its value.
pub(crate) struct Field<'s, 'a> {
    pub(crate) source: Source<'s>,
    pub(crate) name: &'static str,
    pub(crate) key_at: usize,
    /// Where the value begins.
    pub(crate) at: usize,
    value: DeValue<'a>,
}

impl<'a> Field<'_, 'a> {
    /// An error about the value.
    pub(crate) fn invalid(&self, found: impl Into<String>, allowed: impl Into<String>) -> FileError {
        self.source.error(self.at, Problem::Invalid { field: self.name, found: found.into(), allowed: allowed.into() })
    }

    fn wrong_type(&self, expected: &str) -> FileError {
        let found = match &self.value {
            DeValue::Table(_) => "a table",
            DeValue::Array(_) => "an array",
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
        };
        self.invalid(found, format!("{expected} expected"))
    }

    /// The value, if it is text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn text(&self, expected: &str) -> Result<&str, FileError> {
        self.as_text().ok_or_else(|| self.wrong_type(expected))
    }

    pub(crate) fn boolean(&self) -> Result<bool, FileError> {
        match self.value {
            DeValue::Boolean(value) => Ok(value),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// An integer from `first` to `last`.
    pub(crate) fn integer<T: TryFrom<i128>>(&self, first: i128, last: i128, allowed: &str) -> Result<T, FileError> {
        let DeValue::Integer(integer) = &self.value else { return Err(self.wrong_type(allowed)) };
        i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| (first..=last).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.invalid(unquoted(&integer.to_string()), format!("{allowed} allowed")))
    }

    /// The same field, called `name` in errors.
    pub(crate) fn renamed(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// The texts of an array, each with the place where it begins.
    pub(crate) fn texts(mut self, expected: &str) -> Result<Vec<(usize, String)>, FileError> {
        let array = match self.take_value() {
            DeValue::Array(array) => array,
            other => return Err(self.put_back(other).wrong_type(expected)),
        };
        let mut texts = Vec::with_capacity(array.len());
        for element in array {
            self.at = element.span().start;
            match element.into_inner() {
                DeValue::String(text) => texts.push((self.at, text.into_owned())),
                other => return Err(self.put_back(other).wrong_type(expected)),
            }
        }
        Ok(texts)
    }

    /// The integers of an array, each with the place where it begins.
    pub(crate) fn integers(mut self, expected: &str) -> Result<Vec<(usize, i64)>, FileError> {
        let array = match self.take_value() {
            DeValue::Array(array) => array,
            other => return Err(self.put_back(other).wrong_type(expected)),
        };
        let mut integers = Vec::with_capacity(array.len());
        for element in array {
            self.at = element.span().start;
            let value = element.into_inner();
            let number = match &value {
                DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
                _ => None,
            };
            let Some(number) = number else { return Err(self.put_back(value).wrong_type(expected)) };
            integers.push((self.at, number));
        }
        Ok(integers)
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.value, DeValue::Integer(_))
    }

    /// The tables of an array, each with the place where it begins.
    pub(crate) fn tables(mut self, expected: &str) -> Result<Vec<(usize, DeTable<'a>)>, FileError> {
        let array = match self.take_value() {
            DeValue::Array(array) => array,
            other => return Err(self.put_back(other).wrong_type(expected)),
        };
        let mut tables = Vec::with_capacity(array.len());
        for element in array {
            self.at = element.span().start;
            match element.into_inner() {
                DeValue::Table(table) => tables.push((self.at, table)),
                other => return Err(self.put_back(other).wrong_type(expected)),
            }
        }
        Ok(tables)
    }

    /// The one table that the value is, with the place where it begins.
    pub(crate) fn table(mut self, expected: &str) -> Result<(usize, DeTable<'a>), FileError> {
        match self.take_value() {
            DeValue::Table(table) => Ok((self.at, table)),
            other => Err(self.put_back(other).wrong_type(expected)),
        }
    }

    fn take_value(&mut self) -> DeValue<'a> {
        core::mem::replace(&mut self.value, DeValue::Boolean(false))
    }

    fn put_back(&mut self, value: DeValue<'a>) -> &Self {
        self.value = value;
        self
    }
}

impl Drop for Field<'_, '_> {
    /// A text with escapes is a copy of its own, and may be a key.
    fn drop(&mut self) {
        if let DeValue::String(std::borrow::Cow::Owned(text)) = &mut self.value {
            text.zeroize();
        }
    }
}

fn unquoted(text: &str) -> String {
    quote(text).trim_matches('"').to_owned()
}
