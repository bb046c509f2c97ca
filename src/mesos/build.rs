//! Compiles `proto/` to Rust at build time, without protoc.

fn main() {
    let files = [
        "mesos", "scheduler", "executor", "master", "agent", "maintenance", "quota", "allocator", "messages", "registry",
        "state", "log",
    ]
    .map(|name| format!("proto/mesos/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let set = match protox::compile(&files, ["proto"]) {
        Ok(set) => set,
        Err(error) => panic!("proto/ does not compile: {error:?}"),
    };
    let mut config = prost_build::Config::new();
    config.include_file("protos.rs").btree_map(["."]);
    if let Err(error) = config.compile_fds(set) {
        panic!("proto/ cannot be generated: {error}");
    }
}
