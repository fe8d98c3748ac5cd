//! What main.cf has that is stricter than what postmapd needs: it stays, so that neither a printed line, a command nor
//! a proposal of the check weakens a live Postfix.
//!
//! - A TLS level above `may` stays as it is written. Where there is none, what the obsolete `smtp_enforce_tls` demands
//!   is kept as the level that it means.
//! - The words of the SASL options are demands on mechanisms, and more of them are stricter; so the values are united.
//!
//! One thing is given up on purpose: by its default `smtp_sasl_tls_security_options` repeats what holds without TLS,
//! `noplaintext` among it, and then Postfix cannot log in at most relays. `noplaintext` stays there only where it was
//! written for that parameter; the other words stay in any case.
//!
//! Limits: the tables of `smtp_tls_policy_maps` are not read, and what master.cf says with `-o` is not changed by any
//! of this.

use super::live::Live;
use super::wanted::{Demand, Wanted};

/// SASL properties (`xsasl(3)`), all of which narrow the choice of mechanisms.
const NO_PLAIN_TEXT: &str = "noplaintext";

/// Replaces recommended values by what main.cf has, where that is stricter.
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

/// A level above `may`.
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

/// The words that hold under TLS and are not there by default alone.
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

/// The recommended words, and those of `other` that are not among them, if there are any.
pub(super) fn united(recommended: &str, other: &str) -> Option<String> {
    let is_new = |word: &&str| !has_any(recommended, &[word]);
    let more: Vec<&str> = words(other).filter(is_new).collect();
    (!more.is_empty()).then(|| [&[recommended], more.as_slice()].concat().join(", "))
}

/// Whether one of these words is among those of a value, in whatever case.
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
