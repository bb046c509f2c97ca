//! Generates `impl Json` for every message: writing in order of declaration and reading by name, as Mesos does; and
//! `impl Shaped`: what must be there.
//!
//! The rules live in `src/json.rs` and `src/required.rs`; what is generated here only names fields and their kinds.

use std::fmt::Write as _;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The text of a Rust file with all implementations.
pub(crate) fn generate(set: &FileDescriptorSet) -> String {
    let packages: Vec<&str> =
        set.file.iter().map(prost_types::FileDescriptorProto::package).collect();
    let mut out = String::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("mesos")) {
        for message in &file.message_type {
            message_form(&mut out, &packages, &format!(".{}", file.package()), message);
        }
    }
    out
}

fn message_form(out: &mut String, packages: &[&str], scope: &str, message: &DescriptorProto) {
    let full = format!("{scope}.{}", message.name());
    if message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
        return;
    }
    for nested in &message.nested_type {
        message_form(out, packages, &full, nested);
    }
    let path = rust_path(packages, &full);
    let module = format!(
        "{}::{}",
        path.rsplit_once("::").map_or("", |(module, _)| module),
        sanitize(&message.name().to_snake_case())
    );
    let (mut write, mut read) = (String::new(), String::new());
    for field in &message.field {
        field_form(&mut write, &mut read, packages, message, &full, &module, field);
    }
    let body = if write.is_empty() { "let _ = (self, out);" } else { &write };
    let read = if read.is_empty() {
        "let _ = (self, fields);\nOk(())".to_owned()
    } else {
        format!("{read}Ok(())")
    };
    let _ = writeln!(
        out,
        "impl Json for {path} {{\nfn write_fields(&self, out: &mut Fields<'_>) {{\n{body}\n}}\nfn read_fields(&mut self, fields: &mut Object<'_>) -> Result<(), JsonError> {{\n{read}\n}}\n}}"
    );
    shape_form(out, packages, &full, &path, message);
}

fn shape_form(
    out: &mut String,
    packages: &[&str],
    full: &str,
    path: &str,
    message: &DescriptorProto,
) {
    let (mut required, mut enums, mut messages) = (String::new(), String::new(), String::new());
    for field in &message.field {
        let (number, of) = (field.number(), || rust_path(packages, field.type_name()));
        if field.label() == Label::Required {
            let _ = write!(required, "{number},");
            if field.r#type() == Type::Enum {
                let _ = write!(enums, "({number}, |value| {}::try_from(value).is_ok()),", of());
            }
        }
        if let Some(entry) = map_entry(message, full, field) {
            if entry.field[1].r#type() == Type::Message {
                let of = rust_path(packages, entry.field[1].type_name());
                let _ = write!(
                    messages,
                    "({number}, || &Shape {{ required: &[], enums: &[], messages: &[(2, <{of} as Shaped>::shape)] }}),"
                );
            }
        } else if field.r#type() == Type::Message {
            let _ = write!(messages, "({number}, <{} as Shaped>::shape),", of());
        }
    }
    let _ = writeln!(
        out,
        "impl Shaped for {path} {{\nfn shape() -> &'static Shape {{\n&Shape {{ required: &[{required}], enums: &[{enums}], messages: &[{messages}] }}\n}}\n}}"
    );
}

fn field_form(
    write: &mut String,
    read: &mut String,
    packages: &[&str],
    message: &DescriptorProto,
    full: &str,
    module: &str,
    field: &FieldDescriptorProto,
) {
    let name = field.name();
    let member = sanitize(&name.to_snake_case());
    let kind = kind(field);
    let enum_type = (field.r#type() == Type::Enum).then(|| rust_path(packages, field.type_name()));
    if let Some(index) = field.oneof_index {
        let of = enum_type.as_deref().unwrap_or_default();
        let oneof = message.oneof_decl[index as usize].name();
        let variant =
            format!("{module}::{}::{}", oneof.to_upper_camel_case(), name.to_upper_camel_case());
        let holder = sanitize(&oneof.to_snake_case());
        let _ = writeln!(
            write,
            "if let Some({variant}(value)) = &self.{holder} {{ {} }}",
            write_value(name, kind, of, "value")
        );
        let _ = writeln!(
            read,
            "if let Some(value) = {} {{ self.{holder} = Some({variant}(value)); }}",
            read_value(name, kind, of, false)
        );
        return;
    }
    if let Some(entry) = map_entry(message, full, field) {
        let value = &entry.field[1];
        if value.r#type() == Type::Message {
            let _ = writeln!(write, "out.map(\"{name}\", &self.{member});");
            let _ = writeln!(read, "fields.map(\"{name}\", &mut self.{member})?;");
        } else {
            let _ = writeln!(write, "out.string_map(\"{name}\", &self.{member});");
            let _ = writeln!(read, "fields.string_map(\"{name}\", &mut self.{member})?;");
        }
        return;
    }
    let of = enum_type.as_deref().unwrap_or_default();
    match (field.label(), kind) {
        (Label::Repeated, "enumeration") => {
            let _ = writeln!(
                write,
                "out.enumerations(\"{name}\", &self.{member}, |number| {of}::try_from(number).ok().map(|value| value.as_str_name()));"
            );
            let _ = writeln!(
                read,
                "fields.enumerations(\"{name}\", &mut self.{member}, |name| {of}::from_str_name(name).map(|value| value as i32))?;"
            );
        }
        (Label::Repeated, _) if full == ".mesos.v1.master.Response.GetAgents" => {
            let _ = writeln!(write, "out.agents(\"{name}\", &self.{member});");
            let _ = writeln!(read, "fields.messages(\"{name}\", &mut self.{member})?;");
        }
        (Label::Repeated, "message") if lists_all(full) && !is_deprecated(field) => {
            let _ = writeln!(write, "out.all_messages(\"{name}\", &self.{member});");
            let _ = writeln!(read, "fields.messages(\"{name}\", &mut self.{member})?;");
        }
        (Label::Repeated, kind) => {
            let _ = writeln!(write, "out.{kind}s(\"{name}\", &self.{member});");
            let _ = writeln!(read, "fields.{kind}s(\"{name}\", &mut self.{member})?;");
        }
        (Label::Required, kind) => {
            let _ = writeln!(write, "{}", write_value(name, kind, of, &format!("&self.{member}")));
            let _ = writeln!(
                read,
                "match {} {{ Some(value) => self.{member} = value, None => fields.missing(\"{name}\") }}",
                read_value(name, kind, of, true)
            );
        }
        (Label::Optional, kind) => {
            if field.default_value.is_some() && !is_deprecated(field) {
                let _ = writeln!(write, "{}", write_default(name, kind, &member));
            } else if full == ".mesos.v1.AgentInfo" && name == "checkpoint" {
                let _ = writeln!(
                    write,
                    "if let (true, Some(value)) = (out.shows_agent_checkpoint(), &self.{member}) {{ {} }}",
                    write_value(name, kind, of, "value")
                );
            } else {
                let _ = writeln!(
                    write,
                    "if let Some(value) = &self.{member} {{ {} }}",
                    write_value(name, kind, of, "value")
                );
            }
            let _ = writeln!(
                read,
                "if let Some(value) = {} {{ self.{member} = Some(value); }}",
                read_value(name, kind, of, false)
            );
        }
    }
}

