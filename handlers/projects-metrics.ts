import { Hono } from "hono";
import { EntryPointDownloadQuery } from "#core/api/badges.ts";
import { EntryPointMetricsQuery } from "#core/api/projects-metrics.ts";
import { DomainError } from "#core/errors.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { findLatestBuild } from "#core/services/projects-downloads.ts";
import { measureEntryPoint, measureProject } from "#core/services/projects-metrics.ts";
import { StreamPlaces } from "./builds-streams.ts";
import { shareHolderOf } from "./client-of.ts";
import { answerDownload, type DownloadRouteDeps } from "./downloads-answer.ts";
import type { AppEnv } from "./env.ts";
import { readQuery } from "./parse.ts";

type ReadDeps = Pick<ServiceDeps, "db">;

/** Each unpacks a NAR as it is sent: some 10 MiB of windows and buffers. */
const DOWNLOADS_MAX = 8;
const CLIENT_DOWNLOADS_MAX = 4;

/** `/projects/{organization}/{project}`: what its evaluations took, and what its entry points offer. */
export function projectMetricRoutes(deps: DownloadRouteDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const places = new StreamPlaces(DOWNLOADS_MAX);

  app.get("/:organization/:project/metrics", async (c) => {
    return c.json(success(await measureProject(deps, c.get("actor"), c.req.param())));
  });

  app.get("/:organization/:project/entry-point-metrics", async (c) => {
    const query = readQuery(c, EntryPointMetricsQuery);
    return c.json(success(await measureEntryPoint(deps, c.get("actor"), c.req.param(), query.eval)));
  });

  app.get("/:organization/:project/entry-point-downloads", async (c) => {
    const { eval: attribute, filename, token } = readQuery(c, EntryPointDownloadQuery);
    const id = await findLatestBuild(deps, c.req.param(), attribute);
    // As of a build that may not be seen.
    if (id === null) throw new DomainError("not_found", "Build not found");
    return await answerDownload(deps, c, places.of(shareHolderOf(c), CLIENT_DOWNLOADS_MAX), {
      id,
      file: filename,
      token,
    });
  });

  return app;
}

/** `/metrics/projects/{organization}/{project}`: the same under other addresses. */
export function projectMetricAliases(deps: ReadDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization/:project/evaluations", async (c) => {
    return c.json(success(await measureProject(deps, c.get("actor"), c.req.param())));
  });

  app.get("/:organization/:project/entry-point", async (c) => {
    const query = readQuery(c, EntryPointMetricsQuery);
    return c.json(success(await measureEntryPoint(deps, c.get("actor"), c.req.param(), query.eval)));
  });

  return app;
}
