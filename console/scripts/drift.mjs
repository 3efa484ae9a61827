// Whether dist/ is what the sources build: it is committed, so that `cargo run` needs no Node.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const fresh = mkdtempSync(path.join(tmpdir(), "agent-hub-console-"));
try {
  await build({ root, logLevel: "warn", build: { outDir: fresh, emptyOutDir: true } });
  const [built, kept] = [files(fresh), files(path.join(root, "dist"))];
  const names = [...new Set([...built.keys(), ...kept.keys()])].sort();
  const other = names.filter((name) => built.get(name) === undefined || kept.get(name) === undefined || !built.get(name).equals(kept.get(name)));
  if (other.length) {
    console.error(`console/dist is not what console/ and clients/typescript/ build: ${other.join(", ")}\nRun: cd console && npm run build`);
    process.exitCode = 1;
  }
} finally {
  rmSync(fresh, { recursive: true, force: true });
}

function files(directory) {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(entries.map((entry) => {
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    return [path.relative(directory, file), readFileSync(file)];
  }));
}
