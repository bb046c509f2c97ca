//! Images without Docker on this very kernel: from archives and from a registry, with volumes, in containers of every
//! kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use end_to_end::site::{Parts, Site};
use end_to_end::{http, need, skip, wait};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const BUSYBOX: &str = "/bin/busybox";

fn missing() -> Option<&'static str> {
    if !skip::is_root() {
        return Some("a container's own root needs root");
    }
    (!Path::new(BUSYBOX).exists()).then_some("there is no busybox")
}

fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

/// An image with busybox in two layers, of which the second removes a file of the first.
struct Image {
    directory: TempDir,
    /// Files of tar, lowest first.
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Image {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["1/bin", "1/etc", "1/tmp", "2/etc"] {
            fs::create_dir_all(at(name)).expect("a directory");
        }
        fs::copy(BUSYBOX, at("1/bin/busybox")).expect("a copy");
        for name in
            ["sh", "cat", "ls", "pwd", "echo", "id", "sleep", "touch", "test", "env", "true"]
        {
            symlink("busybox", at(&format!("1/bin/{name}"))).expect("a link");
        }
        fs::write(at("1/etc/gone"), "below").expect("a file");
        fs::write(at("2/etc/.wh.gone"), "").expect("a file");
        fs::write(at("2/etc/note"), "from the image\n").expect("a file");
        let layers: Vec<Vec<u8>> = ["1", "2"]
            .map(|name| {
                let file = at(&format!("{name}.tar"));
                run(Command::new("tar").arg("-C").arg(at(name)).arg("-cf").arg(&file).arg("."));
                fs::read(file).expect("a layer")
            })
            .into();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /etc/note; pwd; sleep 1000"],
                "Env": ["PATH=/bin", "GREETING=of the image"], "WorkingDir": "/etc",
            },
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|own| digest(own)).collect::<Vec<_>>()},
        });
        Self { config: config.to_string().into_bytes(), layers, directory }
    }

    /// A directory with the image as `docker save` writes it.
    fn archives(&self) -> PathBuf {
        let (content, archives) =
            (self.directory.path().join("save"), self.directory.path().join("archives"));
        for path in [&content, &archives] {
            fs::create_dir(path).expect("a directory");
        }
        for (name, layer) in ["1.tar", "2.tar"].iter().zip(&self.layers) {
            fs::write(content.join(name), layer).expect("a file");
        }
        fs::write(content.join("config.json"), &self.config).expect("a file");
        let manifest = json!([{"Config": "config.json", "RepoTags": ["small:1"], "Layers": ["1.tar", "2.tar"]}]);
        fs::write(content.join("manifest.json"), manifest.to_string()).expect("a file");
        let mut tar = Command::new("tar");
        run(tar.arg("-C").arg(&content).arg("-cf").arg(archives.join("small:1.tar")).arg("."));
        archives
    }
}

struct Host {
    site: Site,
    work: TempDir,
}

impl Host {
    fn start(registry: &str, backend: &str, kind: &str, more: &[&str]) -> Self {
        let work = TempDir::new().expect("a directory");
        let flags = [
            format!(
                "--isolation={kind},filesystem/linux,docker/runtime,volume/host_path,volume/sandbox_path,volume/image"
            ),
            "--image_providers=docker".to_owned(),
            format!("--image_provisioner_backend={backend}"),
            format!("--docker_registry={registry}"),
            format!("--docker_store_dir={}", work.path().join("store").display()),
        ];
        let flags = flags.into_iter().chain(more.iter().map(|flag| (*flag).to_owned()));
        // A test's flags live as long as the test.
        let agent_flags = flags.map(|flag| &*String::leak(flag)).collect();
        let site = Site::start(Parts { agent_flags, ..Parts::default() });
        Self { site, work }
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.work.path().join("store/layers")).expect("the layers").count()
    }

    /// Waits for this text in a file of a task's sandbox.
    fn wait_for(&self, executor: &str, file: &str, expected: &str) {
        let (_, sandbox) = self.site.executor(executor);
        let nested = fs::read_dir(sandbox.join("containers")).into_iter().flatten().flatten();
        let sandbox = nested.map(|entry| entry.path()).next().unwrap_or(sandbox);
        wait::until(&format!("{file} of {executor}"), LIMIT, || {
            let read = |name: &str| fs::read_to_string(sandbox.join(name)).unwrap_or_default();
            let text = read(file);
            if text == expected { Ok(()) } else { Err(format!("{text}{}", read("stderr"))) }
        });
    }
}

