import * as v from "valibot";
import { isUuid, isUuidV4 } from "../lib/ids.ts";
import { parseStorePath, type StorePath } from "../nix/store-path.ts";
import { LOCKED_INPUTS_MAX } from "./limits.ts";

export const Uuid: v.GenericSchema<string> = v.pipe(v.string(), v.check(isUuid, "not a UUID"));
export const WorkerId: v.GenericSchema<string> = v.pipe(v.string(), v.check(isUuidV4, "not a UUID version 4"));

/** A full store path, `/nix/store/<hash>-<name>`. */
export const StorePathField: v.GenericSchema<StorePath> = v.custom<StorePath>(
  (value) => typeof value === "string" && parseStorePath(value) !== null,
  "not a store path",
);

/** The first part of a store path's name. */
export const StoreHashField: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.regex(/^[0-9abcdfghijklmnpqrsvwxyz]{32}$/, "not the hash of a store path"),
);

/** A SHA-256 as 64 lower-case hexadecimal digits. */
export const Sha256Hex: v.GenericSchema<string> = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256"));

export const Count: v.GenericSchema<number> = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const Size: v.GenericSchema<number> = Count;
export const StreamId: v.GenericSchema<number> = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0xffffffff));

export function text(charactersMax: number): v.GenericSchema<string> {
  return v.pipe(v.string(), v.maxLength(charactersMax, `longer than ${charactersMax} characters`));
}

export function list<T>(item: v.GenericSchema<T>, countMax: number): v.GenericSchema<T[]> {
  return v.pipe(v.array(item), v.maxLength(countMax, `more than ${countMax} items`));
}

/** Data that follows on the bulk lane. */
export interface StreamField {
  readonly stream: number;
  readonly size: number;
}
export const StreamField: v.GenericSchema<StreamField> = v.strictObject({ stream: StreamId, size: Size });

/** An input that is not what the flake's lock says. `url` null: the newest state of what the flake names. */
export interface InputOverrideField {
  readonly input: string;
  readonly url: string | null;
}
export const InputOverrideField: v.GenericSchema<InputOverrideField> = v.object({
  input: text(128),
  url: v.nullable(text(2048)),
});

/** An input of the flake as its lock file names it: for people. */
export interface LockedInputField {
  readonly name: string;
  /** What is locked, without its revision. */
  readonly source: string;
  readonly revision: string | null;
  /** Seconds since 1970, up to the year 9999. */
  readonly last_modified: number | null;
}
export const LockedInputField: v.GenericSchema<LockedInputField> = v.object({
  name: text(200),
  source: text(1000),
  revision: v.nullable(text(200)),
  last_modified: v.nullable(v.pipe(Count, v.maxValue(253_402_300_799, "beyond the year 9999"))),
});

/** What is told of a commit. `inputs`: absent where the flake's lock is not known. */
export const CommitField = v.object({
  message: text(1024),
  author: text(256),
  inputs: v.optional(list(LockedInputField, LOCKED_INPUTS_MAX)),
});

/** A flake with what its evaluation reads, in the organization's internal store. */
export interface StoredSourceField {
  readonly reference: string;
  /** The flake is an input of the one that is referred to. */
  readonly wrapped: boolean;
  readonly paths: StorePath[];
}
export const StoredSourceField: v.GenericSchema<StoredSourceField> = v.object({
  reference: text(4096),
  wrapped: v.boolean(),
  paths: list(StorePathField, 10_000),
});

/** Systems, features, output names: short words without white space or control characters. */
export const Word: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x7e]{1,211}$/, "not a short word of printable characters"),
);
/** One name of an attribute path. */
export const AttributeName: v.GenericSchema<string> = text(4096);
export const AttributePath: v.GenericSchema<string[]> = list(AttributeName, 64);

/** What is known of a store path beside its bytes. */
export interface PathInfoField {
  readonly path: StorePath;
  readonly nar_hash: string;
  readonly nar_size: number;
  readonly references: StorePath[];
  readonly deriver: StorePath | null;
  readonly ca: string | null;
}
export const PathInfoField: v.GenericSchema<PathInfoField> = v.object({
  path: StorePathField,
  nar_hash: Sha256Hex,
  nar_size: Size,
  references: list(StorePathField, 10_000),
  deriver: v.nullable(StorePathField),
  ca: v.nullable(text(1024)),
});
