import { assert } from "./assert.ts";

const NONE = -1;
const [KEY, ALIAS] = [0, 1] as const;
/** In numbers of eight bytes: the next older and newer entry in the chain of the key, and of the alias; the expiry. */
const [OLDER, NEWER, EXPIRES_AT] = [0, 2, 4] as const;
/** In words of four bytes: how long key, alias and text are, what key and alias hash to, whether it is gone. */
const [LENGTH, TEXT_LENGTH, HASH, IS_GONE] = [10, 12, 13, 15] as const;
const HEAD_BYTES = 64;
/** Of an entry, to choose the number of chains by. */
const USUAL_BYTES = 1024;
/** Before everything that expires. */
const ALWAYS: number = Number.NEGATIVE_INFINITY;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export interface RecentTextsLimits {
  /** A multiple of eight. */
  readonly blockBytes: number;
  /** At least 2; with 0 nothing is kept. */
  readonly blocksMax: number;
}

export interface NewText {
  readonly key: string;
  /** Another name that it is found by, unless it is empty. Of several with the same one the newest is found. */
  readonly alias: string;
  readonly text: string;
  /** It is not found any more at this time, in whatever unit. */
  readonly expiresAt: number;
}

export type KeptText = Pick<NewText, "text" | "expiresAt">;

type Name = typeof KEY | typeof ALIAS;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly numbers: Float64Array;
  readonly words: Int32Array;
  used: number;
  size: number;
}

/**
 * The texts used last, by a key and an alias each. They lie in blocks of bytes, where no collection of V8's heap looks
 * at them: 46 000 narinfos in maps were some 800 000 things to look at, every few seconds.
 *
 * Texts are written one behind the other, and the block written first is written anew when there is no other. One that
 * is used while it lies in the older half is written again, in front: what was used within half of the memory is there,
 * and what was not within all of it is not. Entries with the same hash are a chain, from the newest to the oldest, that
 * ends at the first one whose block was written anew.
 */
export class RecentTexts {
  readonly #blockBytes: number;
  readonly #blocksMax: number;
  /** So that it is hard to choose names that all fall into one chain. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32) | 0;
  readonly #heads: readonly [keys: Float64Array, aliases: Float64Array];
  readonly #blocks: Block[] = [];
  /** Blocks begun. A position is this many blocks, less one, and an offset in the last of them. */
  #begun = 0;
  /** Of the oldest block that was not written anew. */
  #oldest = 0;

  constructor({ blockBytes, blocksMax }: RecentTextsLimits) {
    assert(blockBytes % 8 === 0, "a block has a multiple of eight bytes");
    assert(blocksMax !== 1, "while one block is written anew there is another");
    this.#blockBytes = blockBytes;
    this.#blocksMax = blocksMax;
    const chains = 2 ** Math.ceil(Math.log2(Math.max(1, (blockBytes * blocksMax) / USUAL_BYTES)));
    this.#heads = [new Float64Array(chains).fill(NONE), new Float64Array(chains).fill(NONE)];
  }

  get size(): number {
    return this.#blocks.reduce((sum, block) => sum + block.size, 0);
  }

  get(key: string, now: number): KeptText | undefined {
    return this.#use(this.#find(KEY, key, now));
  }

  getByAlias(alias: string, now: number): KeptText | undefined {
    return this.#use(this.#find(ALIAS, alias, now));
  }

  /** In place of what the key had. What is not ASCII, or larger than a block, is not kept. */
  set({ key, alias, text, expiresAt }: NewText): void {
    this.delete(key);
    const length = key.length + alias.length + text.length;
    const block = this.#roomFor(HEAD_BYTES + length);
    if (!block) return;
    const offset = block.used;
    const { read, written } = encoder.encodeInto(key + alias + text, block.bytes.subarray(offset + HEAD_BYTES));
    // Any other character takes more than one byte, and of a text that does not fit a part is written.
    if (read !== length || written !== length) return;
    block.numbers[offset / 8 + EXPIRES_AT] = expiresAt;
    const word = offset / 4;
    const names = [key, alias] as const;
    for (const name of [KEY, ALIAS] as const) {
      block.words[word + LENGTH + name] = names[name].length;
      block.words[word + HASH + name] = this.#hash(names[name]);
    }
    block.words[word + TEXT_LENGTH] = text.length;
    this.#put(block);
  }

  delete(key: string): void {
    const position = this.#find(KEY, key, ALWAYS);
    if (position !== NONE) this.#takeOut(position);
  }

  /** All whose keys begin so. Walks all of them: 3 ms for 60 000, and 12 ms where all of them go. */
  deleteAll(prefix: string): void {
    for (let start = this.#oldest; start < this.#begun * this.#blockBytes; start += this.#blockBytes) {
      const block = this.#blockAt(start);
      for (let offset = 0; offset < block.used; offset += bytesOf(block, offset)) {
        const isGone = block.words[offset / 4 + IS_GONE] === 1;
        if (!isGone && beginsWith(block, offset, prefix)) this.#takeOut(start + offset);
      }
    }
  }

  #use(position: number): KeptText | undefined {
    if (position === NONE) return undefined;
    const block = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    const [from, to] = textOf(block, offset);
    const text = decoder.decode(block.bytes.subarray(from, to));
    const expiresAt = block.numbers[offset / 8 + EXPIRES_AT] as number;
    const isOld = position < (this.#begun - this.#blocksMax / 2) * this.#blockBytes;
    if (isOld) this.#renew(position);
    return { text, expiresAt };
  }

