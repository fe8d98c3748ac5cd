//! Keeps values of main.cf that are stricter than what postmapd needs, so that no printed line, command or fix weakens
//! an installed Postfix.
//!
//! - A TLS level above `may` stays as written. Without a level, the obsolete `smtp_enforce_tls` is kept as the
//!   equivalent level.
//! - Each word of a SASL option restricts the mechanisms further, so the recommended and the present words are united.
//!
//! One exception is deliberate: the default of `smtp_sasl_tls_security_options` repeats the value for connections
//! without TLS, `noplaintext` among it, with which Postfix cannot log in at most relays. `noplaintext` is kept only if
//! it was written for that parameter; the other words are always kept.
//!
//! Limits: the tables of `smtp_tls_policy_maps` are not read. Overrides in master.cf (`-o`) are not changed.

use super::live::Live;
use super::wanted::{Demand, Wanted};

/// The SASL property (`xsasl(3)`) that forbids plaintext mechanisms.
const NO_PLAIN_TEXT: &str = "noplaintext";

/// Replaces recommended values by those of main.cf where these are stricter.
pub(crate) fn keep(wanted: &mut [Wanted], live: &Live) {
    for one in wanted {
        let kept = match one.demand {
            Demand::Tls => level(live),
            Demand::WithoutTls => united(&one.value, live.main(one.parameter)),
            Demand::UnderTls => united(&one.value, &under_tls(live, one.parameter)),
            Demand::Empty | Demand::Yes | Demand::Table(_) => None,
        };
        if let Some(value) = kept {
            one.why = format!("{} Kept from main.cf, which is stricter than is needed.", one.why).into();
            one.value = value;
        }
    }
}

/// Returns the TLS level of main.cf, if it is above `may`.
fn level(live: &Live) -> Option<String> {
    const PARAMETER: &str = "smtp_tls_security_level";
    let is_yes = |parameter| live.main(parameter).eq_ignore_ascii_case("yes");
    match live.main(PARAMETER).to_ascii_lowercase().as_str() {
        "" if is_yes("smtp_enforce_tls") && is_yes("smtp_tls_enforce_peername") => Some("verify".to_owned()),
        "" if is_yes("smtp_enforce_tls") => Some("encrypt".to_owned()),
        "" | "none" | "may" => None,
        _ => live.written(PARAMETER).map(ToOwned::to_owned),
    }
}

/// Returns the words that apply under TLS, without a `noplaintext` that only the default has.
fn under_tls(live: &Live, parameter: &str) -> String {
    let value = live.main(parameter);
    if live.is_explicit_in_main(parameter) {
        return value.to_owned();
    }
    let kept: Vec<&str> = words(value)
        .filter(|word| !word.eq_ignore_ascii_case(NO_PLAIN_TEXT))
        .collect();
    kept.join(", ")
}

/// Returns the recommended words followed by the further words of `other`. `None` if there are no further words.
pub(super) fn united(recommended: &str, other: &str) -> Option<String> {
    let is_new = |word: &&str| !has_any(recommended, &[word]);
    let more: Vec<&str> = words(other).filter(is_new).collect();
    (!more.is_empty()).then(|| [&[recommended], more.as_slice()].concat().join(", "))
}

/// Whether a value has one of these words, in any case.
pub(super) fn has_any(value: &str, wanted: &[&str]) -> bool {
    words(value).any(|word| wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)))
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::united;

    #[test]
    fn words_are_added_and_none_is_repeated_or_taken_away() {
        let recommended = "noanonymous, noplaintext";
        assert_eq!(united(recommended, "noplaintext,NoAnonymous"), None);
        assert_eq!(united(recommended, ""), None);
        let expected = "noanonymous, noplaintext, noactive, mutual_auth";
        let united = united(recommended, "noactive noplaintext\tmutual_auth");
        assert_eq!(united.as_deref(), Some(expected));
    }
}
