//! `// osvm: allow(RULE, reason = "…")`: what the source says is meant so.

/// An allowance for the line it stands on, or for the next line of code if it stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    /// As it is written; rules compare without regard to case.
    pub(crate) rule: String,
    pub(crate) reason: String,
    /// Where it stands, from 1.
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// The line that it speaks of.
    pub(crate) covers: u32,
}

const MARK: &str = "osvm: allow(";

/// All allowances of a text, in order.
pub(super) fn find(text: &str) -> Vec<Allow> {
    if !text.contains(MARK) {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(slashes) = line.find("//") else { continue };
        let Some((_, inside)) = line[slashes..].split_once(MARK) else { continue };
        let Some(end) = inside.rfind(')') else { continue };
        let inside = &inside[..end];
        let (rule, rest) = inside.split_once(',').unwrap_or((inside, ""));
        let reason = rest.split_once('=').map_or("", |(_, reason)| reason).trim().trim_matches('"');
        let alone = line[..slashes].trim().is_empty();
        let next = lines[index + 1..].iter().position(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("//") && !line.starts_with("#[")
        });
        let covers = if alone { index + 2 + next.unwrap_or(0) } else { index + 1 };
        found.push(Allow {
            rule: rule.trim().to_owned(),
            reason: reason.to_owned(),
            line: index as u32 + 1,
            column: line[..slashes].chars().count() as u32 + 1,
            covers: covers as u32,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_covers_its_own_line_or_the_next_line_of_code() {
        let text = "let a = 1; // osvm: allow(OSVM-060, reason = \"bounded\")\n\n// osvm: allow(OSVM-001)\n// why\n#[x]\nlet b = 2;\n";
        let found = find(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].covers, found[0].reason.as_str()), (1, "bounded"));
        assert_eq!((found[1].covers, found[1].rule.as_str(), found[1].reason.as_str()), (6, "OSVM-001", ""));
    }
}