  /** Written once more in front, as if it had just come, maybe over the block that it lies in. */
  #renew(position: number): void {
    const old = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    const entry = old.bytes.subarray(offset, offset + bytesOf(old, offset));
    this.#takeOut(position);
    const block = this.#roomFor(entry.length);
    if (!block) return;
    block.bytes.set(entry, block.used);
    this.#put(block);
  }

  /** The entry that is written where the block's room begins. */
  #put(block: Block): void {
    const offset = block.used;
    const position = (this.#begun - 1) * this.#blockBytes + offset;
    block.words[offset / 4 + IS_GONE] = 0;
    for (const name of namesOf(block, offset)) {
      const chain = this.#chainOf(name, block, offset);
      this.#link(name, chain, { newer: position, older: this.#heads[name][chain] as number });
      this.#link(name, chain, { newer: NONE, older: position });
    }
    block.used += bytesOf(block, offset);
    block.size++;
  }

  #takeOut(position: number): void {
    const block = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    for (const name of namesOf(block, offset)) {
      const newer = block.numbers[offset / 8 + NEWER + name] as number;
      const older = block.numbers[offset / 8 + OLDER + name] as number;
      this.#link(name, this.#chainOf(name, block, offset), { newer, older });
    }
    block.words[offset / 4 + IS_GONE] = 1;
    block.size--;
  }

  /** Makes two neighbours of a chain know each other. Before the newest is the chain's head. */
  #link(name: Name, chain: number, { newer, older }: { readonly newer: number; readonly older: number }): void {
    if (newer === NONE) this.#heads[name][chain] = older;
    else this.#blockAt(newer).numbers[this.#offsetOf(newer) / 8 + OLDER + name] = older;
    if (older >= this.#oldest) this.#blockAt(older).numbers[this.#offsetOf(older) / 8 + NEWER + name] = newer;
  }

  #find(name: Name, text: string, now: number): number {
    const hash = this.#hash(text);
    const heads = this.#heads[name];
    let position = heads[hash & (heads.length - 1)] as number;
    while (position >= this.#oldest) {
      const { numbers, words, bytes } = this.#blockAt(position);
      const offset = this.#offsetOf(position);
      const isIt =
        words[offset / 4 + HASH + name] === hash &&
        (numbers[offset / 8 + EXPIRES_AT] as number) > now &&
        isNamed({ words, bytes }, offset, { name, text });
      if (isIt) return position;
      position = numbers[offset / 8 + OLDER + name] as number;
    }
    return NONE;
  }

  /** The block that has so much room at its end; null when none has so much at all. */
  #roomFor(bytes: number): Block | null {
    if (bytes > this.#blockBytes || this.#blocksMax === 0) return null;
    const index = (this.#begun - 1) % this.#blocksMax;
    const newest = this.#blocks[index];
    if (newest && newest.used + bytes <= this.#blockBytes) return newest;
    const next = this.#begun % this.#blocksMax;
    const block = this.#blocks[next] ?? newBlock(this.#blockBytes);
    this.#blocks[next] = block;
    this.#begun++;
    this.#oldest = Math.max(0, this.#begun - this.#blocksMax) * this.#blockBytes;
    block.used = 0;
    block.size = 0;
    return block;
  }

  #blockAt(position: number): Block {
    // As an integer: the remainder of a float takes longer than all else here.
    return this.#blocks[((position / this.#blockBytes) >>> 0) % this.#blocksMax] as Block;
  }

  #offsetOf(position: number): number {
    return position - Math.floor(position / this.#blockBytes) * this.#blockBytes;
  }

  #chainOf(name: Name, block: Block, offset: number): number {
    return (block.words[offset / 4 + HASH + name] as number) & (this.#heads[name].length - 1);
  }

  /** FNV-1a, from a start of our own, as a signed number: others of this size are things on V8's heap. */
  #hash(text: string): number {
    let hash = this.#seed;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    return hash ^ (hash >>> 15);
  }
}

function newBlock(length: number): Block {
  const buffer = new ArrayBuffer(length);
  const views = { numbers: new Float64Array(buffer), words: new Int32Array(buffer) };
  return { bytes: new Uint8Array(buffer), ...views, used: 0, size: 0 };
}

function textOf({ words }: Block, offset: number): [from: number, to: number] {
  const word = offset / 4;
  const from = offset + HEAD_BYTES + (words[word + LENGTH + KEY] as number) + (words[word + LENGTH + ALIAS] as number);
  return [from, from + (words[word + TEXT_LENGTH] as number)];
}

/** With what is left free so that the next one begins at a multiple of eight. */
function bytesOf(block: Block, offset: number): number {
  const [, to] = textOf(block, offset);
  return Math.ceil((to - offset) / 8) * 8;
}

/** What it is found by. */
function namesOf({ words }: Block, offset: number): readonly Name[] {
  return words[offset / 4 + LENGTH + ALIAS] === 0 ? [KEY] : [KEY, ALIAS];
}

function isNamed(
  { bytes, words }: Pick<Block, "bytes" | "words">,
  offset: number,
  { name, text }: { readonly name: Name; readonly text: string },
): boolean {
  if (words[offset / 4 + LENGTH + name] !== text.length) return false;
  const from = offset + HEAD_BYTES + (name === ALIAS ? (words[offset / 4 + LENGTH + KEY] as number) : 0);
  return isTextAt(bytes, from, text);
}

function beginsWith({ bytes, words }: Block, offset: number, prefix: string): boolean {
  return prefix.length <= (words[offset / 4 + LENGTH + KEY] as number) && isTextAt(bytes, offset + HEAD_BYTES, prefix);
}

function isTextAt(bytes: Uint8Array, from: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[from + i] !== text.charCodeAt(i)) return false;
  return true;
}
