import { chunksOf } from "#core/lib/chunks.ts";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import {
  type BasicDerivation,
  BuildMode,
  type BuildModeName,
  type BuildResult,
  readBuildResult,
  writeBasicDerivation,
} from "#core/nix/daemon/build.ts";
import { type DerivedPath, formatDerivedPath } from "#core/nix/daemon/derived-path.ts";
import { DaemonProtocolError } from "#core/nix/daemon/errors.ts";
import {
  type GarbageRequest,
  type GarbageResult,
  readGarbageResult,
  writeGarbageRequest,
} from "#core/nix/daemon/garbage.ts";
import type { DaemonGreeting } from "#core/nix/daemon/handshake.ts";
import { Operation, type OperationName } from "#core/nix/daemon/numbers.ts";
import { type DaemonOptions, writeOptions } from "#core/nix/daemon/options.ts";
import {
  type DaemonPathInfo,
  type NewPathInfo,
  readOptionalStorePath,
  readPathInfo,
  readStorePaths,
  writePathInfo,
} from "#core/nix/daemon/path-info.ts";
import { type GcRoot, type MissingPaths, readGcRoot, readMissingPaths } from "#core/nix/daemon/queries.ts";
import type { DaemonReader } from "#core/nix/daemon/reader.ts";
import { DaemonWriter } from "#core/nix/daemon/writer.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { exactNar, importPayload, type NarImport, readNar, sendFramed } from "./nar.ts";
import { DaemonSession, type OperationOptions } from "./session.ts";

/** Their answers, 16 bytes each, fit into any socket's buffer: the daemon never waits for us to read. */
const QUESTIONS_TOGETHER_MAX = 64;

export interface ConnectOptions {
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

export interface ImportOptions extends OperationOptions {
  /** Replaces what is there already. Default false: the daemon then drops the bytes. */
  readonly repair?: boolean;
  /** Default true. False needs a trusted user; for others the daemon checks all the same. */
  readonly checkSignatures?: boolean;
}

export interface BuildOptions extends OperationOptions {
  readonly mode?: BuildModeName;
}

/** A result with times of our own: a daemon's times may be missing. */
export interface TimedBuildResult extends BuildResult {
  /** Milliseconds since the Unix epoch, when the request was sent. */
  readonly startedAtMs: number;
  readonly durationMs: number;
}

/**
 * One connection to a nix-daemon (Nix 2.8 or later). One operation at a time: the next begins when the previous has
 * settled, and a stream of bytes was read to its end or left.
 *
 * Every operation may throw `DaemonError` (refused; the connection goes on if `usable`), `DaemonConnectionError`,
 * `DaemonProtocolError` or the signal's reason; after the last three the connection is closed. What the connection
 * adds or builds is safe from garbage collection until it is closed.
 */
export class DaemonConnection implements Disposable {
  /** When it was asked for, and when the daemon had answered; by the clock's `monotonic`. */
  readonly opened: { readonly fromMs: number; readonly untilMs: number };
  readonly #session: DaemonSession;
  readonly #clock: Clock;

  static async open(
    socketPath: string,
    { signal, clock = systemClock }: ConnectOptions = {},
  ): Promise<DaemonConnection> {
    const fromMs = clock.monotonic();
    return new DaemonConnection(await DaemonSession.open(socketPath, signal), clock, fromMs);
  }

  private constructor(session: DaemonSession, clock: Clock, fromMs: number) {
    this.#session = session;
    this.#clock = clock;
    this.opened = { fromMs, untilMs: clock.monotonic() };
  }

  get greeting(): DaemonGreeting {
    return this.#session.greeting;
  }

  /** Whether another operation may begin: none is running, and none was left unfinished. */
  get usable(): boolean {
    return this.#session.usable;
  }

  /** Asks the daemon something simple. False: the connection is closed now. */
  probe(): Promise<boolean> {
    return this.#session.probe();
  }

