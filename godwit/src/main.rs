//! Both planes in one command.

fn main() {}
