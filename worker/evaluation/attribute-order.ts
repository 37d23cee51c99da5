/** Names from the flake's outputs downwards. A name may hold anything, dots and quotes included. */
export type AttributePath = readonly string[];

/** Equal for equal paths only: what maps and sets are keyed by. */
export function attributeKey(path: AttributePath): string {
  return JSON.stringify(path);
}

/** Name by name. A path comes before what is below it. */
export function compareAttributes(a: AttributePath, b: AttributePath): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const [left, right] = [a[i] as string, b[i] as string];
    if (left !== right) return left < right ? -1 : 1;
  }
  return a.length - b.length;
}
