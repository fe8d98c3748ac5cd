//! `source.json`: where a program that generates the directory has its content from, and as of when.
//!
//! Such a program writes the file with the tables, so it is read with them, and a snapshot has it as of the same moment.
//! No answer depends on it: it is reported, so that a dashboard shows which server is behind.
//!
//! Limits: the size of the file is that of a settings file. A text with a password is rejected as a whole, and messages about
//! the file never quote it.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use thiserror::Error;

/// The name of the file in the directory.
pub(crate) const FILE: &str = "source.json";

/// The maximum length of a text of the file in bytes.
const MAX_TEXT: usize = 1024;

/// The origin of a directory that a program generates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySource {
    /// Where the content comes from: a URL without a password.
    pub source: String,
    /// The number of the content there. A source can repeat a number with another content.
    pub revision: Option<u64>,
    /// The identity of the content there.
    pub version: Option<String>,
    /// When the content was committed there.
    pub committed: Option<Commit>,
}

/// The time of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// As the file has it, in the format of RFC 3339.
    pub text: String,
    /// The same.
    pub time: SystemTime,
}

/// Why the file is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectorySourceError {
    /// It is no JSON object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A member is missing or has another type.
    #[error("`{0}` is missing or is not {1}")]
    BadMember(&'static str, &'static str),
    /// The source has a password.
    #[error("`source` has a password, or may have one")]
    Password,
}

impl DirectorySource {
    /// Parses the text of the file. Unknown members are ignored, and all but `source` may be missing or null.
    pub fn parse(text: &[u8]) -> Result<Self, DirectorySourceError> {
        // The error of the parser can quote the text.
        let Ok(Value::Object(object)) = serde_json::from_slice(text) else {
            return Err(DirectorySourceError::NotAnObject);
        };
        let source = text_member(&object, "source")?
            .filter(|source| !source.is_empty())
            .ok_or(DirectorySourceError::BadMember("source", TEXT))?;
        if may_have_password(&source) {
            return Err(DirectorySourceError::Password);
        }
        let revision = member(&object, "revision", "a whole number from 0", Value::as_u64)?;
        let committed = member(
            &object,
            "committed",
            "a time in the format of RFC 3339",
            |value| {
                let text = value.as_str()?;
                Some(Commit {
                    text: text.to_owned(),
                    time: parse_time(text)?,
                })
            },
        )?;
        Ok(Self {
            source,
            revision,
            version: text_member(&object, "version")?,
            committed,
        })
    }
}

/// What a text must be.
const TEXT: &str = "a text of at most 1024 bytes without control characters";

fn text_member(
    object: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, DirectorySourceError> {
    member(object, name, TEXT, |value| {
        let text = value.as_str()?;
        let is_right = text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        is_right.then(|| text.to_owned())
    })
}

/// Returns a member; `None` if it is missing or null.
fn member<T>(
    object: &Map<String, Value>,
    name: &'static str,
    expected: &'static str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, DirectorySourceError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let value = read(value).ok_or(DirectorySourceError::BadMember(name, expected))?;
            Ok(Some(value))
        }
    }
}

/// Whether the source of a directory has a password: `user:password@`, or a parameter for one. In doubt it has.
fn may_have_password(source: &str) -> bool {
    let after_scheme = source.split_once("://").map_or(source, |(_, rest)| rest);
    // A password may have a slash or an @.
    let user = after_scheme.rsplit_once('@').map(|(user, _)| user);
    let lower = source.to_ascii_lowercase().replace(' ', "");
    user.is_some_and(|user| user.contains(':') || user.to_ascii_lowercase().contains("%3a"))
        || ["password=", "passwd=", "pwd=", "secret=", "token="]
            .iter()
            .any(|parameter| lower.contains(parameter))
}

