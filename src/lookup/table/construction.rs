//! Building a table: from the whole text of its file, or after an edit from the previous table.
//!
//! After an edit, only the changed blocks of the text are validated and indexed, provided that neither table has findings: no error, no
//! warning, no repeated key. Findings have line numbers, and which of two lines answers depends on their order, so both
//! need the whole text.

use std::collections::HashSet;
use std::hash::RandomState;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Table;
use super::blocks::Blocks;
use super::builder::Builder;
use super::distinct_values::DistinctValues;
use super::entries::Entries;
use super::grammar::Parser;
use super::index::Index;
use super::kinds::Kinds;
use super::line;
use super::spec::TableSpec;
use super::text::Text;
use crate::diagnostics::{Code, Finding, Findings};
use crate::os::secret::Secret;

impl Table {
    /// Builds the table of this kind from the text of the file `path`.
    pub fn build(spec: &'static TableSpec, path: &Path, text: Secret, findings: &mut Findings) -> Self {
        let read = Text::read(&mut text.expose(), text.len(), &[], &RandomState::new());
        // The blocks are a copy.
        drop(text);
        let table = match read {
            Ok(text) => Self::from_text(spec, path, &text),
            Err(error) => Self::without_memory(spec, path, &error),
        };
        findings.append(&table.findings);
        table
    }

    /// Builds the table of `text`, the content of the file `path`, from as much of `previous` as is unchanged. Returns
    /// `previous` itself if the text is the same.
    #[must_use]
    pub fn rebuild(
        previous: Option<&Arc<Self>>,
        spec: &'static TableSpec,
        path: &Path,
        text: &Text,
    ) -> Arc<Self> {
        // The text of a file that could not be read completely is not known.
        let previous = previous.filter(|table| table.spec == spec && table.is_readable());
        match previous {
            Some(table) if table.entries.blocks.matches(text) => Arc::clone(table),
            Some(table) => Arc::new(
                table
                    .apply_edit(path, text)
                    .unwrap_or_else(|| Self::from_text(spec, path, text)),
            ),
            None => Arc::new(Self::from_text(spec, path, text)),
        }
    }

    pub(super) fn from_text(spec: &'static TableSpec, path: &Path, text: &Text) -> Self {
        let entries = Entries {
            format: spec.format,
            blocks: Blocks::from_text(text),
        };
        let most: usize = text.blocks().iter().map(|block| block.max_entries()).sum();
        let mut findings = Findings::default();
        let index = match Index::with_capacity(most) {
            Ok(index) => index,
            Err(error) => return Self::without_memory(spec, path, &error),
        };
        let mut parser = Parser::new(entries.format, path);
        let mut builder = Builder::new(&entries, path, index, Kinds::default(), DistinctValues::default());
        for (number, block) in entries.blocks.in_order() {
            parser.parse_block(block, &mut findings, |record, findings| {
                builder.insert(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        if let Some(error) = &builder.out_of_memory {
            return Self::without_memory(spec, path, error);
        }
        let mut incomplete = parser
            .summary()
            .has_unreadable_keys
            .then_some(spec.unparsable_key);
        if builder.is_too_large {
            incomplete = Some(spec.unreadable);
            findings.push(
                Finding::in_file(Code::FileTooLarge, path, None)
                    .message("the file has more lines than can be indexed")
                    .help("split it across several servers"),
            );
        }
        if incomplete.is_some() {
            builder.kinds.hide_any_sender();
        }
        let Builder {
            index,
            kinds,
            invalid_entries,
            next_hops,
            intended_keys,
            ..
        } = builder;
        Self {
            spec,
            entries,
            index,
            kinds,
            invalid_entries,
            next_hops,
            intended_keys,
            incomplete,
            findings,
        }
    }

    /// Returns the table of a file whose index does not fit into memory.
    fn without_memory(spec: &'static TableSpec, path: &Path, error: &io::Error) -> Self {
        let mut table = Self::unreadable(spec);
        table.findings.push(
            Finding::in_file(Code::FileUnreadable, path, None)
                .message(format!("cannot read the {} map: {error}", spec.label))
                .help("make the file smaller, or give the server more memory"),
        );
        table
    }

    /// Builds the table after an edit from this one. `None` if it must be built from the whole text.
    pub(super) fn apply_edit(&self, path: &Path, text: &Text) -> Option<Self> {
        if !self.findings.is_empty() {
            return None;
        }
        let diff = self.entries.blocks.diff(text)?;
        let format = self.entries.format;
        let entries = Entries {
            format,
            blocks: diff.blocks,
        };
        let index = self.index.try_clone().ok()?;
        let kinds = self.kinds.try_clone().ok()?;
        let mut builder = Builder::new(&entries, path, index, kinds, self.next_hops.clone());
        let mut findings = Findings::default();
        let mut all_removed = true;
        for (number, block) in &diff.removed {
            Parser::new(format, path).parse_block(block, &mut findings, |record, _| {
                all_removed &= builder.remove(*number, &record, &self.entries);
            });
        }
        for number in diff.added {
            let block = entries.blocks.block(number)?;
            Parser::new(format, path).parse_block(block, &mut findings, |record, findings| {
                builder.insert(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        let first_lines = text.blocks().first().map(|block| block.lines());
        let is_clean = all_removed
            && !builder.is_too_large
            && !builder.kinds.is_full()
            && builder.out_of_memory.is_none()
            && findings.is_empty()
            && !first_lines.is_some_and(line::has_byte_order_mark);
        let Builder {
            mut index,
            kinds,
            next_hops,
            ..
        } = builder;
        index.shrink(&entries);
        is_clean.then(|| Self {
            spec: self.spec,
            entries,
            index,
            kinds,
            invalid_entries: HashSet::new(),
            next_hops,
            intended_keys: HashSet::new(),
            incomplete: None,
            findings,
        })
    }
}
