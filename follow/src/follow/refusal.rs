//! Tables of the source that are not published, because their senders would lose their relays.

use thiserror::Error;
use tracing::error;

use crate::engine::Table;

/// Why tables that were read are not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// A table has no rows, and had some before.
    #[error(
        "the table {} has no rows, and the active one has; the source may be another or a restored database; if it is the right \
         one, start once with --allow-empty, or set empty = \"allow\" in [queries]",
        .0.label()
    )]
    Emptied(Table),
    /// A table has rows, and each has an invalid key. Its senders would have no entry.
    #[error(
        "the key of every row of the table {} is invalid; the columns of its query may be in another order; `postmapd-follow check` \
         names the rows",
        .0.label()
    )]
    Unusable(Table),
}

impl Refusal {
    pub(super) fn log(self) {
        match self {
            Self::Emptied(table) => error!(
                table = table.label(),
                "a table has become empty; keeping the active tables"
            ),
            Self::Unusable(table) => error!(
                table = table.label(),
                "the key of every row of a table is invalid; keeping the active tables"
            ),
        }
    }
}
