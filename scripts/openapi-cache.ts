import { CACHE_FILE_PARAMETERS, CACHE_FILES, type CacheFile } from "#core/api/openapi/cache-surface.ts";
import { PATH_PARAMETERS } from "#core/api/openapi/parameters.ts";
import type { Schema } from "./openapi-types.ts";

export const CACHE_TAG = {
  name: "Binary caches",
  description:
    "What Nix asks of a cache, and what `nix copy` sends. A public cache asks for no credentials; for another one " +
    "the password is a session's token or an API key, as in a netrc file, and the user name is not looked at. To " +
    "everybody else a cache that is not public and one that does not exist are the same. HEAD is answered wherever " +
    "GET is.",
};

const REFUSALS = {
  401: { description: "No cache of this name is public: send credentials." },
  404: { description: "Not there, or not for you." },
};

/** The paths of the cache surface, by their templates. */
export function cachePaths(): Record<string, Record<string, Schema>> {
  return Object.fromEntries(CACHE_FILES.map((file) => [`/cache/{cache}/${file.path}`, operationsOf(file)]));
}

function operationsOf(file: CacheFile): Record<string, Schema> {
  const id = file.path.replaceAll(/\{(\w)|[^a-z{}]+(\w?)|[{}]/gi, (_, name = "", next = "") =>
    (name + next).toUpperCase(),
  );
  const common = { tags: [CACHE_TAG.name], parameters: parametersOf(file) };
  const get = {
    operationId: `getCache${id.slice(0, 1).toUpperCase()}${id.slice(1)}`,
    summary: file.summary,
    ...common,
    security: [{}, { cacheBasic: [] }, { bearer: [] }],
    responses: { 200: { description: "Found.", content: { [file.contentType]: {} } }, ...REFUSALS },
  };
  if (file.put === undefined) return { get };
  const put = {
    operationId: get.operationId.replace("get", "put"),
    summary: `Push: ${file.summary.toLowerCase()}`,
    description: `${file.put} Needs \`writeStore\`.`,
    ...common,
    security: [{ cacheBasic: [] }, { bearer: [] }],
    requestBody: { required: true, content: { [file.contentType]: {} } },
    responses: { 200: { description: "It is there." }, ...REFUSALS },
  };
  return { get, put };
}

function parametersOf({ path }: CacheFile): Schema[] {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
  const schema = { type: "string" };
  const own = names.map((name) => {
    return { name, in: "path", required: true, description: CACHE_FILE_PARAMETERS[name]?.description, schema };
  });
  return [
    { name: "cache", in: "path", required: true, description: PATH_PARAMETERS.cache?.description, schema },
    ...own,
  ];
}
