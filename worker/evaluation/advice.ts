/** Of Nix since 2.8; which words follow differs. */
const DISABLED_KIND = /experimental Nix feature '(?:impure|dynamic)-derivations' is disabled/;

/** Nix's words on an attribute, and where following them would lead nowhere, that. */
export function withAdvice(error: string): string {
  if (!DISABLED_KIND.test(error)) return error;
  return `${error}\nTurning the feature on does not help: derivations of that kind are not built here`;
}
