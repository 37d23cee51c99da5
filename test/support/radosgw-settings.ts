import { randomBytes } from "node:crypto";

export interface RadosgwPlace {
  readonly folder: string;
  readonly fsid: string;
  readonly monitorPort: number;
  readonly port: number;
}

/**
 * ceph.conf of one monitor, one store in memory and one gateway, all on the loopback. What it waits for other monitors
 * and copies is turned down, so that it answers within five seconds.
 */
export function radosgwSettings({ folder, fsid, monitorPort, port }: RadosgwPlace): string {
  const settings = {
    fsid,
    "mon host": `[v2:127.0.0.1:${monitorPort}]`,
    "public addr": "127.0.0.1",
    "cluster addr": "127.0.0.1",
    "ms bind ipv6": "false",
    keyring: `${folder}/keyring`,
    "run dir": `${folder}/run`,
    "admin socket": `${folder}/run/$name.asok`,
    "log file": "/dev/null",
    "mon data": `${folder}/mon`,
    "osd data": `${folder}/osd`,
    "rgw data": `${folder}/rgw`,
    "osd objectstore": "memstore",
    "memstore device bytes": "8589934592",
    "osd pool default size": "1",
    "osd pool default min size": "1",
    "osd pool default pg num": "1",
    "osd pool default pgp num": "1",
    "osd pool default pg autoscale mode": "off",
    "osd crush chooseleaf type": "0",
    "mon allow pool size one": "true",
    "mon max pg per osd": "1000",
    "paxos propose interval": "0.05",
    "paxos min wait": "0.01",
    // Without tcp_nodelay small objects come at 22 a second.
    "rgw frontends": `beast endpoint=127.0.0.1:${port} tcp_nodelay=1`,
    "rgw thread pool size": "64",
    "rgw run sync thread": "false",
    "rgw enable quota threads": "false",
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return `[global]\n${lines.join("\n")}\n`;
}

/** One file for all three: radosgw does not connect without cephx. */
export function radosgwKeyring(): string {
  const all = { mon: "allow *", osd: "allow *", mgr: "allow *" };
  const entries = {
    "mon.": { mon: "allow *" },
    "client.admin": all,
    "osd.0": { ...all, mon: "allow profile osd" },
  };
  return Object.entries(entries)
    .map(([name, rights]) => {
      const lines = Object.entries(rights).map(([service, right]) => `\tcaps ${service} = "${right}"`);
      return `[${name}]\n\tkey = ${cephKey()}\n${lines.join("\n")}\n`;
    })
    .join("");
}

/** Of ceph's CryptoKey: type AES (1), seconds, nanoseconds, length, the key. */
function cephKey(): string {
  const head = Buffer.alloc(12);
  head.writeUInt16LE(1, 0);
  head.writeUInt32LE(Math.floor(Date.now() / 1_000), 2);
  head.writeUInt16LE(16, 10);
  return Buffer.concat([head, randomBytes(16)]).toString("base64");
}
