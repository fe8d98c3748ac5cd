//! The entries of the tables: generated, and the same each time, so that any reply can be compared with the only right
//! one.

/// The number of senders in a domain, including the domain itself.
const SENDERS_PER_DOMAIN: u64 = 25;

const FIRST: [&str; 16] = [
    "anna", "ben", "carla", "david", "elif", "frank", "greta", "hans", "ines", "jonas", "katrin", "luis",
    "marie", "nils", "olga", "paul",
];
const LAST: [&str; 16] = [
    "schmidt", "garcia", "novak", "rossi", "jensen", "dubois", "kowalski", "nagy", "silva", "yilmaz",
    "weber", "lee", "horvat", "popov", "fischer", "maes",
];
const WORDS: [&str; 16] = [
    "nordlicht",
    "baeckerei",
    "hotel",
    "praxis",
    "verlag",
    "studio",
    "garden",
    "logistik",
    "radio",
    "museum",
    "cycles",
    "brewery",
    "school",
    "optik",
    "theatre",
    "farm",
];

/// Pseudo-random numbers, always the same (splitmix64).
pub(crate) fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn word(words: [&'static str; 16], number: u64) -> &'static str {
    words
        .get(usize::try_from(number % 16).unwrap_or_default())
        .copied()
        .unwrap_or_default()
}

fn domain(entry: u64) -> String {
    let domain = entry / SENDERS_PER_DOMAIN;
    format!("{}-{domain}.example", word(WORDS, scattered(domain)))
}

/// The key of an entry: one of each [`SENDERS_PER_DOMAIN`] is the domain.
pub(crate) fn key(entry: u64) -> String {
    let chance = scattered(entry);
    match entry % SENDERS_PER_DOMAIN {
        0 => format!("@{}", domain(entry)),
        number => format!(
            "{}.{}{number}@{}",
            word(FIRST, chance),
            word(LAST, chance >> 8),
            domain(entry)
        ),
    }
}

/// A sender that gets this entry; for that of a domain, a sender without its own entry.
pub(crate) fn sender(entry: u64) -> String {
    match entry % SENDERS_PER_DOMAIN {
        0 => format!("info@{}", domain(entry)),
        _ => key(entry),
    }
}

/// Whether the key of this entry is a domain, which Postfix's own tables need a separate request for.
pub(crate) fn is_domain(entry: u64) -> bool {
    entry.is_multiple_of(SENDERS_PER_DOMAIN)
}

/// A sender without an entry, whose domain has none either.
pub(crate) fn sender_without_entry(number: u64) -> String {
    let chance = scattered(number);
    format!(
        "{}.{}@elsewhere-{number}.example",
        word(FIRST, chance),
        word(LAST, chance >> 8)
    )
}

/// Which values the entries have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    First,
    /// Every next hop and every password differs from the first edition.
    Second,
}

impl Edition {
    /// The next hop of an entry.
    pub(crate) fn next_hop(self, entry: u64) -> String {
        let host = match self {
            Self::First => "smtp",
            Self::Second => "mail",
        };
        let relay = scattered(entry / SENDERS_PER_DOMAIN) % 12;
        format!("[{host}.relay{relay}.example]:587")
    }

    /// The credentials of an entry: a name, and sixteen letters and digits.
    pub(crate) fn credentials(self, entry: u64) -> String {
        let chance = scattered(!entry);
        let password = match self {
            Self::First => chance,
            Self::Second => !chance,
        };
        format!("relay-{entry}:{password:016x}")
    }
}
