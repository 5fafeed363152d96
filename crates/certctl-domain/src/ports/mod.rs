//! What the services need of the outside world, as traits that `certctl-boot` plugs implementations into.

pub mod challenge;
pub mod issuer;
pub mod vault;

use std::{future::Future, pin::Pin};

/// A boxed future, so that ports can be used as trait objects without an async runtime here.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