fn shell(value: &str) -> Value {
    json!({"shell": true, "value": value})
}

fn image(name: &str) -> Value {
    json!({"type": "DOCKER", "docker": {"name": name}})
}

fn container(name: &str) -> Value {
    json!({"type": "MESOS", "mesos": {"image": image(name)}})
}

const POSIX: &str = "posix/cpu,posix/mem";
/// With everything else that puts something between a process and its root.
const LINUX: &str = "cgroups/cpu,cgroups/mem,namespaces/pid,namespaces/ipc,linux/nnp";
const CGROUPS: &str = "mesos-images";

/// Removes the cgroups that the agent leaves.
struct Cgroups;

impl Drop for Cgroups {
    fn drop(&mut self) {
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Most have none; what is still ending keeps one for a moment.
            let _ = fs::remove_dir(controller.path().join(CGROUPS));
        }
    }
}

fn from_archives(backend: &str, kind: &str, launcher: &[&str]) {
    let own = Image::new();
    let archives = own.archives();
    fs::create_dir(own.directory.path().join("host")).expect("a directory");
    fs::write(own.directory.path().join("host/file"), "of the host\n").expect("a file");
    let host = Host::start(&archives.display().to_string(), backend, kind, launcher);
    let site = &host.site;
    let command = "cat /etc/note; test -e /etc/gone || echo gone; pwd; echo $GREETING $MESOS_SANDBOX; \
        ls -d /proc/self /sys/kernel /dev/null /dev/pts; ls /; cat /volume/file /mnt/mesos/sandbox/rel/file; \
        touch /volume/x 2>/dev/null || echo read-only; cat /other/etc/note; \
        echo written > /mnt/mesos/sandbox/out; touch /etc/own; sleep 1000";
    let mut all = container("small:1");
    let source = own.directory.path().join("host").display().to_string();
    all["volumes"] = json!([
        {"container_path": "/volume", "host_path": source, "mode": "RO"},
        {"container_path": "rel", "mode": "RW", "source": {"type": "HOST_PATH", "host_path": {"path": source}}},
        {"container_path": "/other", "mode": "RW", "image": image("small:1")},
    ]);
    site.run("command", &json!({"command": shell(command), "container": all}));
    site.run("default", &json!({"command": {"shell": false}, "container": container("small:1")}));
    let member = json!({"command": shell("cat /etc/note; echo $GREETING $MESOS_SANDBOX; sleep 1000"), "container": container("small:1")});
    site.run_group("pod", &[("member", member)]);
    for task in ["command", "default", "member"] {
        site.wait_for(task, "TASK_RUNNING");
    }
    host.wait_for(
        "command",
        "stdout",
        "from the image\ngone\n/etc\nof the image /mnt/mesos/sandbox\n/dev/null\n/dev/pts\n/proc/self\n/sys/kernel\nbin\ndev\netc\nmnt\nother\nproc\nsys\ntmp\nvolume\nof the host\nof the host\nread-only\nfrom the image\n",
    );
    host.wait_for("command", "out", "written\n");
    host.wait_for("default", "stdout", "from the image\n/etc\n");
    host.wait_for("pod", "stdout", "from the image\nof the image /mnt/mesos/sandbox\n");
    assert!(!own.directory.path().join("host/x").exists());

    // Who looks into a task sees what the task sees.
    let (parent, _) = site.executor("command");
    let session = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {
        "container_id": {"value": "look", "parent": {"value": parent}}, "command": shell("exec cat /etc/note"),
    }});
    let seen = site.call(&session);
    // "from the image", as the stream has it.
    assert!(seen.body.contains("ZnJvbSB0aGUgaW1hZ2UK"), "{}", seen.body);

    // What nobody needs goes, what somebody needs stays.
    let prune = json!({"type": "PRUNE_IMAGES"});
    assert_eq!((site.call(&prune).status, host.layers()), (200, 2));
    let provisioned = site.path("agent1/provisioner/containers");
    assert_eq!(fs::read_dir(&provisioned).expect("the containers").count(), 3);
    for task in ["command", "default", "member"] {
        site.order(&json!({"kill": task, "grace": 1}));
        site.wait_for(task, "TASK_KILLED");
    }
    wait::until("nothing of the containers to be left", LIMIT, || {
        let left = fs::read_dir(&provisioned).expect("the containers").flatten();
        let left: Vec<_> = left.map(|entry| entry.path()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!((site.call(&prune).status, host.layers()), (200, 0));
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    assert!(!mounts.contains("provisioner"), "{mounts}");

    for (task, wrong, expected) in [
        ("none", container("none"), "Failed to find archive for image 'none' at"),
        ("evil", container("../x"), "Failed to parse docker image '../x'"),
        (
            "volume",
            json!({"type": "MESOS", "volumes": [{"container_path": "/v", "host_path": "/no/such", "mode": "RW"}]}),
            "Path '/no/such' in HOST_PATH volume does not exist",
        ),
    ] {
        site.run(task, &json!({"command": shell("true"), "container": wrong}));
        let failed = site.wait_for(task, "TASK_FAILED");
        assert!(failed["message"].as_str().unwrap_or_default().contains(expected), "{failed}");
    }
}

#[test]
fn images_of_archives_are_copied_for_each_container() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    from_archives("copy", POSIX, &["--launcher=posix"]);
}

#[test]
fn images_of_archives_are_laid_over_each_other() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    need!(systems.contains("\toverlay\n"), "this kernel has no overlayfs");
    let has_cgroups = Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists();
    need!(has_cgroups, "this kernel's cgroup v1 controller 'memory' can't be used");
    let _cgroups = Cgroups;
    let root = format!("--cgroups_root={CGROUPS}");
    from_archives("overlay", LINUX, &["--launcher=linux", &root]);
}

