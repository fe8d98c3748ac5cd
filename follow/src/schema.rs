//! The tables of postmapd in PostgreSQL: the statements that create them (`schema.sql`).
//!
//! The constraints accept nothing that the grammar of the files rejects, so no row of these tables is a bad row; the patterns are
//! made here of the same parts as that grammar. They reject some texts that it accepts: tabs, ports with leading zeros, `"<>"`,
//! invisible characters in quotes, hosts that are not ASCII, all but visible ASCII without `#` in a TLS policy, and texts that
//! are very long.
//!
//! A pattern with many forms costs far more than one with few, even if a text is of the first of them. So the texts of nearly all
//! rows are accepted by short patterns, and the others are tried after them.

use std::fmt::Write as _;

use postmapd::os::invisible::{is_invisible, is_non_ascii_punctuation};

/// The version of the tables and triggers, in the table `state`.
pub const SCHEMA_VERSION: u32 = 1;

const TEMPLATE: &str = include_str!("schema.sql");

/// An IPv4 address.
const V4: &str =
    r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// A port or a service. Others are not in every `/etc/services`.
const PORT: &str = "(smtps?|submissions?|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// A host name of ASCII labels, and not of digits and dots alone, before one of the characters that end it or the end.
const NAME: &str = r"(?![0-9.]+([]:, ]|$))[0-9A-Za-z_]([-0-9A-Za-z_]*[0-9A-Za-z_])?(\.[0-9A-Za-z_]([-0-9A-Za-z_]*[0-9A-Za-z_])?)*";

/// A part of a local part without dots: everything that needs no quotes.
const ATOM: &str = r"[^\u0001-\u0020\u007f\u0022().,:;<>@\u005b-\u005d]+";

/// A label of a domain, which may have characters beyond ASCII.
const LABEL: &str = r"[^\u0001-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]([^\u0001-\u002c\u002e\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*[^\u0001-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f])?";

/// The attributes of a TLS policy that may come only once.
const SINGLE_ATTRIBUTES: [&str; 6] = [
    "servername",
    "protocols",
    "ciphers",
    "exclude",
    "connection_reuse",
    "enable_rpk",
];

/// Returns the statements that create the tables in a schema, as one transaction. `reader` gets the right to read them.
#[must_use]
pub fn ddl(schema: &str, reader: Option<&str>) -> String {
    let schema_name = identifier(schema);
    let grants = reader.map_or_else(String::new, |reader| grants(&schema_name, &identifier(reader)));
    let one_next_hop = format!("^({}|{})$", element(), v6());
    [
        ("{invisible}", class(is_invisible)),
        ("{punctuation}", class(is_non_ascii_punctuation)),
        ("{sender}", sender()),
        ("{sender_at_address}", sender_at_address()),
        ("{named_host}", format!(r"^(\[{NAME}\]|{NAME})(:{PORT})?$")),
        ("{one_next_hop}", one_next_hop),
        ("{next_hops}", format!("^{0}([ ,]+{0})*$", element())),
        ("{repeated_attribute}", repeated_attribute()),
        ("{tls}", tls()),
        // The first `:` separates user and password, and whitespace around both would be cut.
        (
            "{user}",
            r"^[^\u0001-\u0020\u007f:][^\u0001-\u001f\u007f:]*$".to_owned(),
        ),
        (
            "{password}",
            r"^([^\u0001-\u001f\u007f]*[^\u0001-\u0020\u007f])$".to_owned(),
        ),
        ("{version}", SCHEMA_VERSION.to_string()),
        ("{channel}", format!("'{}'", schema.replace('\'', "''"))),
        ("{grants}", grants),
        ("{schema}", schema_name),
    ]
    .into_iter()
    .fold(TEMPLATE.to_owned(), |text, (name, value)| {
        text.replace(name, &value)
    })
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn grants(schema: &str, reader: &str) -> String {
    format!(
        "\nGRANT USAGE ON SCHEMA {schema} TO {reader};\n\
         GRANT SELECT ON relay, credential, relay_tls, state, change TO {reader};\n"
    )
}

/// Returns the class of the characters for which `is_of_class` holds.
fn class(is_of_class: fn(char) -> bool) -> String {
    let mut class = "[".to_owned();
    let mut characters = ('\u{1}'..=char::MAX)
        .filter(|c| is_of_class(*c))
        .map(u32::from)
        .peekable();
    while let Some(first) = characters.next() {
        let mut last = first;
        while let Some(next) = characters.next_if_eq(&(last + 1)) {
            last = next;
        }
        // Writing to a String does not fail.
        let _ = write!(class, "\\U{first:08x}-\\U{last:08x}");
    }
    class + "]"
}

/// Returns the pattern of an IPv6 address (RFC 3986, appendix A).
fn v6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let last = format!("({group}:{group}|{V4})");
    let mut forms = vec![format!("({group}:){{6}}{last}")];
    for before in 0..=7 {
        let head = match before {
            0 => String::new(),
            1 => format!("({group})?"),
            _ => format!("(({group}:){{0,{}}}{group})?", before - 1),
        };
        let tail = match before {
            0..=4 => format!("({group}:){{{}}}{last}", 5 - before),
            5 => last.clone(),
            6 => group.to_owned(),
            _ => String::new(),
        };
        forms.push(format!("{head}::{tail}"));
    }
    format!("({})", forms.join("|"))
}

