//! The two files: made up the same way each time, written without being held in memory, replaced by rename.
//!
//! A replacement has one changed line, the last: the marker, whose next hop counts the generations. Two copies of the
//! relay map take turns. The one that is out of sight gets the new marker in place, and a hard link to it is renamed
//! over the live name. To the server this is the rename that every careful program ends with. To the machine it is far
//! less work than writing the file again, and so what is measured is the server's work and not ours.

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

/// The next hop of an entry.
pub(crate) fn next_hop(entry: u64) -> String {
    format!(
        "[smtp.relay{}.example]:587",
        scattered(entry / SENDERS_PER_DOMAIN) % 12
    )
}

/// The credentials of an entry: a name, and sixteen letters and digits.
pub(crate) fn credentials(entry: u64) -> String {
    let chance = scattered(!entry);
    format!("relay-{entry}:{:016x}", chance ^ 0x5bd1_e995)
}

/// The files of one size.
pub(crate) struct Tables {
    pub(crate) entries: u64,
    folder: PathBuf,
    /// The copies of the relay map that take turns.
    copies: [PathBuf; 2],
    /// Where the line of the marker begins.
    marker_at: u64,
    generation: u64,
}

impl Tables {
    /// Writes them into `folder`, which is created.
    pub(crate) fn write(folder: &Path, entries: u64) -> Result<Self> {
        let live = folder.join("tables");
        fs::create_dir_all(&live)?;
        let copies = [folder.join("copy-0.cf"), folder.join("copy-1.cf")];
        let marker_at = {
            let mut file = Counting::create(&copies[0])?;
            for entry in 0..entries {
                writeln!(file.out, "{}  {}", key(entry), next_hop(entry))?;
            }
            let marker_at = file.position()?;
            file.out.write_all(marker_line(0).as_bytes())?;
            file.finish()?;
            marker_at
        };
        fs::copy(&copies[0], &copies[1])?;
        // What is not on the disk yet would be written behind the back of the measurement.
        File::open(&copies[1])?.sync_all()?;
        fs::hard_link(&copies[0], live.join(RELAY_MAP))?;
        let mut file = Counting::create(&live.join(CREDENTIALS))?;
        for entry in 0..entries {
            writeln!(file.out, "{}  {}", key(entry), credentials(entry))?;
        }
        file.finish()?;
        Ok(Self {
            entries,
            folder: live,
            copies,
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

    /// Replaces the relay map, and says how long it took from the rename to the first reply of the new generation on
    /// a connection that was open before.
    pub(crate) fn replace_and_wait(&mut self, address: SocketAddr) -> Result<Duration> {
        let mut connection = Connection::to(address)?;
        let mut marker = |generation| {
            let question = marker_question(generation);
            connection.ask(&question).map(|reply| reply == question.reply)
        };
        if !marker(self.generation)? {
            return Err("the marker is not where it was left".into());
        }
        let replaced = self.replace()?;
        while !marker(self.generation)? {
            if replaced.elapsed() > PATIENCE {
                return Err("the reload does not come".into());
            }
            thread::sleep(BETWEEN_QUESTIONS);
        }
        Ok(replaced.elapsed())
    }

    fn replace(&mut self) -> io::Result<Instant> {
        let next = self.generation + 1;
        let [even, odd] = &self.copies;
        let copy = if next.is_multiple_of(2) { even } else { odd };
        let file = File::options().write(true).open(copy)?;
        file.write_all_at(marker_line(next).as_bytes(), self.marker_at)?;
        drop(file);
        let ready = self.folder.join("ready");
        fs::hard_link(copy, &ready)?;
        let replaced = Instant::now();
        fs::rename(&ready, self.folder.join(RELAY_MAP))?;
        self.generation = next;
        Ok(replaced)
    }
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
