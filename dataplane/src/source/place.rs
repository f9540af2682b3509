//! Where in a zone's files a record stood. The loader of a zone remembers one number for each record; a zone file may
//! include others, so that number counts through all of them, and this finds file and line again.

/// Runs of lines from one file, in the order they were read.
#[derive(Debug, Default)]
pub(super) struct Places {
    runs: Vec<Run>,
    /// The highest number given so far.
    last: u32,
}

#[derive(Debug)]
struct Run {
    /// The number of its first line.
    start: u32,
    file: String,
    line: u32,
}

impl Places {
    /// The number for a line of a file.
    pub(super) fn number(&mut self, file: &str, line: u32) -> u32 {
        let number = match self.runs.last() {
            Some(run) if run.file == file && line >= run.line => {
                run.start.saturating_add(line.saturating_sub(run.line))
            }
            _ => {
                let start = self.last.saturating_add(1);
                self.runs.push(Run { start, file: file.to_owned(), line });
                start
            }
        };
        self.last = self.last.max(number);
        number
    }

    /// File and line of a number; `None` for 0, which stands for no line.
    pub(super) fn find(&self, number: u32) -> Option<(&str, u32)> {
        let after = self.runs.partition_point(|run| run.start <= number);
        let run = self.runs.get(after.checked_sub(1)?)?;
        Some((&run.file, run.line.saturating_add(number.saturating_sub(run.start))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back() {
        let mut places = Places::default();
        let lines =
            [("a", 1), ("a", 1), ("a", 7), ("b", 1), ("b", 900), ("a", 8), ("a", 9), ("b", 1), ("b", 2)];
        let numbers: Vec<u32> = lines.iter().map(|&(file, line)| places.number(file, line)).collect();
        for (place, number) in lines.iter().zip(&numbers) {
            assert_eq!(places.find(*number), Some(*place));
        }
        assert!(numbers.is_sorted());
        assert_eq!(places.runs.len(), 4);
        assert_eq!(places.find(0), None);
    }
}
