//! Lists the migrations, which become part of the program: number, what it is about, and SQL of each.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

const FOLDER: &str = "../migrations";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    let mut text = String::new();
    for (list, database) in [("SQLITE", "sqlite"), ("POSTGRES", "postgres")] {
        let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join(FOLDER).join(database);
        let mut files = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort();
        writeln!(text, "const {list}: &[(i64, &str, &str)] = &[")?;
        for file in files {
            let wrong = || format!("{}: expected a name like 0001_what_it_is_about.sql", file.display());
            let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
            let (number, about) =
                name.strip_suffix(".sql").and_then(|name| name.split_once('_')).ok_or_else(wrong)?;
            let number: i64 = number.parse().map_err(|_| wrong())?;
            let about = about.replace('_', " ");
            writeln!(text, "    ({number}, {about:?}, include_str!({file:?})),")?;
        }
        writeln!(text, "];")?;
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("migrations.rs"), text)?;
    Ok(())
}
