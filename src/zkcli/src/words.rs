//! A line's words (`ZooKeeperMain.MyCommandOptions.parseCommand`).

/// Splits a line at white space. A word that begins with a quote goes on to the next one like it, and loses both; a quote
/// without a partner is passed over.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        if first == '"' || first == '\'' {
            match after.split_once(first) {
                Some((word, more)) => {
                    words.push(word.to_owned());
                    rest = more;
                }
                None => rest = after,
            }
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fall_into_words_as_in_the_original() {
        for (line, words) in [
            ("", &[][..]),
            ("  ls   / ", &["ls", "/"]),
            ("set /a \"two words\"", &["set", "/a", "two words"]),
            ("set /a 'it''s'", &["set", "/a", "it", "s"]),
            ("set /a 'a \"b\"'", &["set", "/a", "a \"b\""]),
            ("set /a a\"b c\"", &["set", "/a", "a\"b", "c\""]),
            ("set /a \"open end", &["set", "/a", "open", "end"]),
            ("set /ä \"\"", &["set", "/ä", ""]),
        ] {
            assert_eq!(split(line), words, "{line}");
        }
    }
}
