//! The migrations runner of certctl as a program.

fn main() {}
