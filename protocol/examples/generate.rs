//! Writes the generated documents: `cargo run -p agent-hub-protocol --example generate`.

use std::{fs, path::Path};

use agent_hub_protocol::schema;

#[path = "../tests/it/goldens.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod goldens;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(root.join("schema"))?;
    fs::write(root.join("schema/agent-hub.v1.schema.json"), schema::text(&schema::json_schema()))?;
    fs::write(root.join("asyncapi.json"), schema::text(&schema::asyncapi::document(&goldens::examples())))
}
