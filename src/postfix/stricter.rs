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
//! Beside the TLS policies of postmapd, the tables of `smtp_tls_policy_maps` are kept, after it. Certificate authorities
//! of main.cf are kept as they are.
//!
//! Limits: the tables of `smtp_tls_policy_maps` are not read. Overrides in master.cf (`-o`) are not changed.

use super::addressing::{Addressing, TableOwner};
use super::config::PostfixConfig;
use super::requirements::{Expectation, Requirement};
use super::table_list;
use crate::lookup::map::Map;

/// The SASL property (`xsasl(3)`) that forbids plaintext mechanisms.
const NOPLAINTEXT: &str = "noplaintext";

/// Replaces recommended values by those of main.cf where these are stricter.
pub(crate) fn keep(requirements: &mut [Requirement], config: &PostfixConfig, addressing: &Addressing) {
    for requirement in requirements {
        let kept = match requirement.expectation {
            Expectation::CertificateAuthorities => {
                keep_authorities(requirement, config);
                None
            }
            Expectation::Table(map) if map == Map::TLS => {
                keep_policies(requirement, config, addressing);
                None
            }
            Expectation::Tls => level_above_may(config),
            Expectation::NoPlaintextWithoutTls => {
                unite(&requirement.value, config.main_cf(requirement.parameter))
            }
            Expectation::PlaintextUnderTls => unite(
                &requirement.value,
                &words_under_tls(config, requirement.parameter),
            ),
            Expectation::Empty
            | Expectation::Yes
            | Expectation::Table(_)
            | Expectation::MandatoryTls
            | Expectation::ImplicitTls
            | Expectation::NoTlsRequired => None,
        };
        if let Some(value) = kept {
            requirement.rationale = format!(
                "{} Kept from main.cf, which is stricter than necessary.",
                requirement.rationale
            )
            .into();
            requirement.value = value;
        }
    }
}

/// Keeps the certificate authorities of main.cf: others would make more certificates valid.
fn keep_authorities(requirement: &mut Requirement, config: &PostfixConfig) {
    for parameter in ["smtp_tls_CAfile", "smtp_tls_CApath"] {
        let written = config.written_in_main_cf(parameter);
        if let Some(written) = written.filter(|_| !config.main_cf(parameter).is_empty()) {
            requirement.parameter = parameter;
            if requirement.value != written {
                written.clone_into(&mut requirement.value);
                requirement.rationale = format!("{} Kept from main.cf.", requirement.rationale).into();
            }
            return;
        }
    }
}

/// Keeps the policy tables of main.cf. postmapd's is first: it answers only for relays.
fn keep_policies(requirement: &mut Requirement, config: &PostfixConfig, addressing: &Addressing) {
    let Some(written) = config.written_in_main_cf(requirement.parameter) else {
        return;
    };
    let expanded = config.main_cf(requirement.parameter);
    if table_list::tables(expanded).any(|table| table == requirement.value) {
        written.clone_into(&mut requirement.value);
        return;
    }
    // Another map or endpoint of this server is a mistake.
    let is_other = |table: &&str| {
        let owner = addressing.table_owner(table.strip_prefix("proxy:").unwrap_or(table), false);
        matches!(owner, TableOwner::Unrelated | TableOwner::NoSuchMap)
    };
    let others: Vec<&str> = table_list::tables(expanded).filter(is_other).collect();
    if !others.is_empty() {
        requirement.value = format!("{}, {}", requirement.value, others.join(", "));
        requirement.rationale = format!(
            "{} The other tables are kept from main.cf. Move their entries for relays to postfix-relay-tls.cf.",
            requirement.rationale
        )
        .into();
    }
}

/// Returns the TLS level of main.cf, if it is above `may`.
fn level_above_may(config: &PostfixConfig) -> Option<String> {
    const PARAMETER: &str = "smtp_tls_security_level";
    let is_yes = |parameter| config.main_cf(parameter).eq_ignore_ascii_case("yes");
    match config.main_cf(PARAMETER).to_ascii_lowercase().as_str() {
        "" if is_yes("smtp_enforce_tls") && is_yes("smtp_tls_enforce_peername") => Some("verify".to_owned()),
        "" if is_yes("smtp_enforce_tls") => Some("encrypt".to_owned()),
        "" | "none" | "may" => None,
        _ => config.written_in_main_cf(PARAMETER).map(ToOwned::to_owned),
    }
}

/// Returns the words that apply under TLS, without a `noplaintext` that only the default has.
fn words_under_tls(config: &PostfixConfig, parameter: &str) -> String {
    let value = config.main_cf(parameter);
    if config.is_explicit_in_main_cf(parameter) {
        return value.to_owned();
    }
    let kept: Vec<&str> = words(value)
        .filter(|word| !word.eq_ignore_ascii_case(NOPLAINTEXT))
        .collect();
    kept.join(", ")
}

/// Returns the recommended words followed by the further words of `other`. `None` if there are no further words.
pub(super) fn unite(recommended: &str, other: &str) -> Option<String> {
    let is_new = |word: &&str| !has_any(recommended, &[word]);
    let more: Vec<&str> = words(other).filter(is_new).collect();
    (!more.is_empty()).then(|| [&[recommended], more.as_slice()].concat().join(", "))
}

/// Whether a value has one of these words, in any case.
pub(super) fn has_any(value: &str, options: &[&str]) -> bool {
    words(value).any(|word| options.iter().any(|option| word.eq_ignore_ascii_case(option)))
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::unite;

    #[test]
    fn uniting_values_neither_repeats_nor_removes_words() {
        let recommended = "noanonymous, noplaintext";
        assert_eq!(unite(recommended, "noplaintext,NoAnonymous"), None);
        assert_eq!(unite(recommended, ""), None);
        let expected = "noanonymous, noplaintext, noactive, mutual_auth";
        let united = unite(recommended, "noactive noplaintext\tmutual_auth");
        assert_eq!(united.as_deref(), Some(expected));
    }
}