  /** At once; an operation that runs ends in the daemon too. */
  close(): void {
    this.#session.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Holds for the rest of the connection. Overrides that were set before and are not named keep their value. */
  async setOptions(settings: DaemonOptions, options?: OperationOptions): Promise<void> {
    await this.#session.request("setOptions", (writer) => writeOptions(writer, settings), nothing, options);
  }

  isValidPath(path: StorePath, options?: OperationOptions): Promise<boolean> {
    const read = (reader: DaemonReader) => reader.boolean("valid");
    return this.#session.request("isValidPath", (writer) => writer.text(path), read, options);
  }

  /** Those of the paths that are in the store; nothing is substituted. */
  async queryValidPaths(paths: Iterable<StorePath>, options?: OperationOptions): Promise<Set<StorePath>> {
    const valid = await this.#session.request(
      "queryValidPaths",
      (writer) => writer.texts(paths).boolean(false),
      (reader) => readStorePaths(reader, "valid paths"),
      options,
    );
    return new Set(valid);
  }

  /** Null when the path is not in the store. */
  queryPathInfo(path: StorePath, options?: OperationOptions): Promise<DaemonPathInfo | null> {
    return this.#session.request(
      "queryPathInfo",
      (writer) => writer.text(path),
      async (reader) => ((await reader.boolean("valid")) ? await readPathInfo(reader, path) : null),
      options,
    );
  }

  /** The path with these 32 characters, or null. */
  queryPathFromHashPart(hashPart: string, options?: OperationOptions): Promise<StorePath | null> {
    const read = (reader: DaemonReader) => readOptionalStorePath(reader, "path of hash part");
    return this.#session.request("queryPathFromHashPart", (writer) => writer.text(hashPart), read, options);
  }

  queryMissing(targets: Iterable<DerivedPath>, options?: OperationOptions): Promise<MissingPaths> {
    const write = (writer: DaemonWriter) => writer.texts([...targets].map(formatDerivedPath));
    return this.#session.request("queryMissing", write, readMissingPaths, options);
  }

