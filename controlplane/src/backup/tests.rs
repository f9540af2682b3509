use std::collections::BTreeSet;

use super::*;
use crate::store::{dump, testing};

/// A table that a later migration adds has to be put into the list.
#[tokio::test]
async fn every_table_is_in_a_backup_and_both_databases_agree() {
    let mut seen = Vec::new();
    for (mut database, _place) in testing::databases().await {
        let columns = dump::columns(&mut database.writer).await.unwrap();
        let tables: BTreeSet<&str> = columns.iter().map(|column| column.table.as_str()).collect();
        assert_eq!(tables, names().into_iter().collect());
        for (table, key) in TABLES {
            let has =
                |name: &&str| columns.iter().any(|column| column.table == *table && column.name == *name);
            assert!(key.iter().all(has), "{table}");
        }
        let form = |form| if form == dump::Form::Uuid { dump::Form::Octets } else { form };
        let columns = columns.into_iter().map(|column| (column.table, column.name, form(column.form)));
        seen.push(columns.collect::<Vec<_>>());
        database.close().await.unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}
