//! `marathon`.

use std::io::Write as _;
use std::process::ExitCode;

use marathon::{Ended, Options, VERSION, flags, run};

/// What the original exits with when an option is wrong.
const BAD_OPTION: u8 = 112;

fn main() -> ExitCode {
    let values = match flags::load(std::env::args().skip(1), std::env::vars()) {
        Ok(values) => values,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "marathon: {error}\nSee `marathon --help` for a list of options."
            );
            return ExitCode::from(BAD_OPTION);
        }
    };
    if values.boolean("help") {
        let _ = write!(std::io::stdout(), "{}", flags::table().help());
        return ExitCode::SUCCESS;
    }
    if values.boolean("version") {
        let _ = writeln!(std::io::stdout(), "marathon {VERSION}");
        return ExitCode::SUCCESS;
    }
    web::daemon::init_logging(match values.text("logging_level") {
        Some(level @ ("trace" | "debug" | "warn" | "error")) => level,
        _ => "info",
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "marathon: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let shutdown = web::daemon::cancelled_by_signals()?;
        let tls = tls::of_client()?;
        run(Options { flags: values, listener: None, tls }, shutdown, web::daemon::notify_ready)
            .await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "marathon: {error:#}");
            let code = error.downcast_ref::<Ended>().map_or(BAD_OPTION, |ended| ended.code);
            ExitCode::from(code)
        }
    }
}
