//! The certctl agent.

fn main() {}
