//! The queries that every noun with an id has.

/// Generates `insert`, `find`, `list`, `update` and `delete` for a table whose key is `id`.
///
/// The row type converts from `&Entity` and into `Entity`; `$order` is the order of the list and must be total. The total is counted,
/// or for a table that grows with the fleet, `kept` as one of [`crate::totals::Counted`].
macro_rules! crud {
    ($table:ident, $row:ty, $entity:ty, $id:ty, order $($order:expr),+) => {
        crud!(@all $table, $row, $entity, $id, ($($order),+),
            conn => on_conn!(conn, c => $table::table.count().get_result(c).await)?);
    };
    ($table:ident, $row:ty, $entity:ty, $id:ty, kept $counted:expr, order $($order:expr),+) => {
        crud!(@all $table, $row, $entity, $id, ($($order),+), conn => $crate::totals::of(conn, $counted).await?);
    };
    (@all $table:ident, $row:ty, $entity:ty, $id:ty, ($($order:expr),+), $total_conn:ident => $total:expr) => {
        /// Inserts a row.
        ///
        /// # Errors
        /// [`Error::AlreadyExists`] when the id or a unique name is taken, [`Error::Reference`] when it refers to nothing.
        pub async fn insert(conn: &mut Conn, entity: &$entity) -> Result<(), Error> {
            let row = <$row>::from(entity);
            on_conn!(conn, c => diesel::insert_into($table::table).values(&row).execute(c).await)?;
            Ok(())
        }

        /// Reads a row by its id.
        ///
        /// # Errors
        /// [`Error::NotFound`] when there is none.
        pub async fn find(conn: &mut Conn, id: &$id) -> Result<$entity, Error> {
            let row: $row =
                on_conn!(conn, c => $table::table.find(id.as_str()).select(<$row>::as_select()).first(c).await)?;
            row.try_into()
        }

        /// Reads one page and the count of all rows.
        ///
        /// # Errors
        /// What the database says.
        pub async fn list($total_conn: &mut Conn, page: PageRequest) -> Result<Page<$entity>, Error> {
            let rows: Vec<$row> = on_conn!($total_conn, c => $table::table
                .select(<$row>::as_select())
                .order(($($order,)+))
                .limit(page.limit())
                .offset(page.offset())
                .load(c)
                .await)?;
            let total: i64 = $total;
            let rows = rows.into_iter().map(TryInto::try_into).collect::<Result<_, Error>>()?;
            Ok(Page { rows, total })
        }

        /// Writes every column of a row.
        ///
        /// # Errors
        /// [`Error::NotFound`] when there is no such row, [`Error::AlreadyExists`] when a unique name is taken.
        pub async fn update(conn: &mut Conn, entity: &$entity) -> Result<(), Error> {
            let row = <$row>::from(entity);
            let changed = on_conn!(conn, c => diesel::update($table::table.find(entity.id.as_str())).set(&row).execute(c).await)?;
            if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
        }

        /// Deletes a row.
        ///
        /// # Errors
        /// [`Error::NotFound`] when there is none, [`Error::Reference`] while another row refers to it.
        pub async fn delete(conn: &mut Conn, id: &$id) -> Result<(), Error> {
            let deleted = on_conn!(conn, c => diesel::delete($table::table.find(id.as_str())).execute(c).await)?;
            if deleted == 0 { Err(Error::NotFound) } else { Ok(()) }
        }
    };
}

/// Inserts many rows: one statement on PostgreSQL, in chunks below its limit of binds; one thread hop on SQLite, where a batch
/// insert is no query fragment on the asynchronous path, and diesel's own opens a transaction inside ours
/// (docs/decisions/0001).
macro_rules! insert_all {
    ($conn:expr, $table:expr, $rows:expr) => {{
        let rows = $rows;
        if rows.is_empty() {
            return Ok(());
        }
        on_conn!($conn,
            pg c => {
                // At most 65,535 binds a statement; no table here has more than 24 columns.
                for piece in $crate::prepared::pieces(&rows, 2500) {
                    let insert = diesel::insert_into($table).values(piece);
                    $crate::prepared::Prepare::prepared(insert).execute(c).await?;
                }
            },
            sqlite c => {
                c.spawn_blocking(move |c| {
                    for row in &rows {
                        let insert = diesel::insert_into($table).values(row);
                        diesel::RunQueryDsl::execute($crate::prepared::Prepare::prepared(insert), c)?;
                    }
                    Ok(())
                })
                .await?;
            },
        );
        Ok(())
    }};
}
