use super::{FileVersion, ReloadOutcome, ReloadStatus};
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::os::version_id::VersionId;

fn versions(contents: [u64; 2]) -> Vec<FileVersion> {
    let of = |path: &str, table, content| FileVersion {
        path: path.into(),
        table: Some(table),
        is_readable: true,
        content,
        digest: None,
        table_errors: 0,
    };
    let [relay_map, credentials] = contents;
    vec![
        of("/r", &RELAY_MAP, relay_map),
        of("/c", &CREDENTIALS, credentials),
    ]
}

fn error_in(path: &str) -> Findings {
    let mut findings = Findings::default();
    findings.push(Finding::in_file(Code::BadKey, std::path::Path::new(path), None));
    findings
}

/// The numbers of the files that are not valid, each with its number of errors.
fn invalid(status: &ReloadStatus) -> Vec<(usize, usize)> {
    let files = status.report().files;
    let invalid = files.iter().enumerate();
    invalid
        .filter_map(|(number, file)| Some((number, file.invalid.as_ref()?.errors)))
        .collect()
}

#[test]
fn a_file_is_valid_if_it_has_no_error_and_is_active() {
    let status = ReloadStatus::new(versions([1, 1]), Findings::default());
    assert_eq!((invalid(&status), status.report().reloads), (vec![], [0, 0, 0]));
    // One has an error, so the other, which has none, has to wait for it.
    status.record_rejected(&versions([2, 2]), &error_in("/r").into());
    assert_eq!(invalid(&status), [(0, 1), (1, 0)]);
    let report = status.report();
    assert!(!report.is_ready() && report.last_reload.outcome == ReloadOutcome::Failed);
    let since = |number: usize| status.report().files[number].invalid.as_ref().unwrap().since;
    let first = since(0);
    status.record_rejected(&versions([3, 1]), &error_in("/r").into());
    assert_eq!(invalid(&status), [(0, 1)]);
    assert_eq!(since(0), first);
    status.record_unchanged(true);
    assert!(status.report().is_ready());
    status.record_applied(versions([4, 2]), Findings::default().into());
    assert_eq!((invalid(&status), status.report().reloads), (vec![], [1, 1, 2]));
}

#[test]
fn an_error_without_a_file_makes_every_table_invalid() {
    let status = ReloadStatus::new(versions([1, 1]), error_in("/directory"));
    assert_eq!(invalid(&status), [(0, 1), (1, 1)]);
    assert_eq!(status.report().last_reload.outcome, ReloadOutcome::Failed);
    assert_eq!(status.report().last_success, None);
    status.record_no_change();
    assert_eq!(status.report().last_success, None);
}

#[test]
fn the_version_that_was_read_stays_until_another_one_has_an_outcome() {
    let status = ReloadStatus::new(versions([1, 1]), Findings::default());
    let id = |number| Some(VersionId::new(number, (0, 0)));
    let read = || -> Vec<_> {
        let files = status.report().files;
        files.iter().map(|file| (file.read, file.is_active)).collect()
    };
    status.record_versions(&[id(1), None], &[]);
    assert_eq!(read(), [(id(1), true), (None, true)]);
    status.record_rejected(&versions([2, 1]), &error_in("/r").into());
    assert_eq!(read(), [(id(1), false), (None, true)]);
    status.record_versions(&[id(2), id(3)], &[false, true]);
    assert_eq!(read(), [(id(2), false), (None, true)]);
    status.record_unchanged(true);
    assert_eq!(read(), [(id(2), true), (None, true)]);
}

#[test]
fn a_poll_without_changes_is_not_counted_as_a_reload() {
    let status = ReloadStatus::new(versions([1, 1]), Findings::default());
    let first = status.report().last_success;
    status.record_unchanged(false);
    assert!(status.report().last_success > first);
    assert_eq!(status.report().reloads, [0, 0, 0]);
    assert_eq!(status.report().last_reload.outcome, ReloadOutcome::Changed);
}
