//! Evaluates one value of a required parameter, as one service sees it: whether it is sufficient, and if not, why and
//! what fixes it.
//!
//! Sufficient values are accepted even if they differ from those in [`super::requirements`]: `encrypt` for `may`,
//! docker-mailserver's `noanonymous` where TLS is mandatory, a relay table through `proxy:`.

use super::stricter;
use super::table_list;
use super::verdict::{Cure, Site, Verdict};
use super::wanted::{Demand, Wanted};
use crate::diagnostics::Code;

/// Whether Postfix uses TLS, in Postfix's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Off,
    WhereOffered,
    Always,
}

/// Returns the issues of a value that this parameter has, or could have, in this context.
pub(super) fn judge(wanted: &Wanted, value: &str, site: Site<'_>) -> Vec<Verdict> {
    let cure = || Cure::Value(wanted.value.clone().into());
    let mut verdicts = Vec::new();
    match wanted.demand {
        Demand::Empty if value.is_empty() => {}
        Demand::Empty => verdicts.push(Verdict::new(
            Code::RelayhostSet,
            "a next hop for everyone: Postfix takes it for each sender that postmapd excludes, and for bounces",
            cure(),
        )),
        Demand::Yes if value.eq_ignore_ascii_case("yes") => {}
        Demand::Yes if wanted.parameter == "smtp_sasl_auth_enable" => verdicts.push(Verdict::new(
            Code::AuthOff,
            "Postfix does not log in anywhere, and relays refuse its mail",
            cure(),
        )),
        Demand::Yes => verdicts.push(Verdict::new(
            Code::SenderAuthOff,
            "the sender's own password is not asked for, so mail leaves by the next hop's account, or by none",
            cure(),
        )),
        Demand::Table(map) => verdicts.extend(table_list::judge(map, value, &wanted.value, site)),
        Demand::WithoutTls => without_tls(wanted, value, site, &mut verdicts),
        Demand::UnderTls => {
            if forbids_plain(value) {
                let is_explicit = site.live.is_explicit(&site.service.id, wanted.parameter);
                verdicts.push(Verdict::new(
                    Code::PlainForbidden,
                    "it forbids PLAIN and LOGIN under TLS too, and most relays offer nothing else, so their mail \
                     stays in the queue",
                    if is_explicit || forbids_plain(&wanted.value) {
                        Cure::Advice(WEAKENS.into())
                    } else {
                        cure()
                    },
                ));
            }
            verdicts.extend(anonymous(wanted, value));
        }
        Demand::Tls => {
            if tls(value, site) == Tls::Off {
                let consequence = if forbids_plain(site.value("smtp_sasl_security_options")) {
                    "no password may be sent without it, and mail that needs a login stays in the queue"
                } else {
                    "passwords and mail can be read on the way"
                };
                verdicts.push(Verdict::new(
                    Code::TlsOff,
                    format!("TLS is off: {consequence}"),
                    cure(),
                ));
            }
        }
    }
    verdicts
}

/// The advice for words of main.cf that are stricter than what postmapd needs.
const WEAKENS: &str = "if these relays offer PLAIN or LOGIN alone, take the words other than noanonymous out of it; that \
                       weakens what was written here on purpose, so no command is proposed";

fn without_tls(wanted: &Wanted, value: &str, site: Site<'_>, verdicts: &mut Vec<Verdict>) {
    let cure = || Cure::Value(wanted.value.clone().into());
    verdicts.extend(anonymous(wanted, value));
    if forbids_plain(value) {
        return;
    }
    let level = tls(site.value("smtp_tls_security_level"), site);
    let lowered = ["smtp_tls_policy_maps", "smtp_tls_per_site"]
        .iter()
        .any(|parameter| !site.value(parameter).is_empty());
    if level != Tls::Always {
        verdicts.push(Verdict::new(
            Code::PasswordInCleartext,
            "without noplaintext, a server that offers AUTH and no TLS gets the password in clear text",
            cure(),
        ));
    } else if lowered {
        verdicts.push(Verdict::new(
            Code::TlsPolicyMayLower,
            "TLS is mandatory, but a table of TLS policies may say otherwise for a server, which then gets the \
             password in clear text",
            cure(),
        ));
    }
}

/// Checks for `noanonymous`. The fix keeps the other words of the value.
fn anonymous(wanted: &Wanted, value: &str) -> Option<Verdict> {
    (!stricter::has_any(value, &["noanonymous"])).then(|| {
        Verdict::new(
            Code::AnonymousAllowed,
            "without noanonymous, Postfix may use anonymous authentication where a server offers it",
            match stricter::united(&wanted.value, value) {
                Some(value) => Cure::Here(value.into()),
                None => Cure::Value(wanted.value.clone().into()),
            },
        )
    })
}

/// Whether the value names a security property that SASL's PLAIN and LOGIN lack.
pub(super) fn forbids_plain(value: &str) -> bool {
    const NOT_OF_PLAIN: [&str; 5] = [
        "noplaintext",
        "noactive",
        "nodictionary",
        "forward_secrecy",
        "mutual_auth",
    ];
    stricter::has_any(value, &NOT_OF_PLAIN)
}

fn tls(level: &str, site: Site<'_>) -> Tls {
    let is_yes = |parameter| site.value(parameter).eq_ignore_ascii_case("yes");
    match level.to_ascii_lowercase().as_str() {
        "" if is_yes("smtp_enforce_tls") => Tls::Always,
        "" if is_yes("smtp_use_tls") => Tls::WhereOffered,
        "" | "none" => Tls::Off,
        // `dane` is equivalent to `may` where a domain has no TLSA record.
        "may" | "dane" => Tls::WhereOffered,
        _ => Tls::Always,
    }
}
