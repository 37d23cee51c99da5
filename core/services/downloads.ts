import type { ArtefactsView, DownloadView } from "../api/downloads.ts";
import { naiveTime } from "../api/times.ts";
import { type BuildLink, findBuildLink, listOutputsOfBuilds } from "../db/builds-read.ts";
import { findUserOfToken } from "../db/credentials.ts";
import { findEvaluationDetail } from "../db/evaluations-read.ts";
import { listEntryPoints } from "../db/evaluations-read-entry-points.ts";
import { listProducts, listProductsOfBuilds, type ProductRow } from "../db/products.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { apiKeySecret } from "../domain/api-key.ts";
import { SUCCESSFUL_BUILD } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { authenticate, type Credential } from "./authenticate.ts";
import { requireBuild } from "./builds.ts";
import type { ServiceDeps } from "./deps.ts";
import { signDownloadToken, verifyDownloadToken } from "./download-token.ts";
import { requireEvaluation } from "./evaluations.ts";

type ReadDeps = Pick<ServiceDeps, "db">;
type TokenDeps = Pick<ServiceDeps, "db" | "clock" | "settings">;

/** Enough for a page. */
const ARTEFACT_ENTRY_POINTS_MAX = 1_000;

/** What the build offers, in the order in which it lists it. */
export async function listDownloads(deps: ReadDeps, actor: Actor, buildId: string): Promise<DownloadView[]> {
  const products = await productsOf(deps, await requireBuild(deps, actor, buildId));
  return products.map(({ type, subtype, name, path, size }) => ({ file_type: type, subtype, name, path, size }));
}

/**
 * The product of this name, or of this whole path where several have one name: of those the first. Throws `not_found`.
 */
export async function requireProduct(
  deps: ReadDeps,
  actor: Actor,
  buildId: string,
  nameOrPath: string,
): Promise<{ readonly product: ProductRow; readonly organizationId: string }> {
  const link = await requireBuild(deps, actor, buildId);
  const products = await productsOf(deps, link);
  const product =
    products.find(({ path }) => path === nameOrPath) ??
    products.find(({ name }) => name === nameOrPath) ??
    products.find(({ path }) => path.slice(path.lastIndexOf("/") + 1) === nameOrPath);
  if (!product) throw new DomainError("not_found", "The build offers no such file");
  return { product, organizationId: link.organization_id };
}

/** For an hour, for this build's files, and for no longer than the user may see the build. */
export async function createDownloadToken(deps: TokenDeps, actor: Actor, buildId: string): Promise<string> {
  const { id: userId } = requireUser(actor);
  const { evaluation_id: evaluationId, drv_path: derivation } = await requireBuild(deps, actor, buildId);
  return await signDownloadToken(deps.settings.jwtSecret, { userId, evaluationId, derivation }, deps.clock.now());
}

/**
 * Who fetches with this token from the query. Throws `unauthorized` for one that is not valid, or is for another
 * build's files.
 */
export async function downloaderOf(deps: TokenDeps, buildId: string, credential: Credential): Promise<Actor> {
  const { token } = credential;
  const { jwtSecret } = deps.settings;
  const claims = apiKeySecret(token) === null ? await verifyDownloadToken(jwtSecret, token, deps.clock.now()) : null;
  if (!claims) return await authenticate(deps, credential);
  const link = await findBuildLink(deps.db, buildId);
  const user = await findUserOfToken(deps.db, claims.userId);
  if (!user?.active || link?.evaluation_id !== claims.evaluationId || link.drv_path !== claims.derivation) {
    throw new DomainError("unauthorized", "The download token is not for this build, or its user is gone");
  }
  const { active: _, ...actor } = user;
  return { user: actor, key: null, sessionId: null };
}

/** What the entry points of an evaluation offer; those that offer nothing are left out. */
export async function listArtefacts(deps: ReadDeps, actor: Actor, evaluationId: string): Promise<ArtefactsView> {
  await requireEvaluation(deps, actor, evaluationId, "read");
  const evaluation = await findEvaluationDetail(deps.db, evaluationId);
  if (!evaluation) throw new DomainError("not_found", "Evaluation not found");
  const rows = await listEntryPoints(deps.db, evaluationId, ARTEFACT_ENTRY_POINTS_MAX);
  const offering = rows.filter(({ has_products }) => has_products);
  const buildIds = [...new Set(offering.map(({ build_id }) => build_id))];
  const products = Map.groupBy(await listProductsOfBuilds(deps.db, buildIds), ({ build_id }) => build_id);
  const outputs = Map.groupBy(await listOutputsOfBuilds(deps.db, buildIds), ({ build_id }) => build_id);
  return {
    evaluation: evaluationId,
    created_at: naiveTime(evaluation.created_at),
    entry_points: offering.map(({ attribute, drv_path, link_id, build_id }) => ({
      attr: formatAttributePath(attribute),
      derivation: drv_path,
      build_id: link_id,
      outputs: (outputs.get(build_id) ?? []).map(({ name, store_path }) => ({
        name,
        store_path,
        products: (products.get(build_id) ?? []).flatMap(({ output, build_id: _, ...product }, index) =>
          output === name ? [{ id: `${link_id}-${index}`, ...product }] : [],
        ),
      })),
    })),
  };
}

/** The rows are those of the build's last success: an evaluation that saw it fail shows none. */
async function productsOf(deps: ReadDeps, link: Pick<BuildLink, "build_id" | "status">): Promise<ProductRow[]> {
  const succeeded = (SUCCESSFUL_BUILD as readonly number[]).includes(link.status);
  return succeeded ? await listProducts(deps.db, link.build_id) : [];
}
