//! `slipway diff`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    show::{say, text},
};
use serde_json::{Value, json};
use slipway_oci::{
    layer::{Aspect, Difference, Entry, Kind, Tree, compare},
    store::{ImageRecord, Store},
};

/// Compare two images, path by path.
///
/// Their configurations too. The exit status is 1 where they differ.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Pass over modification times
    #[arg(long)]
    ignore_times: bool,
    /// Say nothing: the exit status tells
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name, id or digest
    #[arg(value_name = "IMAGE")]
    one: String,
    /// The other one
    #[arg(value_name = "IMAGE")]
    other: String,
}

/// The value of `--format`.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A path a line
    #[default]
    Text,
    /// All of it
    Json,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let images = Images::new(&app.store, global)?;
    let (one, other) = (read(&images, &arguments.one)?, read(&images, &arguments.other)?);
    let mut files = match one.config.rootfs == other.config.rootfs {
        true => Vec::new(),
        false => compare(&tree(&app.store, &one)?, &tree(&app.store, &other)?),
    };
    if arguments.ignore_times {
        for file in &mut files {
            file.aspects.retain(|aspect| *aspect != Aspect::Time);
        }
        files.retain(|file| file.one.is_none() || file.other.is_none() || !file.aspects.is_empty());
    }
    let fields = fields(&config(&one), &config(&other));
    let same = files.is_empty() && fields.is_empty();
    if !arguments.quiet {
        match arguments.format {
            Format::Json => say(format_args!("{:#}", as_json(&files, &fields)))?,
            Format::Text => print(&files, &fields, &one, &other)?,
        }
    }
    Ok(u8::from(!same))
}

fn read(images: &Images<'_>, name: &str) -> Result<ImageRecord, Failure> {
    let digest = images.local(name)?.ok_or_else(|| images.missing(name))?;
    images.complete_image(&digest)
}

fn tree(store: &Store, record: &ImageRecord) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    for form in record.forms() {
        tree = tree.with(store.toc(&form.diff_id, &tree)?);
    }
    Ok(tree)
}

/// What of a configuration is compared: not its layers and its history, which files tell.
fn config(record: &ImageRecord) -> Value {
    json!({
        "Platform": record.config.platform.to_string(),
        "Author": record.config.author,
        "Created": record.config.created,
        "Config": record.config.config,
    })
}

/// A field that differs: its name, and what each has.
type Field = (String, Value, Value);

fn fields(one: &Value, other: &Value) -> Vec<Field> {
    let empty = serde_json::Map::new();
    let of = |value: &Value, name: &str| value.get(name).cloned().unwrap_or(Value::Null);
    let mut found = Vec::new();
    let mut compare = |prefix: &str, one: &Value, other: &Value| {
        let (a, b) = (one.as_object().unwrap_or(&empty), other.as_object().unwrap_or(&empty));
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names.into_iter().filter(|name| *name != "Config") {
            let (left, right) = (of(one, name), of(other, name));
            if left != right {
                found.push((format!("{prefix}{name}"), left, right));
            }
        }
    };
    compare("", one, other);
    compare("Config.", &of(one, "Config"), &of(other, "Config"));
    found
}

fn print(
    files: &[Difference],
    fields: &[Field],
    one: &ImageRecord,
    other: &ImageRecord,
) -> Result<(), Failure> {
    for (name, left, right) in fields {
        say(text::line(&format!("{name}: {left} -> {right}")))?;
    }
    for file in files {
        let path = text::line(&format!("/{}", String::from_utf8_lossy(&file.path)));
        match (&file.one, &file.other) {
            (Some(_), None) => say(format_args!("- {path}"))?,
            (None, Some(_)) => say(format_args!("+ {path}"))?,
            (Some(one), Some(other)) => {
                let words: Vec<String> =
                    file.aspects.iter().map(|aspect| words(*aspect, one, other)).collect();
                say(format_args!("~ {path}: {}", text::line(&words.join(", "))))?;
            }
            (None, None) => {}
        }
    }
    if files.is_empty() && fields.is_empty() {
        let same =
            one.manifest.layers == other.manifest.layers && one.manifest.config == other.manifest.config;
        say(if same {
            "the images are the same"
        } else {
            "the images have the same files and the same configuration"
        })?;
    }
    Ok(())
}

fn words(aspect: Aspect, one: &Entry, other: &Entry) -> String {
    let kind = |entry: &Entry| match entry.kind {
        Kind::File => "a file",
        Kind::Directory => "a folder",
        Kind::Symlink => "a link",
        _ => "something else",
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match aspect {
        Aspect::Kind => format!("{} -> {}", kind(one), kind(other)),
        Aspect::Content if one.size_bytes != other.size_bytes => {
            format!("content ({} -> {} bytes)", one.size_bytes, other.size_bytes)
        }
        Aspect::Content => "content".to_owned(),
        Aspect::Link => format!("link {} -> {}", text(&one.link), text(&other.link)),
        Aspect::Mode => format!("mode {:o} -> {:o}", one.mode, other.mode),
        Aspect::Owner => format!("owner {}:{} -> {}:{}", one.uid, one.gid, other.uid, other.gid),
        Aspect::Time => format!("time {} -> {}", one.mtime, other.mtime),
        Aspect::Attributes => "attributes".to_owned(),
        Aspect::Device => format!("device {:?} -> {:?}", one.device, other.device),
    }
}

fn as_json(files: &[Difference], fields: &[Field]) -> Value {
    let side = |entry: &Option<Entry>| {
        entry.as_ref().map(|entry| {
            json!({
                "kind": format!("{:?}", entry.kind).to_lowercase(),
                "mode": format!("{:o}", entry.mode),
                "uid": entry.uid,
                "gid": entry.gid,
                "mtime": entry.mtime,
                "size": entry.size_bytes,
                "content": entry.content.as_ref().map(ToString::to_string),
                "link": String::from_utf8_lossy(&entry.link),
            })
        })
    };
    let file = |file: &Difference| {
        json!({
            "path": format!("/{}", String::from_utf8_lossy(&file.path)),
            "differs": file.aspects.iter().map(|aspect| aspect.name()).collect::<Vec<_>>(),
            "one": side(&file.one),
            "other": side(&file.other),
        })
    };
    let fields: Vec<Value> =
        fields.iter().map(|(name, one, other)| json!({"field": name, "one": one, "other": other})).collect();
    json!({"files": files.iter().map(file).collect::<Vec<_>>(), "config": fields})
}
