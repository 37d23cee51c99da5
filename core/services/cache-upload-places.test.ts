import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { UploadPlaces } from "./cache-upload-places.ts";

test("a person has so many uploads under way, some that wait, and no more; others are not held up", async () => {
  const places = new UploadPlaces({ allMax: 3, eachMax: 2, waitingMax: 1 });
  const gate = Promise.withResolvers<void>();
  let running = 0;
  const upload = (userId: string) =>
    places.run(userId, async () => {
      running++;
      await gate.promise;
      running--;
    });

  const uploads = [upload("ada"), upload("ada"), upload("ada")];
  await expect(upload("ada")).rejects.toMatchObject({ code: "too_many_requests" });
  const others = [upload("eve"), upload("eve")];
  await setImmediate();
  expect(running, "all together").toBe(3);

  gate.resolve();
  await Promise.all([...uploads, ...others]);
  await upload("ada");
  expect(running).toBe(0);
});

test("an upload that fails gives its place back", async () => {
  const places = new UploadPlaces({ allMax: 1, eachMax: 1, waitingMax: 0 });
  await expect(places.run("ada", () => Promise.reject(new Error("cut off")))).rejects.toThrow("cut off");
  expect(await places.run("ada", async () => "stored")).toBe("stored");
});
