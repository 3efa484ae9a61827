//! The files in `golden/v1`: one JSON text per message, one directory per kind. `<type>.json` is the message with most of its fields,
//! `<type>.<variant>.json` other shapes it takes.

use std::{fs, path::Path};

use agent_hub_protocol::schema::{Example, Kind};

/// One golden message.
pub(crate) struct Golden {
    /// `event/token.json`
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// The message type by the file's name.
    pub(crate) message_type: String,
    /// The file without its last newline: exactly what goes over the wire.
    pub(crate) text: String,
}

/// Every golden message, sorted by path.
pub(crate) fn all() -> Vec<Golden> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let mut goldens = Vec::new();
    for (directory, kind) in [("client", Kind::Command), ("connection", Kind::Connection), ("event", Kind::Event)] {
        for entry in fs::read_dir(root.join(directory)).expect("a directory of goldens") {
            let name = entry.expect("a directory entry").file_name().into_string().expect("an ASCII name");
            let text = fs::read_to_string(root.join(directory).join(&name)).expect("readable");
            goldens.push(Golden {
                path: format!("{directory}/{name}"),
                kind,
                message_type: name.split('.').next().unwrap_or_default().to_owned(),
                text: text.strip_suffix('\n').expect("a newline at the end").to_owned(),
            });
        }
    }
    goldens.sort_by(|a, b| a.path.cmp(&b.path));
    goldens
}

/// The goldens as examples for the generated documents.
pub(crate) fn examples() -> Vec<Example> {
    let example = |golden: Golden| Example {
        kind: golden.kind,
        name: golden.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".json").to_owned(),
        message_type: golden.message_type,
        payload: serde_json::from_str(&golden.text).expect("JSON"),
    };
    all().into_iter().map(example).collect()
}
