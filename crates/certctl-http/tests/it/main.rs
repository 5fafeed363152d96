//! The API called in process and over sockets, with a fake authenticator and routes made for the rules under test.

mod access;
mod answers;
mod cors;
mod errors;
mod lifecycle;
mod limits;
mod logs;
mod meta;
mod openapi;
mod support;
mod tls;
