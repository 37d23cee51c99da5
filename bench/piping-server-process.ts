import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { PipedFile } from "./bare-server.ts";

const [files] = (await once(process, "message")) as [PipedFile[]];
const byUrl = new Map(files.map((file) => [file.url, file]));

const server = createServer((request, response) => {
  const file = byUrl.get(request.url as string);
  if (file) {
    response.writeHead(200, file.headers);
    createReadStream(file.path).pipe(response);
  } else {
    response.writeHead(404, { "content-type": "text/plain", "content-length": "9" });
    response.end("not found");
  }
});
server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
