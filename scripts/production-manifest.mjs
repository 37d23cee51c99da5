// Leaves of package.json and package-lock.json in a folder what server and worker run with: no packages for
// development, and no binaries of PostgreSQL and Node, which Nix has itself.
//
//   node production-manifest.mjs FOLDER
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
if (folder === undefined) throw new Error("usage: node production-manifest.mjs FOLDER");
const manifestPath = join(folder, "package.json");
const lockPath = join(folder, "package-lock.json");
const manifest = JSON.parse(readFileSync(manifestPath, "utf8"));
const lock = JSON.parse(readFileSync(lockPath, "utf8"));

/** Where a package at this place finds another: beside its own packages, or above. */
function find(from, name) {
  for (let place = from; ; place = place.slice(0, Math.max(0, place.lastIndexOf("/node_modules/")))) {
    const candidate = place === "" ? `node_modules/${name}` : `${place}/node_modules/${name}`;
    if (candidate in lock.packages) return candidate;
    if (place === "") return null;
  }
}

const kept = new Set();
const waiting = Object.keys(manifest.dependencies).map((name) => ["", name]);
for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
  const place = find(...next);
  if (place === null || kept.has(place)) continue;
  kept.add(place);
  const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = lock.packages[place];
  const peers = Object.keys(peerDependencies ?? {}).filter((name) => peerDependenciesMeta?.[name]?.optional !== true);
  for (const name of [...Object.keys({ ...dependencies, ...optionalDependencies }), ...peers]) {
    waiting.push([place, name]);
  }
}

const { name, version, type, dependencies, overrides } = manifest;
writeFileSync(
  manifestPath,
  `${JSON.stringify({ name, version, private: true, type, dependencies, overrides }, null, 2)}\n`,
);
const packages = Object.entries(lock.packages).filter(([place]) => kept.has(place));
const root = { name, version, dependencies };
writeFileSync(
  lockPath,
  `${JSON.stringify({ ...lock, packages: { "": root, ...Object.fromEntries(packages) } }, null, 2)}\n`,
);