/// Parses a time in the format of RFC 3339, in UTC or with an offset.
fn parse_time(text: &str) -> Option<SystemTime> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, "+00:00"),
        None => text.split_at_checked(text.len().checked_sub(6)?)?,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let part = |digits: &str, most: u64| {
        let is_right = digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit());
        let number: u64 = digits.parse().ok()?;
        (is_right && number <= most).then_some(number)
    };
    let offset_by = Duration::from_secs(60 * (60 * part(hours, 23)? + part(minutes, 59)?));
    let local = humantime::parse_rfc3339(&format!("{}Z", local.replacen('t', "T", 1))).ok()?;
    match offset.bytes().next()? {
        b'+' => local.checked_sub(offset_by),
        b'-' => local.checked_add(offset_by),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::{DirectorySource, DirectorySourceError, parse_time};

    const WHOLE: &str = r#"{"source": "postgres://postmapd@db1,db2:5433/mail", "revision": 70, "version": "1f0c", "committed":
        "2026-11-29T02:00:00.5+01:00", "digests": {"postfix-relaymap.cf": "sha256:00"}, "more": [1]}"#;

    #[test]
    fn known_members_are_read_and_all_others_are_ignored() {
        let read = DirectorySource::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(read.source, "postgres://postmapd@db1,db2:5433/mail");
        assert_eq!((read.revision, read.version.as_deref()), (Some(70), Some("1f0c")));
        let committed = read.committed.unwrap();
        assert_eq!(committed.text, "2026-11-29T02:00:00.5+01:00");
        let time = UNIX_EPOCH + Duration::from_millis(1_795_914_000_500);
        assert_eq!(committed.time, time);
        let least = DirectorySource::parse(br#"{"source": "file", "revision": null}"#).unwrap();
        assert_eq!(
            (least.revision, least.version, least.committed),
            (None, None, None)
        );
    }

    #[test]
    fn a_member_of_another_type_is_an_error_that_names_it_and_quotes_nothing() {
        for (text, named) in [
            ("", "object"),
            ("[]", "object"),
            ("{\"source\": \"CANARY\"", "object"),
            ("{}", "`source`"),
            ("{\"source\": \"\"}", "`source`"),
            ("{\"source\": 5}", "`source`"),
            ("{\"source\": \"CANARY\\n\"}", "`source`"),
            ("{\"source\": \"a\", \"revision\": \"CANARY\"}", "`revision`"),
            ("{\"source\": \"a\", \"revision\": -1}", "`revision`"),
            ("{\"source\": \"a\", \"revision\": 1.5}", "`revision`"),
            ("{\"source\": \"a\", \"version\": 1}", "`version`"),
            ("{\"source\": \"a\", \"committed\": \"CANARY\"}", "`committed`"),
            ("{\"source\": \"a\", \"committed\": 5}", "`committed`"),
        ] {
            let error = DirectorySource::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains(named) && !error.contains("CANARY"),
                "{text}: {error}"
            );
        }
        let long = format!("{{\"source\": \"{}\"}}", "x".repeat(1025));
        assert!(DirectorySource::parse(long.as_bytes()).is_err());
    }

    #[test]
    fn a_source_with_a_password_is_rejected() {
        for source in [
            "postgres://postmapd:CANARY@db/mail",
            "postgres://postmapd:@db/mail",
            "postgres://postmapd:CAN/ARY@db/mail",
            "postgres://postmapd:CAN@ARY@db/mail",
            "postgres://postmapd%3ACANARY@db/mail",
            "postmapd:CANARY@db",
            "postgres://db/mail?password=CANARY",
            "postgres://db/mail?sslPassword=CANARY",
            "host=db user=postmapd password = CANARY",
            "mysql://db/mail?PWD=CANARY",
        ] {
            let text = serde_json::json!({ "source": source }).to_string();
            let read = DirectorySource::parse(text.as_bytes());
            assert_eq!(read, Err(DirectorySourceError::Password), "{source}");
        }
        for source in [
            "postgres://postmapd@db1:5432,db2:5433/mail",
            "postgres:///mail?host=/run/postgresql",
            "postgres://postmapd@[2001:db8::1]:5432/mail?passfile=/x",
            "mysql://postmapd@db/mailcow",
            "/srv/tables",
        ] {
            let text = serde_json::json!({ "source": source }).to_string();
            assert!(DirectorySource::parse(text.as_bytes()).is_ok(), "{source}");
        }
    }

    #[test]
    fn a_time_is_in_utc_or_has_an_offset() {
        let time = |text| parse_time(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
        for same in [
            "2026-11-29T02:00:00Z",
            "2026-11-29t02:00:00z",
            "2026-11-29T02:00:00+00:00",
            "2026-11-29T03:30:00+01:30",
            "2026-11-28T21:00:00.000-05:00",
        ] {
            assert_eq!(time(same), Some(1_795_917_600), "{same}");
        }
        for wrong in [
            "",
            "2026-11-29",
            "2026-11-29T02:00:00",
            "2026-11-29T02:00:00+0100",
            "2026-11-29T02:00:00+24:00",
            "2026-11-29T02:00:00+-1:00",
            "2026-13-29T02:00:00Z",
            "é2:00",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// Whatever the file has, it is parsed without a panic, and no control character is accepted.
        #[test]
        fn any_text_is_parsed_or_rejected(source in any::<String>(), version in any::<String>(), committed in "[-+0-9TtZz:. ]{0,30}") {
            let text = serde_json::json!({ "source": source, "version": version, "committed": committed });
            if let Ok(read) = DirectorySource::parse(text.to_string().as_bytes()) {
                prop_assert!(!read.source.chars().chain(read.version.unwrap_or_default().chars()).any(char::is_control));
            }
            let _ = DirectorySource::parse(source.as_bytes());
        }
    }
}
