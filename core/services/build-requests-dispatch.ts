import type { Transaction } from "kysely";
import type { BuildOrder, DispatchView } from "../api/build-requests.ts";
import { countMissingBlobs, listStoredFiles, markDispatched, type StoredSourceFile } from "../db/build-requests.ts";
import { ensureRequestProject, findWritableCacheName } from "../db/build-requests-project.ts";
import type { Database } from "../db/schema.ts";
import { deleteSourceBlob } from "../db/source-blobs.ts";
import type { InputOverride } from "../db/tables/flake-inputs.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { orderSourceFiles, walkSource } from "../domain/source-tree.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ByteStream } from "../lib/streams.ts";
import { AttributePatternError, parseAttributePatterns } from "../nix/attribute-pattern.ts";
import { inputPatternProblem } from "../nix/input-pattern.ts";
import { checkInputUrl, InputUrlError } from "../nix/input-url.ts";
import { writeNar } from "../nix/nar-writer.ts";
import type { StorePath } from "../nix/store-path.ts";
import { alreadyDispatched, requireOpenRequest } from "./build-requests.ts";
import type { BuildRequestDeps } from "./build-requests-deps.ts";
import { createEvaluation } from "./evaluations-create.ts";
import { storeSource } from "./source-store.ts";

/** A source has no commit; the evaluation says so by the one that git never gives. */
const NO_COMMIT = "0".repeat(40);
/** Of a NAR beside the contents: names and what frames them. */
const NAR_BYTES_PER_FILE = 1_024;

/** Has the request's source evaluated and built. Whoever asks twice is told of the first. */
export async function dispatchBuildRequest(
  deps: BuildRequestDeps,
  actor: Actor,
  requestId: string,
  order: BuildOrder,
): Promise<DispatchView> {
  const { organizationId } = await requireOpenRequest(deps, actor, requestId);
  checkOrder(deps, order);
  const missing = await countMissingBlobs(deps.db, requestId);
  if (missing > 0) {
    throw new DomainError("conflict", `${missing} contents of the source are missing: send them first`);
  }
  const files = orderSourceFiles(await listStoredFiles(deps.db, requestId));
  const path = await storeSource(deps, organizationId, {
    open: () => writeNar(walkSource(files, (file) => readBlob(deps, file as StoredSourceFile))),
    bytesMax: deps.sourceBytesMax + files.length * NAR_BYTES_PER_FILE,
  });
  const taken = async (trx: Transaction<Database>, evaluationId: string) => {
    if (!(await markDispatched(trx, requestId, evaluationId))) throw alreadyDispatched(null);
  };
  return await buildSource(deps, actor, { organizationId, path, order, taken });
}

export interface SourceToBuild {
  readonly organizationId: string;
  /** In the organization's internal store. */
  readonly path: StorePath;
  readonly order: BuildOrder;
  /** Called with the evaluation: throws when what was sent has been built already. */
  readonly taken: (trx: Transaction<Database>, evaluationId: string) => Promise<void>;
}

/** Takes an order that `checkOrder` passed. */
export async function buildSource(
  deps: BuildRequestDeps,
  actor: Actor,
  { organizationId, path, order, taken }: SourceToBuild,
): Promise<DispatchView> {
  const startedBy = requireUser(actor).id;
  const id = uuidV7(deps.clock.now(), deps.random);
  const project = await ensureRequestProject(deps.db, { id, organizationId, createdBy: startedBy });
  const { id: evaluation } = await createEvaluation(deps, {
    projectId: project.id,
    organizationId,
    repository: path,
    commit: NO_COMMIT,
    startedBy,
    concurrency: "all",
    source: {
      wildcard: wildcardOf(order),
      commitMessage: `Source ${path.slice("/nix/store/".length)}`,
      overrides: order.input_overrides.map(({ input_name, url }): InputOverride => ({ input: input_name, url })),
    },
    within: taken,
  });
  const cache = await findWritableCacheName(deps.db, organizationId);
  return { evaluation, project: project.id, commit: NO_COMMIT, cache };
}

/** Throws `validation` for patterns and overrides that no evaluation could go by. */
export function checkOrder({ projects }: BuildRequestDeps, order: BuildOrder): void {
  try {
    parseAttributePatterns(wildcardOf(order));
  } catch (error) {
    if (error instanceof AttributePatternError) throw new DomainError("validation", `target: ${error.message}`);
    throw error;
  }
  for (const { input_name, url } of order.input_overrides) {
    const problem = inputPatternProblem(input_name) ?? (url === null ? null : urlProblem(url, projects));
    if (problem !== null) throw new DomainError("validation", `input_overrides: ${input_name}: ${problem}`);
  }
}

function urlProblem(url: string, { allowLocalSources }: BuildRequestDeps["projects"]): string | null {
  try {
    checkInputUrl(url, { allowLocal: allowLocalSources });
    return null;
  } catch (error) {
    if (error instanceof InputUrlError) return error.message;
    throw error;
  }
}

/** `.#hello` is what people write on their own machine. */
function wildcardOf({ target }: BuildOrder): string {
  const text = (target ?? "").trim().replace(/^\.#/, "");
  return text === "" ? "*" : text;
}

async function* readBlob(deps: BuildRequestDeps, { objectKey, size, path }: StoredSourceFile): ByteStream {
  const blob = await deps.blobs.get(objectKey);
  if (blob?.size === size) return yield* blob.body;
  await blob?.discard();
  // Sent anew it is stored anew.
  await deleteSourceBlob(deps.db, objectKey);
  throw new DomainError("conflict", `The content of ${JSON.stringify(path)} was lost: send its manifest again`);
}
