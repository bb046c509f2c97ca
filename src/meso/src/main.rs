//! `meso`.

fn main() {}