/// Returns the pattern of one next hop.
fn element() -> String {
    let v6 = v6();
    format!(r"((\[({V4}|([Ii][Pp][Vv]6:)?{v6}|{NAME})\]|{V4}|{NAME})(:{PORT})?)")
}

/// Returns the pattern of a local part with its `@`, or of the `@` alone.
fn local_part() -> String {
    let quoted = r"\u0022([^\u0001-\u001f\u007f\u0022\u005c]|\\[^\u0001-\u001f\u007f])*\u0022";
    format!(r"(?!#)({quoted}|{ATOM}(\.{ATOM})*)?@")
}

/// Returns the pattern of a sender.
fn sender() -> String {
    let domain = format!(r"{LABEL}(\.{LABEL})*");
    format!(r"^(<>|@\*|@\.{domain}|{}{domain})$", local_part())
}

/// Returns the pattern of a sender whose domain is an address.
fn sender_at_address() -> String {
    format!(r"^{}\[({V4}|([Ii][Pp][Vv]6:)?{})\]$", local_part(), v6())
}

fn repeated_attribute() -> String {
    let twice = SINGLE_ATTRIBUTES.map(|name| format!("[ ,]{name}=.*[ ,]{name}="));
    twice.join("|")
}

/// Returns the pattern of a TLS policy, for comparison regardless of case.
fn tls() -> String {
    let word = r"[\u0021\u0022\u0024-\u002b\u002d-\u007e]+";
    let names = r"(sslv3|tlsv1(\.[123])?)";
    let protocol = format!("(!?({names}|sslv2)|[<>]=({names}|none|(0x)?[0-9a-f]{{1,4}}))");
    let both = format!(
        "servername={NAME}|protocols={protocol}(:{protocol})*|ciphers=(export|low|medium|high|null)|exclude={word}|\
         (connection_reuse|enable_rpk)=(yes|no)"
    );
    let policy = format!(
        "(none|(may|encrypt|dane|dane-only)([ ,]+({both}))*|fingerprint([ ,]+({both}|match={word}))*|\
         (verify|secure)([ ,]+({both}|(match|tafile)={word}))*)"
    );
    let via = "via=[0-9a-z][-0-9a-z_]*";
    format!("^((implicit|starttls)([ ,]+{policy})?([ ,]+{via})?|{policy}([ ,]+{via})?|{via})$")
}

#[cfg(test)]
mod tests {
    use super::ddl;

    #[test]
    fn names_are_quoted_and_nothing_is_left_to_fill_in() {
        let text = ddl("select", Some("o'neil \"x\""));
        assert!(text.contains("CREATE SCHEMA \"select\";"));
        assert!(text.contains("TO \"o'neil \"\"x\"\"\";"));
        assert!(text.contains("pg_notify('select', '')"));
        for name in [
            "{schema}",
            "{version}",
            "{grants}",
            "{sender}",
            "{tls}",
            "{channel}",
        ] {
            assert!(!text.contains(name), "{name}");
        }
        assert!(!ddl("postmapd", None).contains("GRANT"));
    }
}
