//! The requests that the proxy has denied, as a few lines for the attempt's record.

/// The largest number of lines.
const MAX_LINES: usize = 8;

/// The denied requests.
#[derive(Debug, Default)]
pub(super) struct DenialLog {
    /// The different requests, with the number of times.
    different: Vec<(String, u32)>,
    /// The number of denials of other requests, for which there is no line.
    others: u32,
}

impl DenialLog {
    /// Adds a denial.
    pub(super) fn add(&mut self, line: &str) {
        if let Some((_, times)) = self.different.iter_mut().find(|(known, _)| known == line) {
            *times = times.saturating_add(1);
        } else if self.different.len() < MAX_LINES {
            self.different.push((line.to_owned(), 1));
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    /// Returns the lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(line, times): &(String, u32)| match times {
            1 => line.clone(),
            n => format!("{line} ({n} times)"),
        };
        let others = (self.others > 0).then(|| format!("and {} more", self.others));
        self.different.iter().map(line).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::DenialLog;

    #[test]
    fn denials_are_counted_and_limited_to_a_few_lines() {
        let mut log = DenialLog::default();
        assert!(log.lines().is_empty());
        for number in 0..20 {
            log.add(&format!("host{number}.example:443: no"));
            log.add("host0.example:443: no");
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[0], "host0.example:443: no (21 times)");
        assert_eq!(lines[1], "host1.example:443: no");
        assert_eq!(lines[8], "and 12 more");
    }
}