/// A registry that gives what it has to those who show a token.
struct Registry {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

const TOKEN: &str = "token-8813";

impl Registry {
    fn serve(mut files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let answer = json!({"token": TOKEN}).to_string().into_bytes();
        files.insert("/token?service=own&scope=repository%3Asmall%3Apull".to_owned(), answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                Self::answer(&stream, port, &files, &seen);
            }
        });
        Self { port, asked }
    }

    fn answer(
        stream: &TcpStream,
        port: u16,
        files: &BTreeMap<String, Vec<u8>>,
        seen: &Mutex<Vec<String>>,
    ) {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
        seen.lock().expect("the list").push(path.to_owned());
        let has = |value: &str| {
            head.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: {value}")))
        };
        // user:pass
        let is_known = if path.starts_with("/token") {
            has("Basic dXNlcjpwYXNz")
        } else {
            has(&format!("Bearer {TOKEN}"))
        };
        let (status, body) = match files.get(path) {
            _ if !is_known => ("401 Unauthorized", &Vec::new()),
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", &Vec::new()),
        };
        let challenge = format!(
            "Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"own\",scope=\"repository:small:pull\""
        );
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\nWWW-Authenticate: {challenge}\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        // The agent may have gone away.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    }

    fn asked(&self, part: &str) -> usize {
        let asked = self.asked.lock().expect("the list");
        asked.iter().filter(|path| path.contains(part)).count()
    }
}

