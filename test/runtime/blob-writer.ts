import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";

// Stores a body that never ends, and says when it is half-way.
const [root = ""] = process.argv.slice(2);
async function* endless(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(100_000);
  process.send?.("writing");
  await new Promise(() => setInterval(() => {}, 1_000));
}
const store = await openDiskBlobStore(root);
await store.put("nar/abc/1", endless());
