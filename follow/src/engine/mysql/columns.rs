//! The columns of the results, as rows of the tables.

use crate::engine::Table;
use crate::engine::queries::TableQuery;
use crate::rows::Row;

/// Returns what is wrong with the number of columns of a result.
pub(super) fn check(query: &TableQuery<'_>, number: usize) -> Result<(), String> {
    if number == query.columns.len() {
        return Ok(());
    }
    Err(format!(
        "it has {number} columns and must have {}: {}",
        query.columns.len(),
        query.columns.join(", ")
    ))
}

/// Returns the row with these columns; `None` if their number is wrong. A key that is NULL is empty, and so it is invalid.
pub(super) fn row<'a>(table: Table, columns: &[Option<&'a [u8]>]) -> Option<Row<'a>> {
    let row = match (table, columns) {
        (Table::Relay, [key, next_hop]) => Row::Relay {
            key: key.unwrap_or_default(),
            next_hop: *next_hop,
        },
        (Table::Credentials, [key, user, password]) => Row::Credentials {
            key: key.unwrap_or_default(),
            user: *user,
            password: *password,
        },
        (Table::Tls, [key, value]) => Row::Tls {
            key: key.unwrap_or_default(),
            value: *value,
        },
        _ => return None,
    };
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::{check, row};
    use crate::settings::Queries;

    #[test]
    fn each_query_has_the_columns_of_its_table() {
        let query = |name: &str| Some(format!("SELECT {name}"));
        let queries = Queries {
            relay: query("relay"),
            credentials: query("credentials"),
            tls: query("tls"),
            ..Queries::default()
        };
        let column = |text: &'static str| Some(text.as_bytes());
        let columns = [column("k"), column("a"), column("b"), column("c")];
        for query in queries.tables() {
            assert!(query.name.ends_with(query.sql.trim_start_matches("SELECT ")));
            for number in 0..=4 {
                let fits = number == query.columns.len();
                assert_eq!(check(&query, number).is_ok(), fits);
                assert_eq!(row(query.table, &columns[..number]).is_some(), fits);
            }
        }
        assert_eq!(queries.tables().count(), 3);
        assert_eq!(Queries::default().tables().count(), 0);
    }
}
