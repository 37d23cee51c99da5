const NONE = -1;
/** Where the entries with the next older one in the chain of the key, and of the alias, lie; then its number. */
const [KEY, ALIAS, NUMBER] = [0, 1, 2] as const;
/** In words of four bytes: how long key, alias and text are, what key and alias hash to, whether it is gone. */
const [LENGTH, TEXT_LENGTH, HASH, IS_GONE] = [6, 8, 9, 11] as const;
const HEAD_BYTES = 48;
/** Of an entry, to choose the number of chains by. */
const USUAL_BYTES = 1024;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export interface RecentTextsLimits {
  readonly blockBytes: number;
  /** With 0 nothing is kept. */
  readonly blocksMax: number;
}

export interface NewText {
  readonly key: string;
  /** Another name that it is found by. Of several with the same one the newest is found. */
  readonly alias: string | null;
  readonly text: string;
  /** Whatever the user of this wants to know with the text. */
  readonly number: number;
}

export type KeptText = Pick<NewText, "text" | "number">;

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
 * at them: 57 000 narinfos in maps were some 800 000 things to look at, every few seconds.
 *
 * Texts are written one behind the other, and the block written first is written anew when there is no other. One that
 * is used while it lies in the older half is written again, in front: what was used within half of the memory is there,
 * and what was not within all of it is not. Entries with the same hash are a chain, from the newest to the oldest, that
 * ends at the first one whose block was written anew.
 */
export class RecentTexts {
  readonly #blockBytes: number;
  readonly #blocksMax: number;
  /** So that nobody can choose names that all fall into one chain. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32) | 0;
  readonly #heads: readonly [keys: Float64Array, aliases: Float64Array];
  readonly #blocks: Block[] = [];
  /** Blocks begun. A position is this many blocks, less one, and an offset in the last of them. */
  #begun = 0;
  /** Of the oldest block that was not written anew. */
  #oldest = 0;

  /** A block has a multiple of eight bytes. */
  constructor({ blockBytes, blocksMax }: RecentTextsLimits) {
    this.#blockBytes = blockBytes;
    this.#blocksMax = blocksMax;
    const chains = 2 ** Math.ceil(Math.log2(Math.max(1, (blockBytes * blocksMax) / USUAL_BYTES)));
    this.#heads = [new Float64Array(chains).fill(NONE), new Float64Array(chains).fill(NONE)];
  }

  get size(): number {
    return this.#blocks.reduce((sum, block) => sum + block.size, 0);
  }

  get(key: string): KeptText | undefined {
    return this.#use(this.#find(KEY, key));
  }

  getByAlias(alias: string): KeptText | undefined {
    return this.#use(this.#find(ALIAS, alias));
  }

  /** In place of what the key had. What is not ASCII, or larger than a block, is not kept. */
  set({ key, alias, text, number }: NewText): void {
    this.delete(key);
    const names = [key, alias ?? ""] as const;
    const length = key.length + names[ALIAS].length + text.length;
    const block = this.#roomFor(HEAD_BYTES + length);
    if (!block) return;
    const offset = block.used;
    const { written } = encoder.encodeInto(key + names[ALIAS] + text, block.bytes.subarray(offset + HEAD_BYTES));
    // Any other character takes more than one byte.
    if (written !== length) return;
    block.numbers[offset / 8 + NUMBER] = number;
    const word = offset / 4;
    for (const name of [KEY, ALIAS] as const) {
      block.words[word + LENGTH + name] = names[name].length;
      block.words[word + HASH + name] = this.#hash(names[name]);
    }
    block.words[word + TEXT_LENGTH] = text.length;
    this.#put(block);
  }

  delete(key: string): void {
    const position = this.#find(KEY, key);
    if (position !== NONE) this.#takeOut(position);
  }

  /** From the oldest to the newest. Walks all of them. */
  keys(): string[] {
    const keys: string[] = [];
    for (let start = this.#oldest; start < this.#begun * this.#blockBytes; start += this.#blockBytes) {
      const block = this.#blockAt(start);
      for (let offset = 0; offset < block.used; offset += bytesOf(block, offset)) {
        const from = offset + HEAD_BYTES;
        const length = block.words[offset / 4 + LENGTH] as number;
        const isGone = block.words[offset / 4 + IS_GONE] === 1;
        if (!isGone) keys.push(decoder.decode(block.bytes.subarray(from, from + length)));
      }
    }
    return keys;
  }

  #use(position: number): KeptText | undefined {
    if (position === NONE) return undefined;
    const block = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    const [from, to] = textOf(block, offset);
    const text = decoder.decode(block.bytes.subarray(from, to));
    const number = block.numbers[offset / 8 + NUMBER] as number;
    const isOld = position < (this.#begun - this.#blocksMax / 2) * this.#blockBytes;
    if (isOld) this.#renew(position);
    return { text, number };
  }

  /** Written once more in front, as if it had just come. */
  #renew(position: number): void {
    const old = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    // Room may be made by writing over the block that it lies in.
    const entry = old.bytes.slice(offset, offset + bytesOf(old, offset));
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
    for (const name of [KEY, ALIAS] as const) {
      if (block.words[offset / 4 + LENGTH + name] === 0) continue;
      const heads = this.#heads[name];
      const chain = this.#chainOf(name, block, offset);
      block.numbers[offset / 8 + name] = heads[chain] as number;
      heads[chain] = position;
    }
    block.used += bytesOf(block, offset);
    block.size++;
  }

  #takeOut(position: number): void {
    const block = this.#blockAt(position);
    const offset = this.#offsetOf(position);
    for (const name of [KEY, ALIAS] as const) {
      if (block.words[offset / 4 + LENGTH + name] === 0) continue;
      const older = block.numbers[offset / 8 + name] as number;
      const chain = this.#chainOf(name, block, offset);
      let newer = this.#heads[name][chain] as number;
      if (newer === position) this.#heads[name][chain] = older;
      while (newer > position) {
        const { numbers } = this.#blockAt(newer);
        const index = this.#offsetOf(newer) / 8 + name;
        newer = numbers[index] as number;
        if (newer === position) numbers[index] = older;
      }
    }
    block.words[offset / 4 + IS_GONE] = 1;
    block.size--;
  }

  #find(name: Name, text: string): number {
    const hash = this.#hash(text);
    const heads = this.#heads[name];
    let position = heads[hash & (heads.length - 1)] as number;
    while (position >= this.#oldest) {
      const block = this.#blockAt(position);
      const offset = this.#offsetOf(position);
      if (block.words[offset / 4 + HASH + name] === hash && isNamed(block, offset, name, text)) return position;
      position = block.numbers[offset / 8 + name] as number;
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

function isNamed({ bytes, words }: Block, offset: number, name: Name, text: string): boolean {
  const [keyLength, length] = [words[offset / 4 + LENGTH + KEY], words[offset / 4 + LENGTH + name]];
  if (length !== text.length) return false;
  const from = offset + HEAD_BYTES + (name === ALIAS ? (keyLength as number) : 0);
  for (let i = 0; i < length; i++) if (bytes[from + i] !== text.charCodeAt(i)) return false;
  return true;
}
