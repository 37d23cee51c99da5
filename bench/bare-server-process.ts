import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { BareAnswer } from "./bare-server.ts";

const answers = JSON.parse(process.argv[2] ?? "[]") as BareAnswer[];
const byUrl = new Map(answers.map((answer) => [answer.url, answer]));

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
