//! Everything one types while working on certctl.

fn main() {}