  /**
   * Streams the NAR of a path as `queryPathInfo` described it: exactly `narSize` bytes, at the reader's pace. Throws
   * `NarSizeError` when the files do not make such a NAR. The bytes are not hashed here. A reader that stops early
   * closes the connection.
   */
  narFromPath(
    info: Pick<DaemonPathInfo, "path" | "narSize">,
    options: OperationOptions = {},
  ): AsyncGenerator<Uint8Array> {
    return readNar(this.#session, info, options);
  }

  /**
   * Imports one path. The daemon checks the hash, that all references are there and, if asked to, a signature. Throws
   * `NarSizeError` when the stream is not `narSize` bytes long.
   */
  async addToStoreNar(info: NewPathInfo, nar: ByteStream, options: ImportOptions = {}): Promise<void> {
    await this.#session.run(options, async (channel) => {
      const writer = new DaemonWriter().word(Operation.addToStoreNar);
      writePathInfo(writer, info);
      writer.boolean(options.repair ?? false).boolean(!(options.checkSignatures ?? true));
      await channel.socket.write(writer.finish());
      await sendFramed(channel, exactNar(info, nar));
    });
  }

  /** Imports `count` paths in one go, each after what it refers to. Paths before one that is refused may be there. */
  async addMultipleToStore(items: AsyncIterable<NarImport>, count: number, options: ImportOptions = {}): Promise<void> {
    await this.#session.run(options, async (channel) => {
      const writer = new DaemonWriter().word(Operation.addMultipleToStore);
      writer.boolean(options.repair ?? false).boolean(!(options.checkSignatures ?? true));
      await channel.socket.write(writer.finish());
      await sendFramed(channel, importPayload(items, count));
    });
  }

  /**
   * Builds a derivation by value; the `.drv` need not be in the store, and its path is only a name. All inputs must be
   * there. A build that fails is a result, not an exception. Lines of the log come through `onEvent` (`buildLogLine`).
   * Needs a trusted user, except for fixed outputs.
   */
  async buildDerivation(
    drvPath: StorePath,
    derivation: BasicDerivation,
    options: BuildOptions = {},
  ): Promise<TimedBuildResult> {
    const [startedAtMs, start] = [this.#clock.now(), this.#clock.monotonic()];
    const write = (writer: DaemonWriter) => {
      writer.text(drvPath);
      writeBasicDerivation(writer, derivation);
      writer.word(BuildMode[options.mode ?? "normal"]);
    };
    const result = await this.#session.request("buildDerivation", write, readBuildResult, options);
    return { ...result, startedAtMs, durationMs: this.#clock.monotonic() - start };
  }

  /**
   * Builds derivations that are in the store, or substitutes paths. Keyed by `formatDerivedPath` of what was asked;
   * what was not tried, because something else failed first, may be absent (Nix 2.34) or a `misc-failure` without a
   * message (earlier ones).
   */
  async buildPathsWithResults(
    targets: readonly DerivedPath[],
    options: BuildOptions = {},
  ): Promise<Map<string, BuildResult>> {
    const results = await this.#session.request(
      "buildPathsWithResults",
      (writer) => writer.texts(targets.map(formatDerivedPath)).word(BuildMode[options.mode ?? "normal"]),
      (reader, minor) =>
        reader.list("results", async (): Promise<[string, BuildResult]> => {
          const target = await reader.text("derived path");
          return [target, await readBuildResult(reader, minor)];
        }),
      options,
    );
    return new Map(results);
  }

  /** Makes sure that a path is there, by substitution when the connection's options allow it. Throws `DaemonError`. */
  async ensurePath(path: StorePath, options?: OperationOptions): Promise<void> {
    await this.#confirmed("ensurePath", (writer) => writer.text(path), options);
  }

  /** Keeps a path from garbage collection until the connection is closed. The path need not be there yet. */
  async addTempRoot(path: StorePath, options?: OperationOptions): Promise<void> {
    await this.#confirmed("addTempRoot", (writer) => writer.text(path), options);
  }

  /** The same for many, in questions that are sent together: an input costs no waiting of its own. */
  async addTempRoots(paths: readonly StorePath[], options: OperationOptions = {}): Promise<void> {
    if (paths.length === 0) return;
    await this.#session.run(options, async ({ socket, reader, untilAnswer }) => {
      for (const some of chunksOf(paths, QUESTIONS_TOGETHER_MAX)) {
        const writer = new DaemonWriter();
        for (const path of some) writer.word(Operation.addTempRoot).text(path);
        await socket.write(writer.finish());
        for (const _ of some) {
          await untilAnswer();
          await reader.word();
        }
      }
    });
  }

  /** Registers a symbolic link that exists already, by its absolute path: it is a root while it is there. */
  async addIndirectRoot(link: string, options?: OperationOptions): Promise<void> {
    await this.#confirmed("addIndirectRoot", (writer) => writer.text(link), options);
  }

  /** The daemon makes the link. Throws `DaemonProtocolError` before protocol 1.36: use `addIndirectRoot` there. */
  async addPermRoot(path: StorePath, link: string, options?: OperationOptions): Promise<void> {
    if (this.greeting.minor < 36) throw new DaemonProtocolError("this nix-daemon makes no roots: make an indirect one");
    const read = (reader: DaemonReader) => reader.text("root");
    await this.#session.request("addPermRoot", (writer) => writer.text(path).text(link), read, options);
  }

  findRoots(options?: OperationOptions): Promise<GcRoot[]> {
    const read = (reader: DaemonReader) => reader.list("roots", () => readGcRoot(reader));
    return this.#session.request("findRoots", () => {}, read, options);
  }

  collectGarbage(request: GarbageRequest, options?: OperationOptions): Promise<GarbageResult> {
    const write = (writer: DaemonWriter) => writeGarbageRequest(writer, request);
    return this.#session.request("collectGarbage", write, readGarbageResult, options);
  }

  /** Signatures as in a narinfo: `key-name:base64`. Needs a trusted user on Nix 2.8. */
  async addSignatures(path: StorePath, signatures: readonly string[], options?: OperationOptions): Promise<void> {
    await this.#confirmed("addSignatures", (writer) => writer.text(path).texts(signatures), options);
  }

  /** For requests that are answered with a 1 that says nothing. */
  async #confirmed(name: OperationName, write: (writer: DaemonWriter) => void, options?: OperationOptions) {
    await this.#session.request(name, write, (reader) => reader.word(), options);
  }
}

async function nothing(): Promise<void> {}
