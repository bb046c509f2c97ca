//! Distinguished names as Java writes and takes them: the ids of the `x509` scheme (`X500Principal`, RFC 2253).

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Keywords that RFC 2253 has; all other attributes are written by their number.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// What Java takes beside them in a name that is given as text (`AVAKeyword`).
const MORE_KEYWORDS: [&str; 11] = [
    "S",
    "T",
    "IP",
    "DNQ",
    "DNQUALIFIER",
    "SURNAME",
    "GIVENNAME",
    "INITIALS",
    "GENERATION",
    "EMAILADDRESS",
    "SERIALNUMBER",
];

/// The subject of a certificate; `None` if it is no certificate.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(text(certificate.subject()))
}

/// A name as `X500Principal.getName` writes it: the last part first.
fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == number).map(|(_, word)| *word);
    match keyword.zip(string(value)) {
        Some((keyword, text)) => format!("{keyword}={}", escaped(&text)),
        None => {
            let mut hex = String::new();
            for byte in value.to_der_vec().unwrap_or_default() {
                let _ = write!(hex, "{byte:02x}");
            }
            format!("{}=#{hex}", keyword.map_or(number, str::to_owned))
        }
    }
}

/// The text of a value of one of the string types.
fn string(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::PrintableString | Tag::Utf8String | Tag::Ia5String | Tag::GeneralString => {
            Some(String::from_utf8_lossy(value.data).into_owned())
        }
        Tag::T61String => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units =
                value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            Some(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')).collect())
        }
        Tag::UniversalString => Some(
            value
                .data
                .chunks_exact(4)
                .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
                .map(|number| char::from_u32(number).unwrap_or('\u{fffd}'))
                .collect(),
        ),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let mut body = String::new();
    for character in text.chars() {
        match character {
            '\0' => body.push_str("\\00"),
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => {
                body.push('\\');
                body.push(character);
            }
            _ => body.push(character),
        }
    }
    // Blanks count only where they can't be taken for padding.
    let blank = |character: char| character == ' ' || character == '\r';
    let inner = body.trim_matches(blank);
    let begin = body.len() - body.trim_start_matches(blank).len();
    let (lead, trail) = if inner.is_empty() {
        (body.as_str(), "")
    } else {
        (&body[..begin], &body[begin + inner.len()..])
    };
    let escape = |blanks: &str| {
        blanks.chars().fold(String::new(), |text, one| text + "\\" + one.encode_utf8(&mut [0; 4]))
    };
    escape(lead) + inner + &escape(trail)
}

/// Whether a text is a distinguished name that Java takes (`new X500Principal(text)`): else it can't be an ACL's id.
pub(crate) fn is_name(text: &str) -> bool {
    if text.trim().is_empty() {
        return true;
    }
    parts(text).is_some_and(|parts| parts.iter().all(|part| is_attribute(part)))
}

/// Cuts at `,`, `;` and `+` outside quotes; `None` if a quote or an escape does not end.
fn parts(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut is_quoted) = (Vec::new(), 0, false);
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next()?;
            }
            '"' => is_quoted = !is_quoted,
            ',' | ';' | '+' if !is_quoted => {
                parts.push(&text[begin..index]);
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!is_quoted).then_some(parts)
}

fn is_attribute(part: &str) -> bool {
    let Some((keyword, value)) = part.split_once('=') else { return false };
    is_keyword(keyword.trim()) && is_value(value.trim())
}

fn is_keyword(keyword: &str) -> bool {
    let upper = keyword.to_ascii_uppercase();
    let number = upper.strip_prefix("OID.").unwrap_or(&upper);
    KEYWORDS.iter().any(|(_, known)| *known == upper)
        || MORE_KEYWORDS.contains(&upper.as_str())
        || upper == "EMAIL"
        || number.parse_oid()
}

/// Whether a text is the number of an attribute.
trait ParseOid {
    fn parse_oid(&self) -> bool;
}

impl ParseOid for str {
    fn parse_oid(&self) -> bool {
        self.contains('.') && self.parse::<Oid<'_>>().is_ok()
    }
}

