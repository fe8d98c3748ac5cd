//! The query of a request: pairs `name=value`, separated by `&`, in percent-encoding.

use thiserror::Error;

use crate::protocol::tcp_table::percent_decode;

/// A `%` that two hexadecimal digits do not follow.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the query has a % without two hexadecimal digits; write %25")]
pub(super) struct EncodingError;

/// Returns the first value of this name, decoded. A `+` stays.
fn value(query: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, EncodingError> {
    let mut pairs = query.unwrap_or_default().split('&');
    let encoded = pairs.find_map(|pair| pair.split_once('=').filter(|(own, _)| *own == name));
    let Some((_, encoded)) = encoded else {
        return Ok(None);
    };
    let mut bytes = encoded.as_bytes().to_vec();
    let decoded = percent_decode(&mut bytes).ok_or(EncodingError)?;
    Ok(Some(decoded.to_vec()))
}

/// Returns the value of this parameter of a program. A `+` is a plus sign, as the standard for URLs has it and as
/// addresses often have it. Encoders for forms write it for a space, which a key can only have in a quoted local part: there
/// it is one.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, EncodingError> {
    let value = value(query, name)?;
    Ok(match value {
        Some(key) if key.starts_with(b"\"") => form_value(query, name)?,
        other => other,
    })
}

/// Returns the value of this field of a form, as browsers send it: a `+` is a space.
pub(super) fn form_value(query: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, EncodingError> {
    let query = query.map(|query| query.replace('+', "%20"));
    value(query.as_deref(), name)
}

/// Encodes a value for a query.
pub(super) fn encode(value: &[u8]) -> String {
    let mut encoded = String::with_capacity(value.len());
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EncodingError, encode, form_value, parameter};

    #[test]
    fn a_plus_sign_is_a_space_only_in_forms_and_quoted_local_parts() {
        let parameter =
            |query| parameter(Some(query), "key").map(|key| key.map(|key| String::from_utf8(key).unwrap()));
        let found = |text: &str| Ok(Some(text.to_owned()));
        for (query, expected) in [
            ("map=sasl&key=u%2Bx@a.test", "u+x@a.test"),
            ("key=u+x@a.test&map=sasl", "u+x@a.test"),
            ("key=%22a+b%22@a.test", "\"a b\"@a.test"),
            ("key=%22a%20b%22%40a.test", "\"a b\"@a.test"),
            ("key=&key=x", ""),
            ("key=a=b", "a=b"),
            ("xkey=1&key=2", "2"),
        ] {
            assert_eq!(parameter(query), found(expected), "{query}");
        }
        assert_eq!(parameter("map=sasl"), Ok(None));
        assert_eq!(parameter("key"), Ok(None));
        for query in ["key=%", "key=%4", "key=%zz", "key=%+1"] {
            assert_eq!(parameter(query), Err(EncodingError), "{query}");
        }
        let form = form_value(Some("sender=+u%2Bx+"), "sender").unwrap();
        assert_eq!(form.as_deref(), Some(&b" u+x "[..]));
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(value: Vec<u8>) {
            let query = format!("a=b&key={}&c=d", encode(&value));
            prop_assert_eq!(parameter(Some(&query), "key").unwrap(), Some(value.clone()));
            prop_assert_eq!(form_value(Some(&query), "key").unwrap(), Some(value));
        }
    }
}
