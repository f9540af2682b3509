//! Writes the seeds of every target into its corpus, beside what was found by running it.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for target in godwit_fuzz_harness::targets() {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (class, octets) in &seeds {
            fs::write(folder.join(format!("seed-{class}")), octets)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}
