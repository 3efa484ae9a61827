//! The documents generated from the message types: JSON Schema and AsyncAPI 3. Filled in by `documents()`.
