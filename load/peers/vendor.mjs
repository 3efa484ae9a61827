// What both Node peers share: their settings, and the reading of the vendor's stream. Plain `node:http` and a split at line ends: less than the vendor's own
// SDK does per token, so that the peers are not measured by somebody else's library.

import http from "node:http";
import https from "node:https";

const need = (name) => process.env[name] || missing(name);

function missing(name) {
  console.error(`${name} is not set; see load/peers/README.md`);
  process.exit(2);
}

export const HOST = process.env.HOST || "127.0.0.1";
export const PORT = Number(need("PORT"));
export const SECRET = need("JWT_SECRET");
const VENDOR = new URL(`${need("OPENAI_BASE_URL")}/chat/completions`);
const MODEL = process.env.MODEL_ID || "peer";
const HEADERS = { "Content-Type": "application/json", Authorization: `Bearer ${process.env.OPENAI_API_KEY || "none"}` };

const client = VENDOR.protocol === "https:" ? https : http;
const agent = new client.Agent({ keepAlive: true });

/** Says where it listens, and ends when it is told to. */
export function listen(server) {
  server.listen({ port: PORT, host: HOST, backlog: 4096 }, () => console.log(`listening on http://${HOST}:${PORT}`));
  process.on("SIGTERM", () => process.exit(0));
}

/** Asks the vendor, gives each piece of text to `onToken`, and resolves to the whole. Aborting `signal` closes the connection. */
export function ask(messages, onToken, signal) {
  return new Promise((resolve, reject) => {
    const request = client.request(VENDOR, { method: "POST", agent, headers: HEADERS, signal });
    request.on("error", reject);
    request.on("response", (response) => {
      response.setEncoding("utf8");
      response.on("error", reject);
      if (response.statusCode !== 200) {
        response.resume();
        reject(new Error(`the vendor answered with status ${response.statusCode}`));
        return;
      }
      let rest = "";
      let text = "";
      const take = (line) => {
        if (!line.startsWith("data:")) return;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return resolve(text);
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        const token = chunk.choices[0]?.delta?.content;
        if (token) {
          text += token;
          onToken(token);
        }
      };
      response.on("data", (piece) => {
        const lines = (rest + piece).split("\n");
        rest = lines.pop();
        try {
          lines.forEach(take);
        } catch (error) {
          request.destroy(error);
        }
      });
      response.on("end", () => reject(new Error("the vendor broke off")));
    });
    request.end(JSON.stringify({ model: MODEL, stream: true, messages }));
  });
}
