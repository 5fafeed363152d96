//! The certctl server.

fn main() {}