fn is_value(value: &str) -> bool {
    if let Some(hex) = value.strip_prefix('#') {
        return hex.len() >= 4
            && hex.len().is_multiple_of(2)
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            && is_whole_der(hex);
    }
    let (inner, is_quoted) = match value.strip_prefix('"') {
        Some(rest) => match rest.strip_suffix('"') {
            Some(inner) => (inner, true),
            None => return false,
        },
        None => (value, false),
    };
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(first) if first.is_ascii_hexdigit() => {
                    if !characters.next().is_some_and(|second| second.is_ascii_hexdigit()) {
                        return false;
                    }
                }
                Some(',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' | ' ') => {}
                _ => return false,
            },
            '"' => return false,
            '<' | '>' if !is_quoted => return false,
            _ => {}
        }
    }
    true
}

/// Whether hex digits are one DER value.
fn is_whole_der(hex: &str) -> bool {
    let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
        .map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok())
        .collect();
    bytes.is_some_and(|bytes| Any::from_der(&bytes).is_ok_and(|(rest, _)| rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
            .collect()
    }

    /// What `X500Principal.getName()` of Java 17 makes of these encodings.
    #[test]
    fn names_are_written_as_java_writes_them() {
        for (hex, expected) in [
            (
                "3046310b300906035504061302444531133011060355040a130a41636d652c20496e632e3114300806035504031301793008060355040b130178310c300a06035504031303612062",
                "CN=a b,CN=y+OU=x,O=Acme\\, Inc.,C=DE",
            ),
            (
                "3022310a300806035504031301783114301206092a864886f70d01090116056140622e63",
                "1.2.840.113549.1.9.1=#16056140622e63,CN=x",
            ),
            ("30183116301406035504030c0d613d622b633c3e3b6422655c66", r#"CN=a\=b\+c\<\>\;d\"e\\f"#),
            (
                "308182310a30080603550405130135310e300c060355040c13057469746c65310b3009060355040913027374310a3008060355040713016c310a3008060355040813017331133011060a0992268993f22c6401191603636f6d31173015060a0992268993f22c64011916076578616d706c653111300f060a0992268993f22c640101130175",
                "UID=u,DC=example,DC=com,ST=s,L=l,STREET=st,2.5.4.12=#13057469746c65,2.5.4.5=#130135",
            ),
            ("3010310e300c06035504030c054a6f73c3a9", "CN=José"),
            ("3000", ""),
            ("300b3109300706035504031300", "CN="),
            ("30163114301206035504030c0b612f623a633f642a652366", "CN=a/b:c?d*e\\#f"),
            ("300f310d300b06035504030c0420612020", "CN=\\ a\\ \\ "),
        ] {
            let der = bytes(hex);
            let (rest, name) = X509Name::from_der(&der).unwrap();
            assert!(rest.is_empty());
            assert_eq!(text(&name), expected);
        }
    }

    /// What `new X500Principal(text)` of Java 17 takes and refuses.
    #[test]
    fn texts_are_names_where_java_says_so() {
        for valid in [
            "",
            "1.2.3=x",
            "OID.1.2.3=x",
            "CN=x;OU=y",
            "CN=x+OU=y",
            "cn=x",
            " CN = x ",
            "CN=a=b",
            "CN=a\\,b",
            "C=DEU",
            "S=x",
            "DNQ=1",
            "IP=1",
            "CN=x, OU = y , O=\"a,b\"",
            "CN=*",
            "CN=",
            "CN='x'(y)",
            "CN=a\\0Ab",
        ] {
            assert!(is_name(valid), "{valid}");
        }
        for invalid in [
            "bob", "CN=x,", "CN", "FOO=x", "CN=\"x", "CN=x\"y", "=x", "CN=a,b", "CN=#0401",
            "CN=#zz", "CN=\\zz", "CN=a+", "CN=x\\", "CN=a<b", "CN=a;b=c", "CN=#x",
        ] {
            assert!(!is_name(invalid), "{invalid}");
        }
    }
}
