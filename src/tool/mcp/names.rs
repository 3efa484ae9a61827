//! Names of tools, as vendors of models take them.

/// Vendors take so many characters.
const MOST: usize = 64;

/// The name of a server's tool here; `None` where it cannot be written in the characters that vendors take.
pub(super) fn full(server: &str, tool: &str) -> Option<String> {
    let plain: String = tool.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect();
    let full = format!("{server}__{plain}");
    (!plain.is_empty() && full.len() <= MOST).then_some(full)
}

/// Whether a tool is among those that are taken.
pub(super) fn wanted(patterns: &[String], tool: &str) -> bool {
    patterns.iter().any(|pattern| pattern.strip_suffix('*').map_or(pattern == tool, |beginning| tool.starts_with(beginning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_vendors_take() {
        assert_eq!(full("files", "read"), Some("files__read".into()));
        assert_eq!(full("files", "read.file/now"), Some("files__read_file_now".into()));
        assert_eq!(full("files", ""), None);
        assert_eq!(full("files", &"x".repeat(60)), None);
        let patterns = ["read".to_owned(), "list_*".to_owned()];
        assert!(wanted(&patterns, "read") && wanted(&patterns, "list_all") && !wanted(&patterns, "readme") && !wanted(&patterns, "list"));
    }
}
