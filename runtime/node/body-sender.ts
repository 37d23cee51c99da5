import type { ServerResponse } from "node:http";
import type { OfferedBody } from "#core/lib/block-stream.ts";
import type { Logger } from "#core/ports/logger.ts";
import { READ_BYTES } from "./disk-blob-body.ts";

interface Block {
  readonly memory: Buffer;
  /** Resolves when the connection is done with the memory. */
  written: Promise<void>;
}

/** While one is written the next one is read. */
const BLOCKS = 2;
/** 8 MiB at the most wait for the next body. */
const SPARE_MAX = 32;
const spare: Buffer[] = [];

/**
 * Sends a response whose body is read into memory that is used again and again: a gigabyte makes no garbage. A body
 * that fails, and a client that goes, close the connection. It never rejects.
 */
export async function sendBody(outgoing: ServerResponse, body: OfferedBody, log: Logger): Promise<void> {
  const { status, headers, first, rest } = body;
  const blocks: Block[] = [];
  // Nobody is told of what is written to a connection that is gone.
  const closed = new Promise<void>((resolve) => outgoing.once("close", resolve));
  const write = (bytes: Uint8Array): Promise<void> =>
    Promise.race([closed, new Promise<void>((resolve) => outgoing.write(bytes, () => resolve()))]);
  try {
    outgoing.writeHead(status, headers);
    if (!rest) return void outgoing.end(first);
    const firstWritten = write(first);
    for (let turn = 0; !outgoing.destroyed; turn++) {
      const block = blocks[turn % BLOCKS] ?? newBlock(blocks);
      await block.written;
      const length = await rest.readInto(block.memory);
      if (length === 0) break;
      block.written = write(block.memory.subarray(0, length));
    }
    // What was handed over is sent before the end is.
    outgoing.end();
    await Promise.all([firstWritten, ...blocks.map(({ written }) => written)]);
  } catch (error) {
    log.warn("a body could not be sent to its end", { error });
    outgoing.destroy();
  } finally {
    await rest?.close().catch(() => {});
    // A response that is over counts as destroyed; of one that was cut the connection may hold the memory still.
    if (outgoing.writableFinished) keepSpare(blocks);
  }
}

function newBlock(blocks: Block[]): Block {
  const memory = spare.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES);
  const block = { memory, written: Promise.resolve() };
  blocks.push(block);
  return block;
}

function keepSpare(blocks: readonly Block[]): void {
  for (const { memory } of blocks) if (spare.length < SPARE_MAX) spare.push(memory);
}
