//! What handlers take from a request. Every extractor refuses with an [`ApiError`](crate::ApiError), so that a refusal has
//! the same shape wherever it is made.

mod caller;
mod json;
mod path;
mod query;

pub(crate) use caller::bearer_token;
pub use caller::{Bearer, Caller, MaybeCaller};
pub(crate) use json::RawBody;
pub use json::{ApiJson, InvalidBody, LenientJson, OptionalJson};
pub use path::{PathId, PathIds};
pub use query::{ApiQuery, Paging, QueryPairs};
