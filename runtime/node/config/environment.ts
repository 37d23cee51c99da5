/** What the process was started with. Everything else of the server takes its settings as arguments. */
export function processEnvironment(): NodeJS.ProcessEnv {
  return process.env;
}

/** The folders in which programs that we start are looked up. */
export function searchPath(): string {
  return process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin";
}
