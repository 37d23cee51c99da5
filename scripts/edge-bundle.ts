import { isBuiltin } from "node:module";
import { join } from "node:path";
import { build, type Plugin } from "esbuild";
import { ROOT } from "./source-files.ts";

export interface EdgeBundle {
  /** An ES module. */
  readonly text: string;
  /** Modules of Node that it asks Workers for, by their names without `node:`, sorted. */
  readonly nodeModules: readonly string[];
}

/** The Worker of runtime/cloudflare as one module, bundled as by wrangler. Throws what esbuild could not resolve. */
export async function bundleEdge(): Promise<EdgeBundle> {
  const used = new Set<string>();
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, "runtime/cloudflare/index.ts")],
    absWorkingDir: ROOT,
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    mainFields: ["browser", "module", "main"],
    plugins: [nodeModules(used)],
    external: ["cloudflare:*"],
    logLevel: "error",
  });
  return { text: outputFiles[0]?.text ?? "", nodeModules: [...used].sort() };
}

/** Workers have Node's modules under their names with `node:` only, and no `require`. */
function nodeModules(used: Set<string>): Plugin {
  return {
    name: "modules of Node",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => {
        if (!isBuiltin(path)) return null;
        const name = path.replace(/^node:/, "");
        used.add(name);
        return kind === "require-call"
          ? { path: name, namespace: "required" }
          : { path: `node:${name}`, external: true };
      });
      onLoad({ filter: /.*/, namespace: "required" }, ({ path }) => ({
        contents: `import * as all from "node:${path}"; module.exports = all.default ?? all;`,
        loader: "js",
      }));
    },
  };
}
