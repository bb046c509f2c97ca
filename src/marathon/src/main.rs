//! `marathon`.

fn main() {}
