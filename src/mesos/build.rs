//! Compiles `proto/` at build time, without protoc: Rust types by prost, and their Mesos JSON form by `build/json.rs`.

use std::path::PathBuf;

#[path = "build/json.rs"]
mod json;

fn main() {
    let files = [
        "mesos",
        "scheduler",
        "executor",
        "master",
        "agent",
        "maintenance",
        "quota",
        "allocator",
        "messages",
        "registry",
        "state",
        "log",
        "scheduler_v0",
    ]
    .map(|name| format!("proto/mesos/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let mut set = match protox::compile(&files, ["proto"]) {
        Ok(set) => set,
        Err(error) => panic!("proto/ does not compile: {error:?}"),
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = std::fs::write(out.join("json_forms.rs"), json::generate(&set)) {
        panic!("json_forms.rs cannot be written: {error}");
    }
    let descriptors = prost::Message::encode_to_vec(&set);
    if let Err(error) = std::fs::write(out.join("descriptors.bin"), descriptors) {
        panic!("descriptors.bin cannot be written: {error}");
    }
    // Deprecation decides what JSON shows; in Rust it would only warn about fields that the wire still needs.
    for file in &mut set.file {
        file.message_type.iter_mut().for_each(forget_deprecation);
    }
    let mut config = prost_build::Config::new();
    config.include_file("protos.rs").btree_map(["."]).enable_type_names();
    // Rare and large: a master keeps very many resources and tasks, most of them without.
    for rare in ["Resource.disk", "Task.container", "Task.health_check"] {
        config.boxed(format!(".mesos.v1.{rare}"));
    }
    if let Err(error) = config.compile_fds(set) {
        panic!("proto/ cannot be generated: {error}");
    }
}

fn forget_deprecation(message: &mut prost_types::DescriptorProto) {
    for field in &mut message.field {
        if let Some(options) = &mut field.options {
            options.deprecated = None;
        }
    }
    for value in message.enum_type.iter_mut().flat_map(|kind| &mut kind.value) {
        value.options = None;
    }
    message.nested_type.iter_mut().for_each(forget_deprecation);
}
