//! A demonstration, to come.

fn main() {}
