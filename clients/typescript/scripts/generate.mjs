// Writes src/generated.ts from the protocol's JSON Schema. With --check it only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";

const SCHEMA = new URL("../../../protocol/schema/agent-hub.v1.schema.json", import.meta.url);
const TARGET = new URL("../src/generated.ts", import.meta.url);

const schema = JSON.parse(readFileSync(SCHEMA, "utf8"));
const text = await compile(schema, "Wire", {
  bannerComment: "// Generated from protocol/schema/agent-hub.v1.schema.json by `npm run generate`; do not edit.",
  additionalProperties: false,
  unreachableDefinitions: true,
  strictIndexSignatures: true,
  style: { printWidth: 140 },
});

if (process.argv.includes("--check")) {
  if (readFileSync(TARGET, "utf8") !== text) {
    console.error("src/generated.ts is not what the schema generates: npm run generate");
    process.exit(1);
  }
} else {
  writeFileSync(TARGET, text);
}
