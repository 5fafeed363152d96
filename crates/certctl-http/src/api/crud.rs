//! The handlers of nouns that are listed, made, read, changed and deleted, and nothing else about it: extract, call the use case
//! of the same name, render. The counterpart of `crud!` in the repository.

/// Generates the five handlers of a noun; each has the name of the use case that it calls.
macro_rules! crud_handlers {
    ($id:ty, $request:ty => $view:ty: $list:ident, $create:ident, $get:ident, $update:ident, $delete:ident) => {
        async fn $list(
            State(state): State<AppState>,
            Caller(actor): Caller,
            Paging(page): Paging,
        ) -> Result<Paged<$view>, ApiError> {
            let found = state.services.$list(&actor, page).await?;
            Ok(Paged::new(found, page, Into::into))
        }

        async fn $create(
            State(state): State<AppState>,
            Caller(actor): Caller,
            ApiJson(body): ApiJson<$request>,
        ) -> Result<(StatusCode, Json<$view>), ApiError> {
            let made = state.services.$create(&actor, body.into()).await?;
            Ok((StatusCode::CREATED, Json(made.into())))
        }

        async fn $get(
            State(state): State<AppState>,
            Caller(actor): Caller,
            PathId(id): PathId<$id>,
        ) -> Result<Json<$view>, ApiError> {
            Ok(Json(state.services.$get(&actor, &id).await?.into()))
        }

        async fn $update(
            State(state): State<AppState>,
            Caller(actor): Caller,
            PathId(id): PathId<$id>,
            ApiJson(body): ApiJson<$request>,
        ) -> Result<Json<$view>, ApiError> {
            let changed = state.services.$update(&actor, &id, body.into()).await?;
            Ok(Json(changed.into()))
        }

        async fn $delete(
            State(state): State<AppState>,
            Caller(actor): Caller,
            PathId(id): PathId<$id>,
        ) -> Result<StatusCode, ApiError> {
            state.services.$delete(&actor, &id).await?;
            Ok(StatusCode::NO_CONTENT)
        }
    };
}
