//! Tables that are written in main.cf itself: `inline:{key=value, …}` and `static:value`.
//!
//! They may contain passwords, so they are not passed to postmap, whose command line every user can read. The grammar
//! is Postfix's (`dict_inline.c`, `split_qnameval.c`, `extpar.c`, `dict_static.c`). Commas and whitespace outside
//! braces separate elements. An element in braces may have whitespace around its `=` and in its value. A key may have
//! quotes, which are part of it. Keys are folded, and the last of two equal keys applies.
//!
//! Limits: keys in quotes are read as Postfix 3.7 and later read them.

use super::convert::Entry;
use super::table::{ReadTableError, type_and_name};
use crate::lookup::address::fold_into;
use crate::os::secret::Secret;
use crate::postfix::table_list;

/// Returns the value that a `static:` table has for every key. `None` for a table of another type.
pub(crate) fn static_value(table: &str) -> Option<Result<Secret, ReadTableError>> {
    let (table_type, name) = type_and_name(table);
    (table_type == "static").then(|| {
        let value = match name.strip_prefix('{') {
            Some(_) => strip_braces(name).ok_or_else(|| syntax_error("static", BRACES))?,
            None => name,
        };
        Ok(Secret::from(value.as_bytes().to_vec()))
    })
}

const BRACES: &str = "the closing brace is missing, or other text follows it";

/// Returns the entries of an `inline:` table. `text` is what follows the type, `table` its number in the list.
pub(super) fn entries(text: &str, table: usize) -> Result<Vec<Entry>, ReadTableError> {
    let error = |reason| syntax_error("inline", reason);
    let inner = strip_braces(text).ok_or_else(|| error(BRACES))?;
    let mut entries: Vec<Entry> = Vec::new();
    for element in table_list::tables(inner) {
        let pair = match element.strip_prefix('{') {
            Some(_) => strip_braces(element).ok_or_else(|| error(BRACES))?,
            None => element,
        };
        let (key, value) = key_and_value(pair).map_err(error)?;
        let mut folded = Vec::new();
        fold_into(key.as_bytes(), &mut folded);
        entries.retain(|entry| entry.key != folded);
        entries.push(Entry {
            key: folded,
            value: Secret::from(value.as_bytes().to_vec()),
            table,
        });
    }
    if entries.is_empty() {
        return Err(error("no entries"));
    }
    Ok(entries)
}

fn syntax_error(table_type: &'static str, reason: &'static str) -> ReadTableError {
    ReadTableError::Syntax { table_type, reason }
}

/// Returns the text between an opening brace and its closing brace at the end, without surrounding whitespace.
fn strip_braces(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let close = text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    })?;
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    (close + 1 == text.len()).then(|| inner.trim_matches(is_whitespace))
}

/// Splits `key = value`. Within quotes, whitespace and `=` belong to the key; after a backslash, any character does.
fn key_and_value(pair: &str) -> Result<(&str, &str), &'static str> {
    let pair = pair.trim_start_matches(is_whitespace);
    let (mut is_quoted, mut is_escaped) = (false, false);
    let ends_key = |c: char| {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == '"' {
            is_quoted = !is_quoted;
        } else {
            return !is_quoted && (c == '=' || is_whitespace(c));
        }
        false
    };
    let end = pair.find(ends_key).unwrap_or(pair.len());
    if is_quoted {
        return Err("the closing quote of a key is missing");
    }
    let (key, rest) = pair.split_at_checked(end).unwrap_or((pair, ""));
    let value = rest.trim_start_matches(is_whitespace).strip_prefix('=');
    let value =
        value.ok_or("an element is not key=value; an element with whitespace needs braces: {key = value}")?;
    if key.is_empty() {
        return Err("a key is empty");
    }
    Ok((key, value.trim_matches(is_whitespace)))
}

/// Whether isspace(3) in the C locale accepts the character.
fn is_whitespace(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}
