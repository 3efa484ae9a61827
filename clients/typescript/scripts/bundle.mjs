// Writes bundle/agent-hub-client.js, the client as one file, which the hub serves at /client/. With --check it only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const file = (path) => fileURLToPath(new URL(path, import.meta.url));
const TARGET = file("../bundle/agent-hub-client.js");

const { outputFiles } = await build({
  entryPoints: [file("../src/index.ts")],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "// agent-hub-client (MIT or Apache-2.0), built from clients/typescript; do not edit." },
  write: false,
});
const [{ text }] = outputFiles;

if (process.argv.includes("--check")) {
  if (readFileSync(TARGET, "utf8") !== text) {
    console.error("bundle/agent-hub-client.js is not what src/ builds: npm run build");
    process.exit(1);
  }
} else {
  writeFileSync(TARGET, text);
}
