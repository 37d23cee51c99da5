export interface PackageVersion {
  readonly name: string;
  /** Null where the name has none. */
  readonly version: string | null;
}

/** At the first dash that no letter follows, as `builtins.parseDrvName` divides: `hello-2.12` is `hello`, `2.12`. */
const DIVIDED = /^(.*?)-([^a-zA-Z].*)$/s;

/** The name of a package, and its version. Takes names as derivations have them, without a hash before and `.drv`. */
export function packageVersion(text: string): PackageVersion {
  const match = DIVIDED.exec(text);
  return match ? { name: match[1] as string, version: match[2] as string } : { name: text, version: null };
}
