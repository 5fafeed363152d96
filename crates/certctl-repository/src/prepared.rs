//! Statements that a connection prepares once and keeps.
//!
//! diesel keeps the prepared form of a query only where it can tell from the type that its text is always the same. It cannot for
//! texts of our own, for updates, for inserts of several rows, and for lists on SQLite, and has those parsed and planned again
//! whenever they run, at the price of one more round trip on PostgreSQL. Here it is said where the texts are few.

use diesel::{
    QueryResult,
    backend::Backend,
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate},
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::Bool,
    sqlite::Sqlite,
};

use crate::types::{TextList, Texts};

/// Says of a query that the number of its texts is bounded, so that each is to be prepared once for a connection. Values are bound
/// and do not count; a list whose length shows in the text does.
pub(crate) trait Prepare: Sized {
    /// The query, to be prepared once.
    fn prepared(self) -> Prepared<Self> {
        Prepared(self)
    }
}

impl<Q> Prepare for Q {}

/// See [`Prepare::prepared`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared<Q>(Q);

impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();
    /// The text is the key.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, C> diesel::RunQueryDsl<C> for Prepared<Q> {}

impl<Q, DB> QueryFragment<DB> for Prepared<Q>
where
    DB: Backend,
    Q: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    // Not shown in diesel's documentation, but what its own connections ask. A test counts what PostgreSQL has prepared, so that a
    // version that asks otherwise is noticed.
    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

/// `column = ANY (values)`, whose text does not depend on how many values there are.
pub(crate) fn one_of<C, V: ToString>(column: C, values: impl IntoIterator<Item = V>) -> OneOf<C> {
    OneOf {
        column,
        values: Texts(values.into_iter().map(|value| value.to_string()).collect()),
    }
}

/// See [`one_of`].
#[derive(Debug, Clone)]
pub(crate) struct OneOf<C> {
    column: C,
    values: Texts,
}

impl<C> QueryId for OneOf<C> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<C: Expression> Expression for OneOf<C> {
    type SqlType = Bool;
}

impl<C: AppearsOnTable<T>, T> AppearsOnTable<T> for OneOf<C> {}

impl<C: SelectableExpression<T>, T> SelectableExpression<T> for OneOf<C> {}

impl<C, G> ValidGrouping<G> for OneOf<C> {
    type IsAggregate = is_aggregate::No;
}

impl<C: QueryFragment<Pg>> QueryFragment<Pg> for OneOf<C> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.column.walk_ast(pass.reborrow())?;
        pass.push_sql(" = ANY(");
        pass.push_bind_param::<TextList, _>(&self.values)?;
        pass.push_sql(")");
        Ok(())
    }
}

impl<C: QueryFragment<Sqlite>> QueryFragment<Sqlite> for OneOf<C> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.column.walk_ast(pass.reborrow())?;
        pass.push_sql(" IN (SELECT value FROM json_each(");
        pass.push_bind_param::<TextList, _>(&self.values)?;
        pass.push_sql("))");
        Ok(())
    }
}

/// Rows in pieces whose lengths are powers of two, so that inserts of many rows have few texts.
pub(crate) fn pieces<T>(rows: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let count = rest.len().min(most);
        let count = 1 << count.checked_ilog2()?;
        let (piece, others) = rest.split_at(count);
        rest = others;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_all_rows_in_powers_of_two() {
        let rows: Vec<usize> = (0..5000).collect();
        for count in [0, 1, 2, 3, 50, 200, 2047, 5000] {
            let all: Vec<&[usize]> = pieces(&rows[..count], 2500).collect();
            assert_eq!(all.concat(), rows[..count], "{count}");
            assert!(
                all.iter()
                    .all(|piece| piece.len().is_power_of_two() && piece.len() <= 2048)
            );
        }
        assert_eq!(pieces(&rows[..50], 2500).count(), 3);
    }
}
