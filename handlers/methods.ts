interface Route {
  readonly method: string;
  /** As it was registered: `/orgs/:org`, `/builds/:id/download/:file{.+}`. */
  readonly path: string;
}

/** The parts of a registered path: a slash, and a name with or without a pattern, a star, or text. */
const PART = /\/(?::\w+(?:\{(?<pattern>(?:[^{}]|\{[^{}]*\})+)\})?|(?<star>\*)|(?<text>[^/:*]*))/g;
const SPECIAL = /[.*+?^${}()|[\]\\]/g;

/** The methods in which a path is answered, in alphabetical order; empty where there is no such route. */
export function allowedMethods(routes: readonly Route[], path: string): string[] {
  const methods = new Set<string>();
  for (const route of routes) {
    // Middleware is registered for all methods, and answers nothing by itself.
    if (route.method === "ALL" || methods.has(route.method) || !matches(route.path, path)) continue;
    methods.add(route.method);
    if (route.method === "GET") methods.add("HEAD");
  }
  return [...methods].sort();
}

function matches(registered: string, path: string): boolean {
  const parts = [...registered.matchAll(PART)].map(({ groups = {} }) => {
    const { pattern, star, text } = groups;
    if (pattern !== undefined) return `/${pattern}`;
    if (star !== undefined) return "/.*";
    return text === undefined ? "/[^/]+" : `/${text.replace(SPECIAL, "\\$&")}`;
  });
  return new RegExp(`^${parts.join("")}$`).test(path);
}
