import { argon2Hasher } from "#runtime/node/password-hasher.ts";

/** Verifies a password over and over for the seconds that it is told, as many at a time as the hasher takes. */
const [stored = "", password = ""] = process.argv.slice(2);
const AT_ONCE = 8;

process.on("message", (seconds: number) => {
  void verifyFor(seconds).then((rate) => process.send?.(rate));
});
process.send?.("ready");

async function verifyFor(seconds: number): Promise<number> {
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1000;
  let count = 0;
  const work = async (): Promise<void> => {
    while (performance.now() < endsAt) {
      if (!(await argon2Hasher.verify(stored, password)))
        throw new Error("the password is not the one that was hashed");
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return (count * 1000) / (performance.now() - startedAt);
}
