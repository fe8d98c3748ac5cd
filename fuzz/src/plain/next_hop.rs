//! Next hops that Postfix's smtp(8) reads without exiting.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The offset of the first invalid element.
pub fn first_fault(list: &[u8]) -> Option<usize> {
    let mut begin = 0;
    let mut any = false;
    for end in 0..=list.len() {
        if end < list.len() && !b", \t".contains(&list[end]) {
            continue;
        }
        let element = &list[begin..end];
        if !element.is_empty() {
            any = true;
            if !is_right(element) {
                return Some(begin);
            }
        }
        begin = end + 1;
    }
    if any { None } else { Some(0) }
}

fn is_right(element: &[u8]) -> bool {
    let Ok(element) = std::str::from_utf8(element) else {
        return false;
    };
    if let Some(inner) = element.strip_prefix('[') {
        let Some((host, rest)) = inner.split_once(']') else {
            return false;
        };
        let tagged = host.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let v6 = if tagged { &host[5..] } else { host };
        let host_is_right = v6.parse::<Ipv6Addr>().is_ok() || (!tagged && is_name_or_v4(host));
        return host_is_right && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    match element.split(':').collect::<Vec<_>>()[..] {
        [host] => is_name_or_v4(host),
        [host, port] => is_name_or_v4(host) && is_port(port),
        _ => false,
    }
}

fn is_port(port: &str) -> bool {
    let is_number = !port.is_empty() && port.len() <= 5 && port.chars().all(|c| c.is_ascii_digit());
    ["smtp", "smtps", "submission", "submissions"].contains(&port)
        || (is_number && (1..=65_535).contains(&port.parse::<i64>().unwrap()))
}

fn is_name_or_v4(host: &str) -> bool {
    if host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let is_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    host.len() <= 255 && !is_number && host.split('.').all(is_label)
}
