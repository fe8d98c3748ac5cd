//! Lines of any length pass through buffers that are smaller than their file.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use postmapd::lookup::table::line::MAX_LINE;
use postmapd::lookup::table::spec::CREDENTIALS;
use postmapd::os::digest;
use postmapd::os::secret::Secret;
use postmapd::os::whole_file::MAX_FILE;
use proptest::prelude::*;

use super::temporary;
use crate::directory::disk::{Disk, System};
use crate::directory::lines::{LineReader, LineWriter, measure};

/// A line of this many bytes with its end.
fn line(length: usize) -> Vec<u8> {
    let mut line = b"k u:".to_vec();
    line.resize(length - 1, b'p');
    line.push(b'\n');
    line
}

fn read_all(reader: &mut LineReader) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while let Some(line) = reader.peek().unwrap() {
        lines.push(line.to_vec());
        let length = line.len();
        assert_eq!(reader.peek().unwrap().unwrap().len(), length);
        reader.consume(length);
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn lines_are_read_as_they_were_written(
        lengths in prop::collection::vec(prop_oneof![6..200_usize, 60_000..=MAX_LINE + 1], 0..40),
    ) {
        let temp = temporary();
        let path = temp.path().join("file");
        let key = Secret::from(b"key".to_vec());
        let disk: Arc<dyn Disk> = Arc::new(System);
        let mut writer = LineWriter::create(&disk, path.clone(), 0o600, &key).unwrap();
        let lines: Vec<Vec<u8>> = lengths.into_iter().map(line).collect();
        for line in &lines {
            writer.append(line).unwrap();
        }
        let written = writer.finish().unwrap();
        let text = fs::read(&path).unwrap();
        prop_assert!(text == lines.concat());
        prop_assert_eq!(&Some(written.clone()), &digest::keyed_with(b"key", [text.as_slice()]));
        prop_assert!(read_all(&mut LineReader::open(&path).unwrap()) == lines);
        let (digest, counts) = measure(&path, &CREDENTIALS, &key).unwrap();
        prop_assert_eq!((digest, counts.entries), (written, lines.len() as u64));
    }
}

#[test]
fn a_line_without_end_or_longer_than_any_and_what_is_no_file_are_errors() {
    let temp = temporary();
    let path = temp.path().join("file");
    for text in [line(10).repeat(3)[..25].to_vec(), line(MAX_LINE + 2)] {
        fs::write(&path, &text).unwrap();
        let mut reader = LineReader::open(&path).unwrap();
        let error = loop {
            match reader.peek() {
                Ok(line) => {
                    let length = line.unwrap().len();
                    reader.consume(length);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(LineReader::open(&fifo).is_err());
    assert!(LineReader::open(temp.path()).is_err());
}

#[test]
fn a_file_does_not_become_larger_than_the_server_reads() {
    let temp = temporary();
    let key = Secret::from(b"key".to_vec());
    let disk: Arc<dyn Disk> = Arc::new(System);
    let mut writer = LineWriter::create(&disk, temp.path().join("file"), 0o600, &key).unwrap();
    assert_eq!(writer.room, MAX_FILE);
    writer.room = 250;
    writer.append(&line(100)).unwrap();
    writer.append(&line(150)).unwrap();
    let error = writer.append(b"k\n").unwrap_err();
    assert!(error.to_string().contains("more than 1024 MiB"), "{error}");
}
