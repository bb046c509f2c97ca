//! The man page and the list of keys, made from the command line's definition and the table of keys.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use zookeeper::config::keys::{Effect, KEYS, Key, Scope};

/// `zookeeper-server(1)`.
pub(crate) fn page() -> anyhow::Result<Vec<u8>> {
    let manual = clap_mangen::Man::new(crate::Arguments::command());
    let mut text = Vec::new();
    manual.render(&mut text)?;
    let mut keys =
        ".SH KEYS\nA key of zoo.cfg is also the flag -Dzookeeper.KEY where nothing else is said.\n"
            .to_owned();
    for key in KEYS {
        let _ = writeln!(
            keys,
            ".TP\n\\fB{}\\fR{}\n{}{}",
            roff(key.name),
            default(key).map(|text| format!(" ({})", roff(text))).unwrap_or_default(),
            roff(&about(key)),
            scope(key)
        );
    }
    text.extend(keys.into_bytes());
    Ok(text)
}

/// A line for each key.
pub(crate) fn keys() -> String {
    KEYS.iter().fold(String::new(), |mut text, key| {
        let default = default(key).map(|text| format!("={text}")).unwrap_or_default();
        let _ = writeln!(text, "{}{default}: {}{}", key.name, about(key), scope(key));
        text
    })
}

fn default(key: &Key) -> Option<&'static str> {
    Some(key.default).filter(|text| !text.is_empty())
}

fn about(key: &Key) -> String {
    match key.effect {
        Effect::Acts(about) => about.to_owned(),
        Effect::None(reason) => format!("No effect here: {reason}."),
        Effect::NotBuilt(about) => {
            format!("{about} Not supported by this server, which refuses it.")
        }
        Effect::Misnamed(real) => format!("A name of the guide for {real}; ignored."),
    }
}

fn scope(key: &Key) -> &'static str {
    match key.scope {
        Scope::File => " Only in zoo.cfg.",
        Scope::Property => "",
        Scope::Bare => " As a flag without zookeeper. in front.",
    }
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_and_the_list_tell_of_every_key() {
        let page = String::from_utf8(super::page().unwrap()).unwrap();
        assert!(
            page.contains(".TH zookeeper-server 1") && page.contains("\\fBsnapCount\\fR (100000)")
        );
        let list = super::keys();
        assert_eq!(list.lines().count(), zookeeper::config::keys::KEYS.len());
        assert!(
            list.contains("tickTime=3000: Length of a tick in ms. Only in zoo.cfg.\n"),
            "{list}"
        );
    }
}
