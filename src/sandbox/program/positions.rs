//! Positions: from the generated code back to the author's source.

/// Where stretches of generated code come from; lines and columns count from 0.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// `(generated line, column, source line, column)`, sorted.
    stretches: Vec<[u32; 4]>,
}

impl Positions {
    /// Says that the code from `generated` on comes from `source`. In ascending order.
    pub(super) fn add(&mut self, generated: (u32, u32), source: (u32, u32)) {
        self.stretches.push([generated.0, generated.1, source.0, source.1]);
    }

    /// The generated code was moved down.
    pub(super) fn shift_lines(&mut self, lines: u32) {
        for stretch in &mut self.stretches {
            stretch[0] += lines;
        }
    }

    /// Source line and column, from 1, of a generated line and column, from 1.
    fn find(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let (line, column) = (line.checked_sub(1)?, column.saturating_sub(1));
        let after =
            self.stretches.partition_point(|stretch| (stretch[0], stretch[1]) <= (line, column));
        let stretch = self.stretches[..after].last().filter(|stretch| stretch[0] == line);
        // Before the first stretch of its line: that one is the nearest.
        let stretch =
            stretch.or_else(|| self.stretches.get(after).filter(|stretch| stretch[0] == line))?;
        Some((stretch[2] + 1, stretch[3] + 1))
    }

    /// Rewrites every `file:line:column` in a text.
    pub(super) fn translate(&self, file: &str, text: &mut String) {
        if !text.contains(file) {
            return;
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(file) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            out.push_str(file);
            rest = &from[file.len()..];
            if let Some((line, column, length)) = position(rest)
                && let Some((line, column)) = self.find(line, column)
            {
                out.push_str(&format!(":{line}:{column}"));
                rest = &rest[length..];
            }
        }
        out.push_str(rest);
        *text = out;
    }
}

/// The first `file:line:column` of a text: where it stands, its line and its column.
pub(super) fn first(file: &str, text: &str) -> Option<(usize, u32, u32)> {
    let at = text.find(&format!("{file}:"))?;
    position(&text[at + file.len()..]).map(|(line, column, _)| (at, line, column))
}

/// `:12:34` at the start of a text: line, column, and its length.
fn position(text: &str) -> Option<(u32, u32, usize)> {
    let (line, rest) = number(text.strip_prefix(':')?)?;
    let (column, rest) = number(rest.strip_prefix(':')?)?;
    Some((line, column, text.len() - rest.len()))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_of_the_file_is_rewritten_and_nothing_else() {
        let mut positions = Positions::default();
        positions.add((0, 0), (4, 2));
        positions.add((0, 10), (5, 0));
        positions.add((2, 4), (9, 9));
        let mut text =
            "at a (x.ts:1:3)\nat b (x.ts:1:12) y.ts:1:1 x.ts:3:1 x.ts:2:1 x.ts".to_owned();
        positions.translate("x.ts", &mut text);
        assert_eq!(text, "at a (x.ts:5:3)\nat b (x.ts:6:1) y.ts:1:1 x.ts:10:10 x.ts:2:1 x.ts");
    }

    #[test]
    fn huge_numbers_are_no_positions() {
        let mut text = "x.ts:99999999999:1 x.ts:1:99999999999".to_owned();
        let before = text.clone();
        Positions::default().translate("x.ts", &mut text);
        assert_eq!(text, before);
        assert_eq!(first("x.ts", "x.ts:7:8"), Some((0, 7, 8)));
    }
}
