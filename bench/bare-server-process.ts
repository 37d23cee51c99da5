import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { BareAnswer } from "./bare-server.ts";

const [answers] = (await once(process, "message")) as [BareAnswer[]];
const byUrl = new Map(
  answers.map(({ url, headers, body }) => [
    url,
    { headers, body: typeof body === "string" ? body : readFileSync(body.path) },
  ]),
);

const server = createServer((request, response) => {
  const answer = byUrl.get(request.url as string);
  if (answer) {
    response.writeHead(200, answer.headers);
    response.end(answer.body);
  } else {
    response.writeHead(404, { "content-type": "text/plain", "content-length": "9" });
    response.end("not found");
  }
});
server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
