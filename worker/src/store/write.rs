//! One `INSERT … SELECT FROM UNNEST …` with its columns, and how rows that Postgres refuses are found.
//!
//! Invariant: any range of a write's rows can be executed by itself, so bisection isolates what is refused.

use super::error::is_data_error;
use super::value::{Key, Stamp};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query};
use std::ops::Range;

/// A row that cannot be stored: what a dead letter says.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedRow {
    /// The table that it was for.
    pub table: &'static str,
    /// Its columns.
    pub row: Value,
    /// Why, in Postgres's words or ours.
    pub reason: String,
}

impl RefusedRow {
    /// The dead letter, as JSON.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        json!({"table": self.table, "row": self.row, "reason": self.reason}).to_string().into_bytes()
    }
}

/// The values of one column, one for each row.
#[derive(Debug)]
pub(super) enum Column {
    Numbers(Vec<i64>),
    Times(Vec<Stamp>),
    OpenTimes(Vec<Option<Stamp>>),
    Texts(Vec<String>),
    OptionalTexts(Vec<Option<String>>),
    Keys(Vec<Key>),
    Flags(Vec<bool>),
}

impl Column {
    fn describe(&self, row: usize) -> Value {
        match self {
            Self::Numbers(values) => json!(values[row]),
            Self::Times(values) => json!(values[row].text()),
            Self::OpenTimes(values) => json!(values[row].map(Stamp::text)),
            Self::Texts(values) => json!(values[row]),
            Self::OptionalTexts(values) => json!(values[row]),
            Self::Keys(values) => json!(format!("{:032x}", values[row].0)),
            Self::Flags(values) => json!(values[row]),
        }
    }
}

/// A statement and its rows. The columns are `$1` and up, the shard (where the statement needs it) comes last.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) table: &'static str,
    pub(super) sql: &'static str,
    pub(super) columns: Vec<(&'static str, Column)>,
    pub(super) rows: usize,
    pub(super) shard: Option<i16>,
}

impl Write {
    /// Executes some of its rows; returns how many rows it wrote.
    async fn execute_range(&self, connection: &mut PgConnection, range: Range<usize>) -> Result<u64, sqlx::Error> {
        let mut statement = query(self.sql);
        for (_, column) in &self.columns {
            statement = match column {
                Column::Numbers(values) => statement.bind(&values[range.clone()]),
                Column::Times(values) => statement.bind(&values[range.clone()]),
                Column::OpenTimes(values) => statement.bind(&values[range.clone()]),
                Column::Texts(values) => statement.bind(&values[range.clone()]),
                Column::OptionalTexts(values) => statement.bind(&values[range.clone()]),
                Column::Keys(values) => statement.bind(&values[range.clone()]),
                Column::Flags(values) => statement.bind(&values[range.clone()]),
            };
        }
        if let Some(shard) = self.shard {
            statement = statement.bind(shard);
        }
        Ok(statement.execute(connection).await?.rows_affected())
    }

    /// Executes all of its rows at once.
    pub(super) async fn execute(&self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        if self.rows == 0 { Ok(0) } else { self.execute_range(connection, 0..self.rows).await }
    }

    /// Executes its rows inside the open transaction, leaving out those that Postgres refuses (found by bisection).
    pub(super) async fn execute_carefully(
        &self,
        connection: &mut PgConnection,
        refused: &mut Vec<RefusedRow>,
    ) -> Result<u64, sqlx::Error> {
        let mut written = 0;
        let mut ranges: Vec<Range<usize>> = (self.rows > 0).then_some(0..self.rows).into_iter().collect();
        while let Some(range) = ranges.pop() {
            let mut savepoint = connection.begin().await?;
            match self.execute_range(&mut savepoint, range.clone()).await {
                Ok(rows) => {
                    savepoint.commit().await?;
                    written += rows;
                }
                Err(error) if is_data_error(&error) => {
                    savepoint.rollback().await?;
                    if range.len() == 1 {
                        refused.push(self.refuse(range.start, &error));
                    } else {
                        let middle = range.start + range.len() / 2;
                        ranges.push(middle..range.end);
                        ranges.push(range.start..middle);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn refuse(&self, row: usize, error: &sqlx::Error) -> RefusedRow {
        let columns = self.columns.iter().map(|(name, column)| ((*name).to_owned(), column.describe(row)));
        let reason = match error.as_database_error() {
            Some(database) => format!("{} (SQLSTATE {})", database.message(), database.code().unwrap_or_default()),
            None => error.to_string(),
        };
        RefusedRow { table: self.table, row: Value::Object(columns.collect()), reason }
    }
}
