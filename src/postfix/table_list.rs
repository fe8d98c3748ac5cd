//! Evaluates the tables of `sender_dependent_relayhost_maps` or `smtp_sasl_password_maps` against the required one.
//!
//! Postfix queries the tables of a list in order and uses the first answer. The name of a table may contain a password
//! (`static:user:password`), so findings count other tables and do not name them.

use std::net::Ipv6Addr;

use super::live::Service;
use super::reach::{self, Kinship};
use super::verdict::{Cure, Site, Verdict};
use crate::diagnostics::Code;
use crate::lookup::map::Map;
use crate::net::address::Address;

const PROXY: &str = "proxy:";

/// Splits a list of tables at whitespace and commas outside braces.
pub(crate) fn tables(list: &str) -> impl Iterator<Item = &str> {
    words(list, |c| matches!(c, ',' | ' ' | '\t' | '\r' | '\n'))
}

/// Splits text at separators outside braces (`mystrtokq(3)`).
pub(super) fn words(text: &str, is_separator: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let separator = move |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && is_separator(c)
    };
    text.split(separator).filter(|word| !word.is_empty())
}

/// Returns the owner of a table, with or without `proxy:`, as this service sees it.
pub(crate) fn kinship(table: &str, site: Site<'_>) -> Kinship {
    match table.strip_prefix(PROXY) {
        // proxymap(8) connects, with its own chroot.
        Some(inner) => {
            let chrooted = proxymap(site).is_some_and(|proxymap| proxymap.chrooted);
            site.reach.kinship(inner, chrooted)
        }
        None => site.reach.kinship(table, site.service.chrooted),
    }
}

/// Returns the proxymap(8) through which this service queries passwords, if it does.
pub(crate) fn proxymap_for_passwords(site: Site<'_>) -> Option<&Service> {
    let is_proxied = tables(site.value("smtp_sasl_password_maps")).any(|table| table.starts_with(PROXY));
    proxymap(site).filter(|_| is_proxied)
}

fn proxymap(site: Site<'_>) -> Option<&Service> {
    let name = site.value("proxymap_service_name");
    let services = &site.live.services;
    services
        .iter()
        .find(|service| service.id.name == name && service.id.kind == "unix")
}

/// Returns the issues of a list that should query `map`. `required` is the table that main.cf should name.
pub(crate) fn judge(map: Map, list: &str, wanted: &str, site: Site<'_>) -> Vec<Verdict> {
    let cure = || Cure::Value(wanted.to_owned().into());
    let known: Vec<(&str, Kinship)> = tables(list).map(|table| (table, kinship(table, site))).collect();
    let is_ours = |kin: Kinship| kin == Kinship::Ours(map);
    let is_swapped =
        |kin: Kinship| matches!(kin, Kinship::Ours(other) | Kinship::Hidden(other) if other != map);
    if known.iter().any(|(_, kin)| is_swapped(*kin)) {
        return vec![Verdict::new(Code::MapsSwapped, map.misuse.other_map, cure())];
    }
    if let Some((table, _)) = known.iter().find(|(_, kin)| matches!(kin, Kinship::Hidden(_))) {
        return vec![hidden(table, wanted, site)];
    }
    let Some(at) = known.iter().position(|(_, kin)| is_ours(*kin)) else {
        return vec![missing(map, &known, cure())];
    };
    let mut verdicts = Vec::new();
    let foreign = |part: Option<&[(&str, Kinship)]>| {
        let part = part.unwrap_or_default().iter();
        part.filter(|(_, kin)| !is_ours(*kin)).count()
    };
    if foreign(known.get(..at)) > 0 {
        verdicts.push(Verdict::new(
            Code::TableBefore,
            "another table stands before postmapd's, and what it answers counts; move its entries to postmapd's files",
            cure(),
        ));
    }
    if foreign(known.get(at..)) > 0 {
        verdicts.push(Verdict::new(Code::TableAfter, map.misuse.table_after, cure()));
    }
    for (table, _) in known.iter().filter(|(_, kin)| is_ours(*kin)) {
        verdicts.extend(usable(table, wanted, site));
    }
    let is_proxied = |(table, kin): &(&str, Kinship)| is_ours(*kin) && table.starts_with(PROXY);
    if map == Map::SASL && verdicts.is_empty() && known.iter().any(is_proxied) {
        verdicts.push(Verdict::new(
            Code::SaslThroughProxy,
            "proxymap(8) carries the questions of several SMTP clients on one connection, so postmapd cannot tell which \
             next hop a client asks for: mail of a sender whose relay has just changed waits in the queue",
            if wanted.starts_with(PROXY) {
                Cure::Advice(
                    "let postmapd listen at a UNIX socket in the queue directory, or at 127.0.0.1, and name that \
                     without proxy:".into(),
                )
            } else {
                cure()
            },
        ));
    }
    verdicts
}

