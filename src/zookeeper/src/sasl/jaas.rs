//! The file of users and passwords: JAAS's login configuration (`sun.security.provider.ConfigFile`).
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_bob="password";
//! };
//! ```

use std::collections::BTreeMap;
use std::fmt;

use super::digest_md5::Users;
use crate::secret::Secret;

/// The login module that DIGEST-MD5 belongs to.
const DIGEST: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// A file's sections by name, and the modules of each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Jaas(BTreeMap<String, Vec<Module>>);

#[derive(Clone, PartialEq, Eq)]
struct Module {
    name: String,
    options: BTreeMap<String, Secret>,
}

impl fmt::Debug for Jaas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Jaas {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, and on which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens { rest: text, line: 1 };
        let mut sections = BTreeMap::new();
        while let Some(name) = tokens.next()? {
            let Token::Word(name) = name else {
                return Err(tokens.wrong("a section's name is missing"));
            };
            tokens.expect('{')?;
            let mut modules = Vec::new();
            while let Some(module) = module(&mut tokens)? {
                modules.push(module);
            }
            tokens.expect(';')?;
            if sections.insert(name.clone(), modules).is_some() {
                return Err(tokens.wrong(&format!("the section {name} comes twice")));
            }
        }
        Ok(Self(sections))
    }

    /// Whether there is a section of this name.
    pub fn has(&self, section: &str) -> bool {
        self.0.contains_key(section)
    }

    /// The users of a section: its options `user_NAME`.
    ///
    /// # Errors
    /// When there is no such section, or it is not for DIGEST-MD5.
    pub fn users(&self, section: &str) -> Result<Users, String> {
        let mut users = Users::new();
        for module in self.digest_modules(section)? {
            for (key, password) in &module.options {
                if let Some(name) = key.strip_prefix("user_") {
                    users.insert(name.to_owned(), password.clone());
                }
            }
        }
        Ok(users)
    }

    /// The user name and password of a section.
    ///
    /// # Errors
    /// When there is no such section, it is not for DIGEST-MD5, or has none.
    pub fn credentials(&self, section: &str) -> Result<(String, Secret), String> {
        self.digest_modules(section)?
            .iter()
            .find_map(|module| {
                let username = module.options.get("username")?.expose().to_owned();
                Some((username, module.options.get("password")?.clone()))
            })
            .ok_or_else(|| format!("the section {section} has no username and password"))
    }

    fn digest_modules(&self, section: &str) -> Result<&[Module], String> {
        let modules =
            self.0.get(section).ok_or_else(|| format!("there is no section {section}"))?;
        match modules.iter().find(|module| module.name != DIGEST) {
            None => Ok(modules),
            Some(other) if other.name.ends_with("Krb5LoginModule") => Err(format!(
                "the section {section} wants Kerberos (GSSAPI), which this server does not support; use {DIGEST}"
            )),
            Some(other) => Err(format!(
                "the section {section} wants {}, which this server does not support; use {DIGEST}",
                other.name
            )),
        }
    }
}

/// A module up to its `;`; `None` at the section's end.
fn module(tokens: &mut Tokens<'_>) -> Result<Option<Module>, String> {
    let name = match tokens.next()? {
        Some(Token::Word(name)) => name,
        Some(Token::Mark('}')) => return Ok(None),
        _ => return Err(tokens.wrong("a login module or '}' is missing")),
    };
    match tokens.next()? {
        Some(Token::Word(flag))
            if ["required", "requisite", "sufficient", "optional"]
                .iter()
                .any(|known| flag.eq_ignore_ascii_case(known)) => {}
        _ => return Err(tokens.wrong("'required' or another flag is missing")),
    }
    let mut options = BTreeMap::new();
    loop {
        match tokens.next()? {
            Some(Token::Mark(';')) => return Ok(Some(Module { name, options })),
            Some(Token::Word(key)) => {
                tokens.expect('=')?;
                let Some(Token::Word(value) | Token::Quoted(value)) = tokens.next()? else {
                    return Err(tokens.wrong(&format!("the value of {key} is missing")));
                };
                if value.contains("${") {
                    return Err(tokens.wrong(&format!(
                        "the value of {key} has a ${{property}}, which this server does not replace"
                    )));
                }
                options.insert(key, Secret::new(value));
            }
            _ => return Err(tokens.wrong("an option or ';' is missing")),
        }
    }
}

enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl Tokens<'_> {
    fn wrong(&self, reason: &str) -> String {
        format!("line {}: {reason}", self.line)
    }

    fn advance(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at(length);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn skip_blanks(&mut self) -> Result<(), String> {
        loop {
            let text = self.rest.trim_start();
            self.advance(self.rest.len() - text.len());
            if text.starts_with("//") || text.starts_with('#') {
                self.advance(text.find('\n').unwrap_or(text.len()));
            } else if text.starts_with("/*") {
                let end = text.find("*/").ok_or_else(|| self.wrong("a comment does not end"))?;
                self.advance(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Option<Token>, String> {
        self.skip_blanks()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first == '"' {
            return self.quoted().map(Some);
        }
        let is_word = |one: char| one.is_alphanumeric() || "$_-.*@/".contains(one);
        if !is_word(first) {
            self.advance(first.len_utf8());
            return Ok(Some(Token::Mark(first)));
        }
        let end = self.rest.find(|one| !is_word(one)).unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.advance(end);
        Ok(Some(Token::Word(word)))
    }

    fn quoted(&mut self) -> Result<Token, String> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.advance(index + 1);
                    return Ok(Token::Quoted(value));
                }
                '\n' => break,
                '\\' => value.extend(characters.next().map(|(_, escaped)| match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                })),
                _ => value.push(character),
            }
        }
        Err(self.wrong("a quote does not end on its line"))
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        match self.next()? {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            _ => Err(self.wrong(&format!("'{mark}' is missing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "
/* users */
Server {
       org.apache.zookeeper.server.auth.DigestLoginModule required
       user_super=\"adminsecret\" // the first
       user_bob=\"bob\\\"secret\";
};
QuorumLearner {
       org.apache.zookeeper.server.auth.DigestLoginModule required
       username=\"test\" password=\"mypassword\";
};
# Kerberos
Client { com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab=\"/k\"; };
";

    #[test]
    fn users_and_credentials_are_read() {
        let jaas = Jaas::parse(FILE).unwrap();
        let users = jaas.users("Server").unwrap();
        let shown: Vec<(&str, &str)> =
            users.iter().map(|(name, password)| (name.as_str(), password.expose())).collect();
        assert_eq!(shown, [("bob", "bob\"secret"), ("super", "adminsecret")]);
        let (name, password) = jaas.credentials("QuorumLearner").unwrap();
        assert_eq!((name.as_str(), password.expose()), ("test", "mypassword"));
        assert!(!format!("{jaas:?}").contains("secret"));
        assert!(jaas.users("Client").unwrap_err().contains("wants Kerberos (GSSAPI)"));
        assert_eq!(jaas.users("X").unwrap_err(), "there is no section X");
        let none = jaas.credentials("Server").unwrap_err();
        assert_eq!(none, "the section Server has no username and password");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("Server {\n x required\n a=\"b\"\n}", "line 4: an option or ';' is missing"),
            ("Server {\n x required a=\"b\";\n}", "line 3: ';' is missing"),
            ("Server x", "line 1: '{' is missing"),
            ("Server { x a=b; };", "line 1: 'required' or another flag is missing"),
            ("Server { x required a b; };", "line 1: '=' is missing"),
            ("Server { x required a=\"b; };\n", "line 1: a quote does not end on its line"),
            ("Server { x required a=; };", "line 1: the value of a is missing"),
            ("/* ", "line 1: a comment does not end"),
            ("A { };\nA { };", "line 2: the section A comes twice"),
            (
                "A {\nx required a=\"${b}\"; };",
                "line 2: the value of a has a ${property}, which this server does not replace",
            ),
        ] {
            assert_eq!(Jaas::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(text in "\\PC{0,200}") {
            let _ = Jaas::parse(&text);
        }
    }
}
