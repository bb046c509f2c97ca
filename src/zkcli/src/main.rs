//! `zkcli`.

use std::io::{IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use zkcli::documents;
use zkcli::editor::Terminal;
use zkcli::failure::Failure;
use zkcli::options::{self, Options};
use zkcli::output::{Format, Output};
use zkcli::session::{Session, Settings};
use zkcli::shell::{Flow, Shell};
use zookeeper::config::client::Client;
use zookeeper::config::environment::Environment;
use zookeeper::tls::Tls;
use zookeeper_client::SaslOptions;

/// What the original ends with when it can't be started as told (`ExitCode.INVALID_INVOCATION`).
const INVALID_INVOCATION: u8 = 2;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            // Help goes to standard output, where it may be unwanted.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(INVALID_INVOCATION)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let document = match (&options.completions, options.man) {
        (Some(shell), _) => Some(Ok(documents::completions(*shell))),
        (None, true) => Some(documents::man_page()),
        (None, false) => None,
    };
    if let Some(document) = document {
        let written = document.and_then(|text| stdout().write_all(&text));
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let coloured = !options.json
        && stdout().is_terminal()
        && stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none();
    let format = if options.json { Format::Json } else { Format::Plain };
    let output = Output::new(format, coloured, Box::new(stdout()), Box::new(stderr()));
    let settings = match settings(&options, &output) {
        Ok(settings) => settings,
        Err(problem) => {
            output.complain(&problem);
            return ExitCode::from(INVALID_INVOCATION);
        }
    };
    // One thread: what the server sent first is printed first.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(run(options, settings, output))),
        Err(error) => {
            output.complain(&format!("zkcli: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// How sessions are begun, as the options, the environment and the client's configuration say.
fn settings(options: &Options, output: &Output) -> Result<Settings, String> {
    let mut environment = Environment::of_system();
    let config = environment.config();
    environment.source_neighbours(&config);
    let client = Client::read(options.client_configuration.as_deref(), &environment)
        .map_err(|error| error.to_string())?;
    for notice in &client.notices {
        output.remark(notice);
    }
    let tls = client.tls.map(Tls::new).transpose().map_err(|error| error.to_string())?;
    let sasl = client.user.map(|(name, password)| {
        SaslOptions::from(SaslOptions::digest_md5(name, password.expose().to_owned()))
    });
    Ok(Settings {
        timeout: Duration::from_millis(u64::from(options.timeout)),
        readonly: options.readonly,
        wait: options.waitforconnection,
        tls: tls.map(Arc::new),
        sasl,
    })
}

async fn run(options: Options, settings: Settings, output: Output) -> u8 {
    output.say(&format!("Connecting to {}", options.server));
    let mut session = Session::new(&options.server, settings, output.clone());
    let begun = session.connect(&options.server).await;
    if let (true, Err(failure)) = (options.waitforconnection, &begun) {
        output.complain(&failure.message());
        return failure.exit_code();
    }
    let mut shell = Shell::new(session);
    if options.command.is_empty() {
        output.say("Welcome to ZooKeeper!");
        if let Err(failure) = &begun {
            output.remark(&unreachable_yet(&options.server, failure));
        }
        if stdin().is_terminal() && stdout().is_terminal() {
            interact(&mut shell, &output).await;
        } else {
            let mut lines = BufReader::new(tokio::io::stdin()).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if shell.line(&line).await == Flow::Quit {
                    break;
                }
            }
        }
    } else {
        shell.words(&options.command).await;
    }
    output.set_print_watches(false);
    shell.session.close().await;
    shell.exit_code()
}

fn unreachable_yet(server: &str, failure: &Failure) -> String {
    format!("no session with {server} yet ({}); the next command tries again", failure.message())
}

async fn interact(shell: &mut Shell, output: &Output) {
    let mut terminal = match Terminal::open(shell.session.shared(), output) {
        Ok(terminal) => terminal,
        Err(error) => {
            output.complain(&format!("zkcli: the terminal can't be used: {error}"));
            return;
        }
    };
    while let Some(line) = terminal.line(shell.prompt()).await {
        if shell.line(&line).await == Flow::Quit {
            break;
        }
    }
}
