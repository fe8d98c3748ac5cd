//! Envelope senders, and the keys that Postfix would try.

/// Full case folding; in text that is not UTF-8, of ASCII letters only.
pub fn fold(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => caseless::default_case_fold_str(text).into_bytes(),
        Err(_) => text.to_ascii_lowercase(),
    }
}

/// The local part, unquoted and not folded, and the domain.
fn parts(address: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    if address.first() == Some(&b'"') {
        let mut content = Vec::new();
        let mut at = 1;
        while at < address.len() && address[at] != b'"' {
            if address[at] == b'\\' && at + 1 < address.len() {
                at += 1;
            }
            content.push(address[at]);
            at += 1;
        }
        if at < address.len() {
            let rest = &address[at + 1..];
            if rest.is_empty() {
                return (content, None);
            }
            if rest.len() > 1 && rest[0] == b'@' && !rest[1..].contains(&b'@') {
                return (content, Some(rest[1..].to_vec()));
            }
        }
    }
    let mut halves = address.rsplitn(2, |c| *c == b'@');
    match (halves.next(), halves.next()) {
        (Some(domain), Some(local)) if !domain.is_empty() => (local.to_vec(), Some(domain.to_vec())),
        _ => (address.to_vec(), None),
    }
}

fn joined(local: &[u8], domain: Option<&Vec<u8>>) -> Vec<u8> {
    match domain {
        Some(domain) => [fold(local), b"@".to_vec(), fold(domain)].concat(),
        None => fold(local),
    }
}

/// The key of an address, a host or a next hop in a table.
pub fn key(written: &[u8]) -> Vec<u8> {
    if written == b"<>" || written == b"\"<>\"" {
        return b"<>".to_vec();
    }
    let (local, domain) = parts(written);
    joined(&local, domain.as_ref())
}

/// The keys of an address in the order in which they are tried, and whether it has a domain.
pub fn keys(written: &[u8], delimiters: &str) -> (Vec<Vec<u8>>, bool) {
    let whole = key(written);
    if whole == b"<>" && (written == b"<>" || written == b"\"<>\"") {
        return (vec![whole], false);
    }
    let (local, domain) = parts(written);
    let Some(domain) = domain else {
        return (vec![whole], false);
    };
    let mut keys = vec![whole.clone()];
    if let Some(name) = without_extension(&local, delimiters) {
        keys.push(joined(name, Some(&domain)));
    }
    let of_domain = joined(b"", Some(&domain));
    if of_domain != whole {
        keys.push(of_domain.clone());
    }
    keys.extend(wildcards(&of_domain));
    (keys, true)
}

/// The keys of the domain's parents, then that of all senders.
fn wildcards(of_domain: &[u8]) -> Vec<Vec<u8>> {
    let domain = &of_domain[1..];
    let mut wildcards = Vec::new();
    if domain[0] != b'[' {
        for at in 1..domain.len() {
            if domain[at] == b'.' {
                wildcards.push([b"@", &domain[at..]].concat());
            }
        }
    }
    // An entry has at most 255 characters after its dot, and as many labels as fit there.
    wildcards.retain(|key| key.len() <= 2 + 4 * 255);
    let too_many = wildcards.len().saturating_sub(128);
    wildcards.drain(..too_many);
    if of_domain != ANY_SENDER {
        wildcards.push(ANY_SENDER.to_vec());
    }
    wildcards
}

/// The key of all senders that have a domain.
pub const ANY_SENDER: &[u8] = b"@*";

fn without_extension<'l>(local: &'l [u8], delimiters: &str) -> Option<&'l [u8]> {
    let lower = local.to_ascii_lowercase();
    if [&b"postmaster"[..], b"mailer-daemon", b"double-bounce"].contains(&lower.as_slice()) {
        return None;
    }
    let is_list = lower.starts_with(b"owner-") || (lower.ends_with(b"-request") && lower != b"-request");
    if delimiters.contains('-') && is_list {
        return None;
    }
    let at = local.iter().position(|c| delimiters.contains(char::from(*c)))?;
    (at > 0).then(|| &local[..at])
}
