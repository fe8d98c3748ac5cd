//! A relay map that changes: written once without being held in memory, replaced by rename.
//!
//! A replacement has one changed line, the last: the marker, whose next hop contains the number of the generation.
//! There are two copies of the file. The inactive one gets the new marker in place, and a hard link to it is renamed
//! over the active name. To a reader this is the rename that every careful program ends with. To the machine it is far
//! less work than writing the file again, so the figures are those of the reader's work.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::entries::{self, Edition};

/// The file name that postmapd reads.
pub(crate) const NAME: &str = "postfix-relaymap.cf";

/// The sender whose next hop contains the generation.
pub(crate) const MARKER: &str = "marker@bench.example";

/// The two copies, and which one is next.
pub(crate) struct RelayMap {
    copies: [PathBuf; 2],
    /// The offset of the marker's line.
    marker_at: u64,
    generation: u64,
}

impl RelayMap {
    /// Writes both copies into `directory`, which exists.
    pub(crate) fn write(directory: &Path, entries: u64) -> io::Result<Self> {
        let copies = copies(directory);
        let marker_at = write(&copies[0], entries, Edition::First)?;
        copy(&copies[0], &copies[1])?;
        Ok(Self {
            copies,
            marker_at,
            generation: 0,
        })
    }

    /// Copies both into another directory, which exists.
    pub(crate) fn copied_to(&self, directory: &Path) -> io::Result<Self> {
        let copies = copies(directory);
        for (from, to) in self.copies.iter().zip(&copies) {
            copy(from, to)?;
        }
        Ok(Self { copies, ..*self })
    }

    /// The marker's next hop in the present generation.
    pub(crate) fn marker_hop(&self) -> String {
        marker_hop(self.generation)
    }

    /// The copy of the present generation, unless [`RelayMap::make_next`] made another file that.
    pub(crate) fn present(&self) -> &Path {
        let [even, odd] = &self.copies;
        if self.generation.is_multiple_of(2) {
            even
        } else {
            odd
        }
    }

    /// Makes the inactive copy the next generation, and returns it.
    pub(crate) fn next(&mut self) -> io::Result<PathBuf> {
        let [even, odd] = &self.copies;
        let next_is_even = (self.generation + 1).is_multiple_of(2);
        let file = if next_is_even { even } else { odd }.clone();
        self.make_next(&file)?;
        Ok(file)
    }

    /// Makes any file of [`write()`] the next generation.
    pub(crate) fn make_next(&mut self, file: &Path) -> io::Result<()> {
        self.generation += 1;
        let file = File::options().write(true).open(file)?;
        file.write_all_at(marker_line(self.generation).as_bytes(), self.marker_at)
    }
}

/// Renames links to files over active names, all at once. Returns the time before.
pub(crate) fn put(files: &[(&Path, &Path)]) -> io::Result<Instant> {
    for (file, active) in files {
        fs::hard_link(file, active.with_extension("ready"))?;
    }
    let replaced = Instant::now();
    for (_, active) in files {
        fs::rename(active.with_extension("ready"), active)?;
    }
    Ok(replaced)
}

/// Writes a relay map of generation 0, and returns the offset of its marker, the same for each number of entries.
pub(crate) fn write(path: &Path, entries: u64, edition: Edition) -> io::Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    for entry in 0..entries {
        writeln!(file, "{}  {}", entries::key(entry), edition.next_hop(entry))?;
    }
    file.flush()?;
    let marker_at = file.get_ref().metadata()?.len();
    file.write_all(marker_line(0).as_bytes())?;
    file.flush()?;
    // Data not yet on the disk would be written during the measurement.
    file.get_ref().sync_all()?;
    Ok(marker_at)
}

fn copies(directory: &Path) -> [PathBuf; 2] {
    [directory.join("copy-0.cf"), directory.join("copy-1.cf")]
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

pub(crate) fn marker_hop(generation: u64) -> String {
    format!("[generation{generation:010}.example]:587")
}

/// Always of the same length, so that it can be changed in place.
fn marker_line(generation: u64) -> String {
    format!("{MARKER}  {}\n", marker_hop(generation))
}
