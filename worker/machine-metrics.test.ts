import { expect, test } from "vitest";
import { parseWorkerMessage } from "#core/protocol/worker-messages.ts";
import { countDiskBytes, countNetworkBytes, createMachineMetrics } from "./machine-metrics.ts";

test("what this machine measures is what the protocol has room for", async () => {
  const read = createMachineMetrics();
  await read();
  const metrics = await read();
  expect(parseWorkerMessage({ type: "worker_metrics", ...metrics })).toMatchObject(metrics);
  expect(metrics.ram_free_mb).toBeGreaterThan(0);
});

test("disks are counted once: neither their parts nor what lies on top of them", () => {
  const line = (name: string, read: number, written: number) => ` 8 0 ${name} 10 0 ${read} 5 20 0 ${written} 9 0 0 0`;
  const names = ["sda", "sda1", "dm-0", "loop0", "nvme0n1", "nvme0n1p2"];
  expect(countDiskBytes(names.map((name) => line(name, 100, 10)).join("\n"))).toBe(2 * 110 * 512);
});

test("the loopback is no network", () => {
  const text = [
    "Inter-|   Receive                                                |  Transmit",
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier",
    "    lo: 9000 1 0 0 0 0 0 0 9000 1 0 0 0 0 0 0",
    "  eth0: 300 1 0 0 0 0 0 0 40 1 0 0 0 0 0 0",
    "enp1s0:7 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0",
  ].join("\n");
  expect(countNetworkBytes(text)).toBe(350);
});
