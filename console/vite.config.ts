import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const client = (file: string) => fileURLToPath(new URL(`../clients/typescript/src/${file}`, import.meta.url));

const hub = process.env["HUB"] ?? "http://127.0.0.1:3000";

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
    // `npm run dev` beside a hub on its usual port, or the one HUB names. To the hub the page is one of its own.
    proxy: Object.fromEntries(["/api", "/auth", "/metrics", "/health", "/ws"].map((path) => [path, { target: hub, ws: path === "/ws", changeOrigin: true, headers: { origin: hub } }])),
  },
  test: { include: ["test/**/*.test.ts"] },
});
