//! `mesos-master`.

use std::io::Write as _;
use std::process::ExitCode;

use master::{Options, flags, run};

/// The C library's holds a lock while it takes memory back. Threads that give way to all others throw a whole `/state`
/// away: with that lock, they would keep those waiting that offers wait for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let table = flags::table();
    let values = match table.load(std::env::args().skip(1), std::env::vars()) {
        Ok(values) => values,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "{error}\nSee `mesos-master --help` for a list of supported flags."
            );
            return ExitCode::FAILURE;
        }
    };
    if values.boolean("help") {
        let _ = write!(std::io::stdout(), "{}", table.help());
        return ExitCode::SUCCESS;
    }
    if values.boolean("version") {
        let _ = writeln!(std::io::stdout(), "mesos {}", mesos::VERSION);
        return ExitCode::SUCCESS;
    }
    let places = web::logging::Places {
        program: master::PROGRAM,
        level: values.text("logging_level").unwrap_or("INFO"),
        directory: values.text("log_dir"),
        quiet: values.boolean("quiet"),
    };
    if let Err(reason) = web::logging::init_at(places) {
        let _ = writeln!(std::io::stderr(), "{reason}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mesos-master: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let shutdown = web::daemon::cancelled_by_signals()?;
        let tls = tls::of_server()?;
        run(Options { flags: values, listener: None, tls }, shutdown, web::daemon::notify_ready)
            .await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mesos-master: {error:#}");
            ExitCode::FAILURE
        }
    }
}
