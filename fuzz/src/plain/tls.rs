//! Values of `postfix-relay-tls.cf` that Postfix can use.

const LEVELS: [&str; 8] = [
    "none",
    "may",
    "encrypt",
    "dane",
    "dane-only",
    "fingerprint",
    "verify",
    "secure",
];

/// The offset of the first fault in the value of the line of this key.
pub fn first_fault(key: &[u8], value: &[u8]) -> Option<usize> {
    let mut words = Vec::new();
    let mut begin = 0;
    for end in 0..=value.len() {
        if end == value.len() || b" \t,".contains(&value[end]) {
            if begin < end {
                // Each byte is a character, so that offsets are those of bytes.
                let word: String = value[begin..end].iter().map(|c| char::from(*c)).collect();
                words.push((begin, word.to_ascii_lowercase(), word));
            }
            begin = end + 1;
        }
    }
    let mut rest = words.iter().peekable();
    if rest.peek().is_none() {
        return Some(0);
    }
    let is_mode = |word: &str| word == "implicit" || word == "starttls";
    let mode = rest
        .next_if(|(_, word, _)| is_mode(word))
        .map(|(_, word, _)| word.as_str());
    let mut level = None;
    let mut names: Vec<&str> = Vec::new();
    while let Some((at, word, written)) = rest.next() {
        if let Some(service) = word.strip_prefix("via=") {
            let is_name = service.starts_with(|c: char| c.is_ascii_alphanumeric())
                && service
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if !is_name {
                return Some(*at);
            }
            if let Some((after, ..)) = rest.next() {
                return Some(*after);
            }
            break;
        }
        if is_mode(word) {
            return Some(*at);
        }
        match (word.split_once('='), level) {
            (None, None) if LEVELS.contains(&word.as_str()) => level = Some((*at, word.as_str())),
            (Some((name, text)), Some((_, level))) => {
                let is_repeated = names.contains(&name) && name != "match" && name != "tafile";
                let (_, as_written) = written.split_once('=').unwrap();
                if level == "none"
                    || text.is_empty()
                    || is_repeated
                    || !is_attribute(level, name, text, as_written)
                {
                    return Some(*at);
                }
                names.push(name);
            }
            _ => return Some(*at),
        }
    }
    if let Some((at, "fingerprint")) = level
        && !names.contains(&"match")
    {
        return Some(at);
    }
    let key = String::from_utf8_lossy(key);
    let port = key
        .rsplit_once(':')
        .map(|(host, port)| (host.ends_with(']') || !host.contains(':'), port));
    let is_of_submissions = matches!(port, Some((true, "465" | "smtps" | "submissions")));
    let is_implicit = mode == Some("implicit") || (mode.is_none() && is_of_submissions);
    (is_implicit && matches!(level, Some((_, "none" | "may" | "dane")))).then_some(0)
}

fn is_attribute(level: &str, name: &str, text: &str, as_written: &str) -> bool {
    match name {
        "match" => matches!(level, "fingerprint" | "verify" | "secure"),
        "tafile" => matches!(level, "verify" | "secure"),
        "exclude" => true,
        "ciphers" => matches!(text, "export" | "low" | "medium" | "high" | "null"),
        "connection_reuse" | "enable_rpk" => matches!(text, "yes" | "no"),
        "servername" => {
            let labels = as_written.split('.');
            let is_label = |label: &str| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            };
            as_written.len() <= 255
                && labels.clone().all(is_label)
                && as_written.contains(|c: char| !c.is_ascii_digit() && c != '.')
        }
        "protocols" => text.split(':').filter(|word| !word.is_empty()).all(|word| {
            let is_version = |word: &str| ["sslv3", "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"].contains(&word);
            if let Some(bound) = word.strip_prefix(">=").or(word.strip_prefix("<=")) {
                let digits = bound.strip_prefix("0x").unwrap_or(bound);
                let is_number =
                    (1..=4).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
                return is_version(bound) || bound == "none" || is_number;
            }
            let bare = word.strip_prefix('!').unwrap_or(word);
            is_version(bare) || bare == "sslv2"
        }),
        _ => false,
    }
}
