// A link shortener: POST /links {"url": ...} gives a short code, GET /CODE redirects, GET /links counts.
// Links live in memory, so they survive freezing and not stopping.

import { randomBytes } from "node:crypto";
import express from "express";

const MOST_LINKS = 1_000;
const LONGEST_URL = 2_000;
const links = new Map();

const app = express();
app.disable("x-powered-by");
app.use(express.json({ limit: "16kb" }));

app.get("/", (request, response) => {
  response.send(`<!doctype html><meta charset="utf-8"><title>Links</title>
<h1>Links</h1><p>${links.size} short links, kept by process ${process.pid}.</p>
<p><code>POST /links {"url": ...}</code>, <code>GET /links</code>, <code>GET /CODE</code></p>`);
});

app.get("/healthz", (request, response) => response.type("text").send("ok\n"));

app.get("/links", (request, response) => {
  response.json([...links].map(([code, { url, visits }]) => ({ code, url, visits })));
});

app.post("/links", (request, response) => {
  const url = request.body?.url;
  if (typeof url !== "string" || url.length > LONGEST_URL || !/^https?:\/\//.test(url)) {
    return response.status(400).json({ error: 'send JSON like {"url": "https://..."}' });
  }
  const code = randomBytes(5).toString("base64url");
  links.set(code, { url, visits: 0 });
  if (links.size > MOST_LINKS) links.delete(links.keys().next().value);
  return response.status(201).json({ code, url });
});

app.get("/:code", (request, response) => {
  const link = links.get(request.params.code);
  if (!link) return response.status(404).json({ error: "no such link" });
  link.visits += 1;
  return response.redirect(302, link.url);
});

app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  return response.status(error.status ?? 500).json({ error: error.expose ? error.message : "internal error" });
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1");

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    server.close();
    server.closeIdleConnections();
  });
}