#[test]
fn images_of_a_registry_are_verified_and_brought_once() {
    need!(missing().is_none(), "{}", missing().unwrap_or_default());
    let own = Image::new();
    let packed: Vec<Vec<u8>> = own
        .layers
        .iter()
        .map(|layer| {
            let file = own.directory.path().join("layer");
            fs::write(&file, layer).expect("a file");
            run(Command::new("gzip").arg("-f").arg(&file));
            fs::read(own.directory.path().join("layer.gz")).expect("a file")
        })
        .collect();
    let descriptor = |kind: &str, content: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(content), "size": content.len()});
    let layers: Vec<Value> =
        packed.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
    let manifest = |layers: &[Value]| {
        json!({"schemaVersion": 2, "config": descriptor("config.v1+json", &own.config), "layers": layers}).to_string().into_bytes()
    };
    let good = manifest(&layers);
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut here = descriptor("manifest.v1+json", &good);
    here["platform"] = json!({"os": "linux", "architecture": machine});
    let index = json!({"schemaVersion": 2, "manifests": [here]}).to_string().into_bytes();
    let mut swapped = layers.clone();
    swapped.swap(0, 1);
    let mut files = BTreeMap::from([
        ("/v2/small/manifests/1".to_owned(), index),
        (format!("/v2/small/manifests/{}", digest(&good)), good),
        ("/v2/small/manifests/swapped".to_owned(), manifest(&swapped)),
        (format!("/v2/small/blobs/{}", digest(&own.config)), own.config.clone()),
    ]);
    for layer in &packed {
        files.insert(format!("/v2/small/blobs/{}", digest(layer)), layer.clone());
    }
    // One that is not what its name says.
    let other = descriptor("layer.v1.tar+gzip", b"another");
    let mut forged = packed[0].clone();
    forged.truncate(b"another".len());
    files.insert(
        format!("/v2/small/blobs/{}", other["digest"].as_str().unwrap_or_default()),
        forged,
    );
    files.insert("/v2/small/manifests/forged".to_owned(), manifest(&[other, layers[1].clone()]));

    let registry = Registry::serve(files);
    let login =
        json!({"auths": {format!("127.0.0.1:{}", registry.port): {"auth": "dXNlcjpwYXNz"}}});
    let url = format!("http://127.0.0.1:{}", registry.port);
    let host = Host::start(
        &url,
        "copy",
        POSIX,
        &["--launcher=posix", &format!("--docker_config={login}")],
    );
    let site = &host.site;
    // Nothing of the right image is there yet that could be taken instead.
    for (task, version, expected) in [
        ("forged", "forged", "is something else"),
        ("swapped", "swapped", " instead of sha256:"),
        ("none", "none", "404 Not Found"),
    ] {
        let wrong = container(&format!("small:{version}"));
        site.run(task, &json!({"command": shell("true"), "container": wrong}));
        let failed = site.wait_for(task, "TASK_FAILED");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.contains("Failed to pull image") || task == "swapped", "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(host.layers(), 0, "nothing of these is kept");
    let command = json!({"command": shell("cat /etc/note"), "container": container("small:1")});
    for task in ["one", "two"] {
        site.run(task, &command);
    }
    for task in ["one", "two"] {
        site.wait_for(task, "TASK_FINISHED");
        host.wait_for(task, "stdout", "from the image\n");
    }
    assert_eq!(host.layers(), 2);
    let first = digest(&packed[0]);
    let before = registry.asked(&first);
    site.run("three", &command);
    site.wait_for("three", "TASK_FINISHED");
    assert_eq!(registry.asked(&first), before, "it is there");
    let flags = http::get(&site.agent_url("/flags")).expect("the flags").body;
    assert!(flags.contains("docker_config") && !flags.contains("dXNlcjpwYXNz"), "{flags}");
}
