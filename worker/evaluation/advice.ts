/** Of Nix since 2.8; which words follow differs. */
const DISABLED_KIND = /experimental Nix feature '(ca|impure|dynamic)-derivations' is disabled/;

/** Nix's words on an attribute, and where following them would lead nowhere, what does. */
export function withAdvice(error: string): string {
  switch (DISABLED_KIND.exec(error)?.[1]) {
    case undefined:
      return error;
    // The evaluator has it: these words are the daemon's.
    case "ca":
      return `${error}\nThe nix-daemon of the worker must have ca-derivations among its experimental-features`;
    default:
      return `${error}\nTurning the feature on does not help: derivations of that kind are not built here`;
  }
}
