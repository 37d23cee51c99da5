import type { End } from "./ends.ts";

/** What `nix-store --realise --dry-run` says of a path that is to be fetched. */
export interface FetchPlan {
  readonly unpackedBytes: number;
  /** In no cache and not in the store. */
  readonly missing: readonly string[];
}

/** Nix before 2.17 says all sizes in MiB; later ones take the unit that fits. */
const UNITS: readonly string[] = ["", "K", "M", "G", "T", "P", "E"];

/** Of standard error; a Nix that says nothing has everything. */
export function parseFetchPlan(text: string): FetchPlan {
  const unpacked = /will be fetched \([\d.]+ ?\S+ download, ([\d.]+) ?([KMGTPE]?)i?B unpacked\)/.exec(text);
  const missing: string[] = [];
  let inMissing = false;
  for (const line of text.split("\n")) {
    const path = /^\s+(\/nix\/store\/\S+)$/.exec(line)?.[1];
    if (path && inMissing) missing.push(path);
    else if (!path) inMissing = /don't know how to build these paths/.test(line);
  }
  const [, size = "0", unit = ""] = unpacked ?? [];
  return { unpackedBytes: Math.ceil(Number(size) * 1_024 ** UNITS.indexOf(unit)), missing };
}

/** What went wrong with `nix-store --realise`, by the words that Nix has for it. */
export function classifyFailure(text: string): { readonly end: End; readonly paths: readonly string[] } {
  const paths = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, path]) => path as string);
  if (/No space left on device|database or disk is full/i.test(text)) return { end: "disk-full", paths: [] };
  const unsigned = [
    ...paths(/substitute for ["'](\/nix\/store\/[^"']+)["'] from .{1,500}not signed by any of the keys/g),
    ...paths(/cannot add path ["'](\/nix\/store\/[^"']+)["'] because it lacks a (?:valid )?signature/g),
  ];
  if (unsigned.length > 0) return { end: "bad-signature", paths: unsigned };
  const { missing } = parseFetchPlan(text);
  const absent = paths(/path ["'](\/nix\/store\/[^"']+)["'] (?:does not exist|is required, but|.{0,40}cannot be)/g);
  if (missing.length > 0 || absent.length > 0) return { end: "missing-path", paths: [...missing, ...absent] };
  if (/does not exist in binary cache/.test(text)) {
    // The line before says which path was being copied.
    const copied = paths(
      /copying path ["'](\/nix\/store\/[^"']+)["'] from [^\n]*\n[^\n]*does not exist in binary cache/g,
    );
    return { end: "missing-path", paths: copied };
  }
  return { end: "download-failed", paths: [] };
}
