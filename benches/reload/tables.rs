//! The two files: made up the same way each time, written without being held in memory, replaced by rename.
//!
//! A replacement has one changed line, the last: the marker, whose next hop counts the generations. Two copies of the
//! relay map take turns. The one that is out of sight gets the new marker in place, and a hard link to it is renamed
//! over the live name. To the server this is the rename that every careful program ends with. To the machine it is far
//! less work than writing the file again, and so what is measured is the server's work and not ours.
//!
//! There is a second edition of both files, of which every line differs from the first and is as long.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use super::client::{Connection, Question};

/// The names that postmapd reads.
const RELAY_MAP: &str = "postfix-relaymap.cf";
const CREDENTIALS: &str = "postfix-sasl-password.cf";

/// Senders in a domain, the domain itself included.
const SENDERS_PER_DOMAIN: u64 = 25;

/// The sender whose next hop says which generation answers.
const MARKER: &str = "marker@bench.example";

/// How long a reload may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two questions for the marker: short beside a reload, long beside a lookup, so that asking disturbs neither.
const BETWEEN_QUESTIONS: Duration = Duration::from_micros(200);

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

/// Numbers that look like chance, always the same (splitmix64).
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
fn key(entry: u64) -> String {
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

/// A sender whose entry this is: for that of a domain, somebody without one of their own.
pub(crate) fn sender(entry: u64) -> String {
    match entry % SENDERS_PER_DOMAIN {
        0 => format!("info@{}", domain(entry)),
        _ => key(entry),
    }
}

/// A sender that has no entry, and whose domain has none.
pub(crate) fn stranger(number: u64) -> String {
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
    /// Every next hop and every password is another one.
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

/// The files of one size.
pub(crate) struct Tables {
    pub(crate) entries: u64,
    folder: PathBuf,
    /// The copies of the relay map that take turns.
    copies: [PathBuf; 2],
    credentials: PathBuf,
    /// The relay map and the credentials of the second edition.
    second: [PathBuf; 2],
    /// Where the line of the marker begins, in each relay map.
    marker_at: u64,
    generation: u64,
}

impl Tables {
    /// Writes them into `folder`, which is created.
    pub(crate) fn write(folder: &Path, entries: u64) -> Result<Self> {
        let live = folder.join("tables");
        fs::create_dir_all(&live)?;
        let copies = [folder.join("copy-0.cf"), folder.join("copy-1.cf")];
        let credentials = folder.join("credentials.cf");
        let second = [folder.join("second-0.cf"), folder.join("second-1.cf")];
        let marker_at = write_relay_map(&copies[0], entries, Edition::First)?;
        fs::copy(&copies[0], &copies[1])?;
        // What is not on the disk yet would be written behind the back of the measurement.
        File::open(&copies[1])?.sync_all()?;
        write_relay_map(&second[0], entries, Edition::Second)?;
        write_credentials(&credentials, entries, Edition::First)?;
        write_credentials(&second[1], entries, Edition::Second)?;
        fs::hard_link(&copies[0], live.join(RELAY_MAP))?;
        fs::hard_link(&credentials, live.join(CREDENTIALS))?;
        Ok(Self {
            entries,
            folder: live,
            copies,
            credentials,
            second,
            marker_at,
            generation: 0,
        })
    }

    /// The folder that is served.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The relay map, as one of its copies; what `postmap` makes of it lies beside it, out of the server's sight.
    pub(crate) fn relay_map(&self) -> &Path {
        &self.copies[0]
    }

    /// The sizes of the relay map and of the credentials.
    pub(crate) fn sizes(&self) -> io::Result<[u64; 2]> {
        let metadata = |name| fs::metadata(self.folder.join(name));
        Ok([metadata(RELAY_MAP)?.len(), metadata(CREDENTIALS)?.len()])
    }

    /// Replaces the relay map by one of which the marker differs. Says how long it took from the rename to the first
    /// reply of the new generation on a connection that was open before.
    pub(crate) fn replace_and_wait(&mut self, address: SocketAddr) -> Result<Duration> {
        self.wait(address, |tables| tables.replace(&tables.copy(), None))
    }

    /// Likewise, where every line of both files differs.
    pub(crate) fn rewrite_and_wait(&mut self, address: SocketAddr) -> Result<Duration> {
        let [relay_map, credentials] = self.second.clone();
        self.wait(address, |tables| tables.replace(&relay_map, Some(&credentials)))
    }

    /// Puts the first edition back.
    pub(crate) fn restore(&mut self) -> io::Result<()> {
        let credentials = self.credentials.clone();
        self.replace(&self.copy(), Some(&credentials)).map(|_| ())
    }

    fn wait(
        &mut self,
        address: SocketAddr,
        replace: impl FnOnce(&mut Self) -> io::Result<Instant>,
    ) -> Result<Duration> {
        let mut connection = Connection::to(address)?;
        let mut marker = |generation| {
            let question = marker_question(generation);
            connection.ask(&question).map(|reply| reply == question.reply)
        };
        if !marker(self.generation)? {
            return Err("the marker is not where it was left".into());
        }
        let replaced = replace(self)?;
        while !marker(self.generation)? {
            if replaced.elapsed() > PATIENCE {
                return Err("the reload does not come".into());
            }
            thread::sleep(BETWEEN_QUESTIONS);
        }
        Ok(replaced.elapsed())
    }

    /// The copy of the relay map that is out of sight.
    fn copy(&self) -> PathBuf {
        let [even, odd] = &self.copies;
        let next_is_even = (self.generation + 1).is_multiple_of(2);
        if next_is_even { even } else { odd }.clone()
    }

    /// Puts a relay map in place, with the next generation's marker, and with it credentials. Returns the moment before.
    fn replace(&mut self, relay_map: &Path, credentials: Option<&Path>) -> io::Result<Instant> {
        self.generation += 1;
        let file = File::options().write(true).open(relay_map)?;
        file.write_all_at(marker_line(self.generation).as_bytes(), self.marker_at)?;
        drop(file);
        let files: Vec<_> = [(relay_map, RELAY_MAP)]
            .into_iter()
            .chain(credentials.map(|credentials| (credentials, CREDENTIALS)))
            .map(|(file, name)| (file, self.folder.join(name)))
            .collect();
        for (file, live) in &files {
            fs::hard_link(file, live.with_extension("ready"))?;
        }
        let replaced = Instant::now();
        for (_, live) in &files {
            fs::rename(live.with_extension("ready"), live)?;
        }
        Ok(replaced)
    }
}

/// Writes a relay map, and says where its marker begins.
fn write_relay_map(path: &Path, entries: u64, edition: Edition) -> io::Result<u64> {
    let mut file = Counting::create(path)?;
    for entry in 0..entries {
        writeln!(file.out, "{}  {}", key(entry), edition.next_hop(entry))?;
    }
    let marker_at = file.position()?;
    file.out.write_all(marker_line(0).as_bytes())?;
    file.finish()?;
    Ok(marker_at)
}

fn write_credentials(path: &Path, entries: u64, edition: Edition) -> io::Result<()> {
    let mut file = Counting::create(path)?;
    for entry in 0..entries {
        writeln!(file.out, "{}  {}", key(entry), edition.credentials(entry))?;
    }
    file.finish()
}

fn marker_hop(generation: u64) -> String {
    format!("[generation{generation:010}.example]:587")
}

/// Always of the same length, so that it can be changed in place.
fn marker_line(generation: u64) -> String {
    format!("{MARKER}  {}\n", marker_hop(generation))
}

fn marker_question(generation: u64) -> Question {
    Question::new("relayhost", MARKER, Some(&marker_hop(generation)))
}

/// A file that is written once, from its beginning to its end.
struct Counting {
    out: BufWriter<File>,
}

impl Counting {
    fn create(path: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        Ok(Self { out })
    }

    fn position(&mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.out.get_ref().metadata()?.len())
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}
