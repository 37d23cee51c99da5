import type { StorePath } from "#core/nix/store-path.ts";

/** Paths that refer to each other in a circle: no store has such. */
export class ReferenceCycleError extends Error {
  override readonly name = "ReferenceCycleError";
}

/**
 * Runs a task for each path, after those of the paths it refers to, at most `limit` at a time. After a failure nothing
 * more is begun; when what runs has settled the first failure is thrown.
 */
export async function inReferenceOrder(
  references: ReadonlyMap<StorePath, readonly StorePath[]>,
  limit: number,
  run: (path: StorePath) => Promise<void>,
): Promise<void> {
  const { ready, waitingFor, referrers } = arrange(references);
  const finished = Promise.withResolvers<void>();
  let failure: { readonly error: unknown } | null = null;
  let next = 0;
  let running = 0;

  const proceed = () => {
    while (!failure && running < limit && next < ready.length) {
      running++;
      void work(ready[next++] as StorePath);
    }
    if (running === 0) finished.resolve();
  };
  const work = async (path: StorePath) => {
    try {
      await run(path);
      for (const referrer of referrers.get(path) ?? []) {
        const left = (waitingFor.get(referrer) as number) - 1;
        waitingFor.set(referrer, left);
        if (left === 0) ready.push(referrer);
      }
    } catch (error) {
      failure ??= { error };
    }
    running--;
    proceed();
  };
  proceed();
  await finished.promise;
  if (failure) throw (failure as { readonly error: unknown }).error;
  if (next < references.size) {
    const stuck = [...waitingFor].find(([, left]) => left > 0)?.[0];
    throw new ReferenceCycleError(`${stuck} and others refer to each other in a circle`);
  }
}

function arrange(references: ReadonlyMap<StorePath, readonly StorePath[]>): {
  readonly ready: StorePath[];
  readonly waitingFor: Map<StorePath, number>;
  readonly referrers: ReadonlyMap<StorePath, readonly StorePath[]>;
} {
  const ready: StorePath[] = [];
  const waitingFor = new Map<StorePath, number>();
  const referrers = new Map<StorePath, StorePath[]>();
  for (const [path, targets] of references) {
    const inside = [...new Set(targets)].filter((target) => target !== path && references.has(target));
    if (inside.length === 0) ready.push(path);
    else waitingFor.set(path, inside.length);
    for (const target of inside) {
      const known = referrers.get(target);
      if (known) known.push(path);
      else referrers.set(target, [path]);
    }
  }
  return { ready, waitingFor, referrers };
}
