//! Makes sure that the directory of the built UI exists, so that a checkout without Node still compiles.

use std::path::Path;

const PAGES: [&str; 2] = ["mesos.html", "marathon.html"];

fn main() {
    println!("cargo:rerun-if-changed=ui/dist");
    let dist = Path::new("ui/dist");
    if !PAGES.iter().all(|name| dist.join(name).exists()) {
        let page = "<!doctype html><title>UI not built</title><p>The web UI was not built into this binary: run <code>make ui</code> and build again. \
                    The HTTP API works.</p>";
        let written = std::fs::create_dir_all(dist)
            .and_then(|()| PAGES.iter().try_for_each(|name| std::fs::write(dist.join(name), page)));
        if let Err(error) = written {
            panic!("ui/dist cannot be made: {error}");
        }
    }
}
