import { expect, test } from "vitest";
import { type Actor, ANONYMOUS } from "../domain/actor.ts";
import { asWalk } from "./walks.ts";

const from = (network: string): Actor => ({
  ...ANONYMOUS,
  client: { address: "2001:db8::1", network, userAgent: null },
});

test("who asks for much at once is refused before others are, and may ask again when some of it is done", async () => {
  const gate = Promise.withResolvers<void>();
  const walk = (asker: Actor | null) => asWalk(asker, () => gate.promise);
  const code = (asker: Actor) =>
    walk(asker).then(
      () => "done",
      ({ code: refusal }) => refusal as string,
    );

  const greedy = Array.from({ length: 20 }, () => code(from("a")));
  const modest = [code(from("b")), code({ ...from("a"), user: { id: "u", username: "u", superuser: false } })];
  gate.resolve();

  const refused = Array.from({ length: 4 }, () => "too_many_requests");
  expect(await Promise.all(greedy)).toEqual([...Array.from({ length: 16 }, () => "done"), ...refused]);
  expect(await Promise.all(modest)).toEqual(["done", "done"]);
  expect(await code(from("a"))).toBe("done");
});

test("when as many wait as may, everybody is told to come later", async () => {
  const gate = Promise.withResolvers<void>();
  const started = Array.from({ length: 68 }, () => asWalk(null, () => gate.promise));

  await expect(asWalk(from("c"), async () => {})).rejects.toMatchObject({ code: "service_unavailable" });
  gate.resolve();
  await Promise.all(started);
});
