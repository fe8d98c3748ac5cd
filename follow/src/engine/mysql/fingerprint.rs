//! The query for the fingerprint of the result of a query.
//!
//! A row is the concatenation of its columns, each with its length in bytes before it, so that no two rows are the same text. NULL
//! has no length. The columns are bytes: texts with different collations cannot be concatenated otherwise.
//!
//! The digest is SHA-256, and of each half of it the CRC-32 is summed: sums of 32-bit numbers are twice as fast as those of parts
//! of the digest itself. A CRC-32 of the row would be linear, and miss two rows that exchange a value. MD5 is not faster than
//! SHA-256 here, and newer versions of MySQL do not have it.
//!
//! Limits: the order of the rows is no part of it. If several rows have the same key, and only the order of the rows decides which
//! of them answers, then a change of the order alone is not noticed. Common table expressions need MariaDB 10.2 or MySQL 8.0.

use crate::engine::queries::TableQuery;

/// Returns the query for the number of rows and the two sums.
pub(super) fn fingerprint(query: &TableQuery<'_>) -> String {
    let names: Vec<String> = (1..=query.columns.len()).map(|n| format!("c{n}")).collect();
    let columns: Vec<String> = names
        .iter()
        .map(|name| format!("COALESCE(LENGTH({name}), ''), ':', COALESCE(CAST({name} AS BINARY), '')"))
        .collect();
    let names = names.join(", ");
    let row = columns.join(", ");
    // The query begins on the first line, so that errors of the server have its line numbers, and ends with a line end, because
    // it may end with a comment.
    format!(
        "WITH result ({names}) AS ({}\n) \
         SELECT COUNT(*), SUM(CRC32(LEFT(digest, 32))), SUM(CRC32(RIGHT(digest, 32))) \
         FROM (SELECT SHA2(CONCAT({row}), 256) AS digest FROM result) AS digests",
        query.sql
    )
}