fn missing(map: Map, known: &[(&str, Kinship)], cure: Cure) -> Verdict {
    let any = |wish: Kinship| known.iter().any(|(_, kin)| *kin == wish);
    if any(Kinship::NoSuchMap) {
        return Verdict::new(
            Code::WrongMap,
            "it asks postmapd in a way that this listener does not answer: another map, or the other protocol",
            cure,
        );
    }
    if any(Kinship::Elsewhere(map)) {
        return Verdict::new(
            Code::WrongEndpoint,
            "it asks at an endpoint at which postmapd does not listen",
            cure,
        );
    }
    let instead = if known.is_empty() {
        "postmapd is not asked"
    } else {
        "other tables are asked, and postmapd is not"
    };
    Verdict::new(
        Code::MapMissing,
        format!("{instead}: {}", map.misuse.not_used),
        cure,
    )
}

fn hidden(table: &str, wanted: &str, site: Site<'_>) -> Verdict {
    let proxymap = proxymap(site).filter(|proxymap| proxymap.chrooted);
    let cure = match proxymap {
        Some(proxymap) if table.starts_with(PROXY) && wanted.starts_with(PROXY) => {
            Cure::Unjail(proxymap.id.clone())
        }
        _ => Cure::Value(wanted.to_owned().into()),
    };
    Verdict::new(
        Code::ChrootHidesSocket,
        "the service that asks is chrooted in the queue directory, where the socket does not have this path; every \
         lookup fails, and mail stays in the queue",
        cure,
    )
}

/// Returns the issues of a table that belongs to this server.
fn usable(table: &str, wanted: &str, site: Site<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let inner = table.strip_prefix(PROXY).unwrap_or(table);
    let kind = inner.split(':').next().unwrap_or_default();
    if !site.live.table_types.contains(kind) {
        verdicts.push(Verdict::new(
            Code::NoTableType,
            format!("this Postfix is built without {kind}: tables (postconf -m)"),
            Cure::Advice(match kind {
                "tcp" => "let postmapd listen at a socketmap endpoint, and name that".into(),
                _ => "install a Postfix that has them".into(),
            }),
        ));
    }
    let is_ipv6 = matches!(
        reach::address(inner),
        Some(Address::Inet(host, _)) if host.parse::<Ipv6Addr>().is_ok()
    );
    let has_ipv6 = tables(site.value("inet_protocols")).any(|protocol| {
        ["ipv6", "all"]
            .iter()
            .any(|word| protocol.eq_ignore_ascii_case(word))
    });
    if is_ipv6 && !has_ipv6 {
        verdicts.push(Verdict::new(
            Code::Ipv6Off,
            "the endpoint is an IPv6 address, and inet_protocols has no ipv6, so it cannot be reached",
            Cure::Advice("let postmapd listen at 127.0.0.1 too, or add ipv6 to inet_protocols".into()),
        ));
    }
    if table.starts_with(PROXY) {
        verdicts.extend(through_proxymap(table, wanted, site));
    }
    verdicts
}

fn through_proxymap(table: &str, wanted: &str, site: Site<'_>) -> Option<Verdict> {
    let cure = |advice: &'static str| {
        if wanted.starts_with(PROXY) {
            Cure::Advice(advice.into())
        } else {
            Cure::Value(wanted.to_owned().into())
        }
    };
    let Some(proxymap) = proxymap(site) else {
        return Some(Verdict::new(
            Code::NoProxymap,
            "it goes through proxymap(8), and master.cf has no such service",
            cure("put the line of proxymap back into master.cf"),
        ));
    };
    let approved = site.live.value(&proxymap.id, "proxy_read_maps");
    if tables(approved).any(|approved| approved == table) {
        return None;
    }
    Some(Verdict::new(
        Code::ProxyNotApproved,
        "proxymap(8) refuses it, because proxy_read_maps does not have it, and the service that asks dies of that",
        cure("add this table, with proxy: in front, to proxy_read_maps in main.cf"),
    ))
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn a_list_is_cut_at_blanks_and_commas_outside_of_braces() {
        let list = "hash:/a, inline:{ a=b, c=d },,\tsocketmap:inet:h:1:sasl";
        assert_eq!(
            tables(list).collect::<Vec<_>>(),
            ["hash:/a", "inline:{ a=b, c=d }", "socketmap:inet:h:1:sasl"]
        );
    }
}
