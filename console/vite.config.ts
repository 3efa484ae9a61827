import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const client = (file: string) => fileURLToPath(new URL(`../clients/typescript/src/${file}`, import.meta.url));

export default defineConfig({
  base: "/console/",
  resolve: {
    alias: [
      { find: /^agent-hub-client\/conversation$/, replacement: client("conversation.ts") },
      { find: /^agent-hub-client$/, replacement: client("index.ts") },
    ],
  },
  build: {
    target: "es2022",
    // The hub forbids inline scripts, and data: addresses besides pictures.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    // `npm run dev` beside a hub on its usual port.
    proxy: Object.fromEntries(["/api", "/auth", "/metrics", "/ws"].map((path) => [path, { target: "http://127.0.0.1:3000", ws: path === "/ws" }])),
  },
  test: { include: ["test/**/*.test.ts"] },
});