fn is_deprecated(field: &FieldDescriptorProto) -> bool {
    field.options.as_ref().is_some_and(prost_types::FieldOptions::deprecated)
}

/// Whether the original writes a message's lists by hand, even when they are empty (`jsonifyGetTasks` and its like in
/// `master/readonly_handler.cpp` and `slave/http.cpp`).
fn lists_all(full: &str) -> bool {
    let answer = [".mesos.v1.master.Response.", ".mesos.v1.agent.Response."]
        .iter()
        .find_map(|scope| full.strip_prefix(scope));
    matches!(answer, Some("GetTasks" | "GetExecutors" | "GetFrameworks" | "GetAgents"))
}

fn write_default(name: &str, kind: &str, member: &str) -> String {
    // prost's getters give the declared default where the field is unset.
    match kind {
        "string" => format!("out.string(\"{name}\", self.{member}());"),
        "enumeration" => format!("out.enumeration(\"{name}\", self.{member}().as_str_name());"),
        _ => format!("out.{kind}(\"{name}\", &self.{member}());"),
    }
}

fn write_value(name: &str, kind: &str, of: &str, value: &str) -> String {
    match kind {
        "enumeration" => format!(
            "if let Ok(value) = {of}::try_from(*({value})) {{ out.enumeration(\"{name}\", value.as_str_name()); }}"
        ),
        _ => format!("out.{kind}(\"{name}\", {value});"),
    }
}

fn read_value(name: &str, kind: &str, of: &str, required: bool) -> String {
    match kind {
        "enumeration" => format!(
            "fields.enumeration(\"{name}\", {required}, |name| {of}::from_str_name(name).map(|value| value as i32))?"
        ),
        _ => format!("fields.{kind}(\"{name}\")?"),
    }
}

fn kind(field: &FieldDescriptorProto) -> &'static str {
    match field.r#type() {
        Type::Double | Type::Float => "double",
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => "int64",
        Type::Uint64 | Type::Fixed64 => "uint64",
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => "int32",
        Type::Uint32 | Type::Fixed32 => "uint32",
        Type::Bool => "boolean",
        Type::String => "string",
        Type::Bytes => "byte_string",
        Type::Enum => "enumeration",
        Type::Message | Type::Group => "message",
    }
}

fn map_entry<'a>(
    message: &'a DescriptorProto,
    full: &str,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
            && field.type_name() == format!("{full}.{}", nested.name())
    })
}

/// `.mesos.v1.Offer.Operation` → `crate::v1::offer::Operation`, as prost names it.
fn rust_path(packages: &[&str], full: &str) -> String {
    if full == ".google.protobuf.Duration" {
        return "::prost_types::Duration".to_owned();
    }
    let name = full.trim_start_matches('.');
    let package = packages
        .iter()
        .filter(|package| name.starts_with(&format!("{package}.")))
        .max_by_key(|package| package.len())
        .copied()
        .unwrap_or_default();
    let mut path = String::from("crate::protos");
    for part in package.split('.') {
        let _ = write!(path, "::{part}");
    }
    let rest: Vec<&str> = name[package.len() + 1..].split('.').collect();
    for (index, part) in rest.iter().enumerate() {
        let segment = if index + 1 == rest.len() {
            part.to_upper_camel_case()
        } else {
            sanitize(&part.to_snake_case())
        };
        let _ = write!(path, "::{segment}");
    }
    path
}

fn sanitize(name: &str) -> String {
    match name {
        "type" | "match" | "move" | "ref" | "use" | "mod" | "fn" | "in" | "where" | "loop" => {
            format!("r#{name}")
        }
        other => other.to_owned(),
    }
}
