import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { checkAnswer } from "./document.ts";

/** What the names in a path stand for is no slash; where several routes fit, the one with fewer names does. */
const TEMPLATES = [...ROUTES.keys()]
  .map((name) => {
    const pattern = name.replaceAll(".", "\\.").replaceAll(/\{(\w+)\}/g, (_, key) => (key === "file" ? ".+" : "[^/]+"));
    return { name, pattern: new RegExp(`^${pattern}$`), names: name.split("{").length };
  })
  .sort((one, other) => one.names - other.names);

/** Throws when an answer is none that the document promises; of what is no route, nothing is promised. */
export async function expectPromised(method: string, path: string, response: Response): Promise<void> {
  const [bare = ""] = path.split("?");
  const found = TEMPLATES.find(({ pattern }) => pattern.test(`${method} ${bare}`));
  if (!found || response.status === 405) return;
  const { problems } = await checkAnswer(found.name as RouteName, response);
  if (problems.length > 0) {
    throw new Error(`${found.name}: ${problems.join("; ")}. If this is what is meant, run \`npm run openapi\``);
  }
}
