//! The handlers: one module per noun, each with its wire types and its part of the table.

pub(crate) mod meta;
