//! The ACME server as its clients see it: paths, headers, problem documents. What requests mean is tested with the use cases.

mod client;
mod front;
mod operators;
mod orders;
mod pipeline;
