//! Fetching over TLS: from servers that the host trusts, and from no others.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use end_to_end::daemon::Daemon;
use end_to_end::keys::Authority;
use end_to_end::site::{Parts, Site};
use end_to_end::{ports, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Serves a directory under TLS: each further pair of arguments is a port and a key with its certificate.
const SERVER: &str = "
import functools, http.server, ssl, sys, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
for port, certificate in zip(sys.argv[2::2], sys.argv[3::2]):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', int(port)), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
";

fn reads_page(port: u16) -> Value {
    json!({"command": {
        "value": "grep -q content page",
        "uris": [{"value": format!("https://127.0.0.1:{port}/page")}],
    }})
}

fn serve(pages: &Path, servers: &[(u16, &Path)]) -> Daemon {
    let mut server = Command::new("python3");
    server.args(["-c", SERVER]).arg(pages);
    for (port, certificate) in servers {
        server.arg(port.to_string()).arg(certificate);
    }
    let server = Daemon::start("server", pages, &mut server);
    for (port, _) in servers {
        wait::until("the server", LIMIT, || {
            TcpStream::connect(("127.0.0.1", *port)).map(drop).map_err(|error| error.to_string())
        });
    }
    server
}

#[test]
fn what_is_fetched_under_tls_comes_from_servers_that_the_host_trusts() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let pages = directory.path().join("pages");
    std::fs::create_dir(&pages).expect("a directory");
    std::fs::write(pages.join("page"), "content").expect("a page");
    let authority = Authority::new(directory.path(), "authority");
    let other = Authority::new(directory.path(), "other");
    let certificates = [
        authority.issue("trusted", &["127.0.0.1"]),
        other.issue("foreign", &["127.0.0.1"]),
        authority.issue_expired("expired", &["127.0.0.1"]),
        authority.issue("elsewhere", &["10.0.0.1"]),
    ];
    let of_servers: [u16; 4] = ports::free();
    let servers: Vec<(u16, &Path)> =
        of_servers.into_iter().zip(certificates.iter().map(std::path::PathBuf::as_path)).collect();
    let _server = serve(&pages, &servers);

    // Where the system's certificates are for OpenSSL, and so for the original's libcurl.
    let trusted = authority.path("authority").display().to_string();
    let agent_environment = vec![("SSL_CERT_FILE", trusted), ("NO_PROXY", "127.0.0.1".to_owned())];
    let site = Site::start(Parts { agent_environment, ..Parts::default() });
    let expected = ["", "UnknownIssuer", "certificate expired", "not valid for name"];
    for (port, why) in of_servers.into_iter().zip(expected) {
        let task = format!("from-{port}");
        site.run(&task, &reads_page(port));
        if why.is_empty() {
            site.wait_for(&task, "TASK_FINISHED");
            continue;
        }
        let failed = site.wait_for(&task, "TASK_FAILED");
        let message = failed["message"].as_str().unwrap_or_default();
        for part in ["Failed to fetch all URIs for container", "invalid peer certificate", why] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(failed["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
        let (_, sandbox) = site.executor(&task);
        let said = std::fs::read_to_string(sandbox.join("stderr")).expect("what the fetcher said");
        assert!(said.contains("fetcher] Failed to fetch 'https://127.0.0.1:"), "{said}");
    }
}
