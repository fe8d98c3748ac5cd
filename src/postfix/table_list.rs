//! Evaluates the tables of a parameter that queries a map of postmapd against the required one.
//!
//! Postfix queries the tables of a list in order and uses the first answer. The name of a table may contain a password
//! (`static:user:password`), so findings count other tables and do not name them.

use std::net::Ipv6Addr;

use super::addressing::{self, TableOwner};
use super::config::Service;
use super::issue::{Duty, Fix, Issue, ServiceContext};
use crate::diagnostics::Code;
use crate::lookup::map::Map;
use crate::net::address::Address;

const PROXY: &str = "proxy:";

/// Splits a list of tables at whitespace and commas outside braces.
pub(crate) fn tables(list: &str) -> impl Iterator<Item = &str> {
    split_outside_braces(list, |c| matches!(c, ',' | ' ' | '\t' | '\r' | '\n'))
}

/// Splits text at separators outside braces (`mystrtokq(3)`).
pub(super) fn split_outside_braces(
    text: &str,
    is_separator: impl Fn(char) -> bool,
) -> impl Iterator<Item = &str> {
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
pub(crate) fn table_owner(table: &str, context: ServiceContext<'_>) -> TableOwner {
    match table.strip_prefix(PROXY) {
        // proxymap(8) connects, with its own chroot.
        Some(inner) => {
            let chrooted = proxymap(context).is_some_and(|proxymap| proxymap.chrooted);
            context.addressing.table_owner(inner, chrooted)
        }
        None => context.addressing.table_owner(table, context.service.chrooted),
    }
}

/// Whether the service queries postmapd for the TLS policies of relays.
pub(super) fn has_policies(context: ServiceContext<'_>) -> bool {
    queries(context, Map::TLS, context.value(Map::TLS.parameter))
}

/// Whether a list of tables is meant to query this map of postmapd, even if Postfix cannot connect.
pub(super) fn queries(context: ServiceContext<'_>, map: Map, list: &str) -> bool {
    use TableOwner::{OtherEndpoint, ThisServer, Unreachable};
    tables(list).any(|table| {
        let owner = table_owner(table, context);
        [ThisServer(map), Unreachable(map), OtherEndpoint(map)].contains(&owner)
    })
}

/// Returns the proxymap(8) through which this service queries passwords, if it does.
pub(crate) fn proxymap_for_passwords(context: ServiceContext<'_>) -> Option<&Service> {
    let is_proxied = tables(context.value("smtp_sasl_password_maps")).any(|table| table.starts_with(PROXY));
    proxymap(context).filter(|_| is_proxied)
}

fn proxymap(context: ServiceContext<'_>) -> Option<&Service> {
    let name = context.value("proxymap_service_name");
    let services = &context.config.services;
    services
        .iter()
        .find(|service| service.id.name == name && service.id.service_type == "unix")
}

/// Returns the issues of a list that should query `map`. `required` is the table that main.cf should name.
pub(crate) fn evaluate(map: Map, list: &str, required: &str, context: ServiceContext<'_>) -> Vec<Issue> {
    let fix = || set(map, required);
    let owned: Vec<(&str, TableOwner)> = tables(list)
        .map(|table| (table, table_owner(table, context)))
        .collect();
    let is_this_map = |owner: TableOwner| owner == TableOwner::ThisServer(map);
    let swapped = owned.iter().find_map(|(_, owner)| match owner {
        TableOwner::ThisServer(other) | TableOwner::Unreachable(other) => {
            Some(*other).filter(|other| *other != map)
        }
        _ => None,
    });
    if let Some(other) = swapped {
        // For the maps that main.cf has always had, the consequence is known.
        let message = if [map, other]
            .iter()
            .all(|map| [Map::RELAYHOST, Map::SASL].contains(map))
        {
            map.misuse.other_map.into()
        } else {
            format!("this list queries the map {other}, and Postfix would use its values for another purpose, and log them")
                .into()
        };
        return vec![Issue {
            code: Code::MapsSwapped,
            message,
            fix: fix(),
        }];
    }
    if let Some((table, _)) = owned
        .iter()
        .find(|(_, owner)| matches!(owner, TableOwner::Unreachable(_)))
    {
        return vec![unreachable_socket(map, table, required, context)];
    }
    let Some(at) = owned.iter().position(|(_, owner)| is_this_map(*owner)) else {
        return if map == Map::TLS {
            missing_policies(&owned, fix(), context).into_iter().collect()
        } else {
            vec![missing_map(map, &owned, fix())]
        };
    };
    let mut issues = Vec::new();
    let count_others = |part: Option<&[(&str, TableOwner)]>| {
        let part = part.unwrap_or_default().iter();
        part.filter(|(_, owner)| !is_this_map(*owner)).count()
    };
    if count_others(owned.get(..at)) > 0 {
        issues.push(if map == Map::TLS {
            Issue::new(
                Code::PolicyTableBefore,
                "another table is listed before postmapd's, and its policies for relays take precedence",
                Fix::Advice(
                    "move its entries for relays to postfix-relay-tls.cf, and put postmapd's table first".into(),
                ),
            )
        } else {
            Issue::new(
                Code::TableBefore,
                "another table is listed before postmapd's, and its answers take precedence; move its entries to \
                 postmapd's files",
                fix(),
            )
        });
    }
    // Other mail has other policies.
    if map != Map::TLS && count_others(owned.get(at..)) > 0 {
        issues.push(Issue::new(Code::TableAfter, map.misuse.table_after, fix()));
    }
    for (table, _) in owned.iter().filter(|(_, owner)| is_this_map(*owner)) {
        issues.extend(check_own_table(table, required, context));
    }
    let is_proxied = |(table, owner): &(&str, TableOwner)| is_this_map(*owner) && table.starts_with(PROXY);
    if map == Map::SASL && issues.is_empty() && owned.iter().any(is_proxied) {
        issues.push(Issue::new(
            Code::SaslThroughProxy,
            "proxymap(8) sends the lookups of several SMTP clients over one connection, so postmapd cannot tell which \
             next hop a client looks up: mail of a sender whose relay has just changed waits in the queue",
            if required.starts_with(PROXY) {
                Fix::Advice(
                    "let postmapd listen on a UNIX socket in the queue directory, or on 127.0.0.1, and use that \
                     endpoint without proxy:".into(),
                )
            } else {
                fix()
            },
        ));
    }
    issues
}

/// The fix of a list that also has tables for other mail, whose names a finding must not show.
const POLICIES_FIRST: &str = "put postmapd's table before the other ones (postmapd postconf prints the list)";

/// Returns the fix that sets the required list.
fn set(map: Map, required: &str) -> Fix {
    if map == Map::TLS && tables(required).nth(1).is_some() {
        Fix::Advice(POLICIES_FIRST.into())
    } else {
        Fix::Value(required.to_owned().into())
    }
}

fn missing_policies(owned: &[(&str, TableOwner)], fix: Fix, context: ServiceContext<'_>) -> Option<Issue> {
    let message = match (is_verifying(context), context.duty) {
        (true, Duty::Any) => return None,
        (true, _) => {
            "Postfix does not query postmapd for the TLS policies of relays: postfix-relay-tls.cf has no effect, and the \
             server's name is not sent (SNI)"
        }
        (false, _) => {
            "Postfix does not query postmapd for the TLS policies of relays: it logs in at any server in the place of a \
             relay, whatever its certificate"
        }
    };
    let fix = if owned.is_empty() {
        fix
    } else {
        Fix::Advice(POLICIES_FIRST.into())
    };
    Some(Issue::new(Code::PoliciesMissing, message, fix))
}

/// Whether the level of the service demands a certificate that can be verified, of every server.
fn is_verifying(context: ServiceContext<'_>) -> bool {
    let level = context.value("smtp_tls_security_level");
    let levels = ["dane-only", "fingerprint", "verify", "secure"];
    levels.iter().any(|other| level.eq_ignore_ascii_case(other))
}

fn missing_map(map: Map, owned: &[(&str, TableOwner)], fix: Fix) -> Issue {
    let any = |sought: TableOwner| owned.iter().any(|(_, owner)| *owner == sought);
    if any(TableOwner::NoSuchMap) {
        return Issue::new(
            Code::WrongMap,
            "on this endpoint, postmapd serves another map or uses the other protocol",
            fix,
        );
    }
    if any(TableOwner::OtherEndpoint(map)) {
        return Issue::new(
            Code::WrongEndpoint,
            "postmapd does not listen on this endpoint",
            fix,
        );
    }
    let instead = if owned.is_empty() {
        "Postfix does not query postmapd"
    } else {
        "Postfix queries other tables instead of postmapd"
    };
    Issue::new(
        Code::MapMissing,
        format!("{instead}: {}", map.misuse.not_used),
        fix,
    )
}

fn unreachable_socket(map: Map, table: &str, required: &str, context: ServiceContext<'_>) -> Issue {
    let proxymap = proxymap(context).filter(|proxymap| proxymap.chrooted);
    let fix = match proxymap {
        Some(proxymap) if table.starts_with(PROXY) && required.starts_with(PROXY) => {
            Fix::DisableChroot(proxymap.id.clone())
        }
        _ => set(map, required),
    };
    Issue::new(
        Code::ChrootHidesSocket,
        "the service is chrooted to the queue directory, where the socket has another path: every lookup fails, and \
         mail stays in the queue",
        fix,
    )
}

/// Returns the issues of a table that belongs to this server.
fn check_own_table(table: &str, required: &str, context: ServiceContext<'_>) -> Vec<Issue> {
    let mut issues = Vec::new();
    let inner = table.strip_prefix(PROXY).unwrap_or(table);
    let table_type = inner.split(':').next().unwrap_or_default();
    if !context.config.table_types.contains(table_type) {
        issues.push(Issue::new(
            Code::NoTableType,
            format!(
                "this Postfix does not support {table_type}: tables (postconf -m lists the supported types)"
            ),
            Fix::Advice(match table_type {
                "tcp" => "let postmapd listen on a socketmap endpoint, and use that".into(),
                _ => "install a Postfix that supports them".into(),
            }),
        ));
    }
    let is_ipv6 = matches!(
        addressing::parse_address(inner),
        Some(Address::Inet(host, _)) if host.parse::<Ipv6Addr>().is_ok()
    );
    let has_ipv6 = tables(context.value("inet_protocols")).any(|protocol| {
        ["ipv6", "all"]
            .iter()
            .any(|word| protocol.eq_ignore_ascii_case(word))
    });
    if is_ipv6 && !has_ipv6 {
        issues.push(Issue::new(
            Code::Ipv6Off,
            "Postfix cannot connect to this IPv6 address, because inet_protocols does not include ipv6",
            Fix::Advice("let postmapd listen on 127.0.0.1 too, or add ipv6 to inet_protocols".into()),
        ));
    }
    if table.starts_with(PROXY) {
        issues.extend(check_proxymap(table, required, context));
    }
    issues
}

fn check_proxymap(table: &str, required: &str, context: ServiceContext<'_>) -> Option<Issue> {
    let fix = |advice: &'static str| {
        if required.starts_with(PROXY) {
            Fix::Advice(advice.into())
        } else {
            Fix::Value(required.to_owned().into())
        }
    };
    let Some(proxymap) = proxymap(context) else {
        return Some(Issue::new(
            Code::NoProxymap,
            "the table uses proxymap(8), and master.cf has no such service",
            fix("restore the proxymap service in master.cf"),
        ));
    };
    let approved = context.config.value(&proxymap.id, "proxy_read_maps");
    if tables(approved).any(|approved| approved == table) {
        return None;
    }
    Some(Issue::new(
        Code::ProxyNotApproved,
        "proxymap(8) rejects the table, because proxy_read_maps does not include it, and the service that queries the \
         table terminates",
        fix("add this table, including proxy:, to proxy_read_maps in main.cf"),
    ))
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn a_list_is_split_at_whitespace_and_commas_outside_braces() {
        let list = "hash:/a, inline:{ a=b, c=d },,\tsocketmap:inet:h:1:sasl";
        assert_eq!(
            tables(list).collect::<Vec<_>>(),
            ["hash:/a", "inline:{ a=b, c=d }", "socketmap:inet:h:1:sasl"]
        );
    }
}
