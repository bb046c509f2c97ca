//! Where a daemon listens and what others are told of that, as Mesos' daemons take it: a flag, a command that prints it, or
//! libprocess' variable.

use std::process::Command;
use std::str::FromStr;

use mesos::flags::Values;

/// An address: the flag `name`, or what the shell command in the flag `command` prints, or `LIBPROCESS_…`. `None` where
/// nothing says.
///
/// # Errors
/// When there is a flag and a command, the command fails, or there is no address; the text is for the user.
pub fn given<T: FromStr>(values: &Values, name: &str, command: &str) -> Result<Option<T>, String> {
    if values.is_given(name) && values.is_given(command) {
        return Err(format!("Only one of `--{name}` or `--{command}` should be specified"));
    }
    let Some(line) = values.text(command) else {
        return plain(values, name);
    };
    let output = Command::new("sh").arg("-c").arg(line).output();
    let output = output.map_err(|error| format!("--{command}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("--{command} ended with {}: {}", output.status, said.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let wrong = |_| format!("--{command} printed '{text}', which is no address");
    text.parse().map(Some).map_err(wrong)
}

/// An address that no command prints.
///
/// # Errors
/// That it is none.
pub fn plain<T: FromStr>(values: &Values, name: &str) -> Result<Option<T>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("--{name}: '{text}' is no address"));
    values.address(name).map(parse).transpose()
}

/// A port.
///
/// # Errors
/// That it is none.
pub fn port(values: &Values, name: &str) -> Result<Option<u16>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("--{name}: {text} is no port"));
    values.address(name).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::flags::{Kind, Table, flag};
    use std::net::IpAddr;

    #[test]
    fn flags_and_commands_come_before_libprocess_variables() {
        let flags = [
            flag("ip", Kind::Text, None, ""),
            flag("command", Kind::Text, None, ""),
            flag("port", Kind::Number, Some("5051"), ""),
        ];
        let table = Table::new("p", "MESOS_", &[&flags]);
        let of = |arguments: &[&str]| {
            let variables = [("LIBPROCESS_IP", "10.0.0.1"), ("LIBPROCESS_PORT", "1")];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            table.load(arguments.iter().map(|own| (*own).to_owned()), variables).unwrap()
        };
        let ip = |arguments: &[&str]| given::<IpAddr>(&of(arguments), "ip", "command");
        let is = |text: &str| Ok(Some(text.parse().unwrap()));
        assert_eq!(ip(&[]), is("10.0.0.1"));
        assert_eq!(ip(&["--ip=10.0.0.2"]), is("10.0.0.2"));
        assert_eq!(ip(&["--command=echo 10.0.0.3"]), is("10.0.0.3"));
        assert!(ip(&["--command=echo x; exit 3"]).unwrap_err().contains("ended with"));
        assert!(ip(&["--command=echo x"]).unwrap_err().contains("'x', which is no address"));
        assert!(ip(&["--ip=::1", "--command=true"]).unwrap_err().starts_with("Only one of"));
        assert_eq!(port(&of(&[]), "port"), Ok(Some(5051)), "the flag's default comes before");
    }
}
