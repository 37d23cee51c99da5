/** What the process was started with. Everything else of the server takes its settings as arguments. */
export function processEnvironment(): NodeJS.ProcessEnv {
  return process.env;
}

/** The folders in which programs that we start are looked up. */
export function searchPath(): string {
  return process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin";
}

/** Where the machine keeps its certificates and proxies; git must use the same. */
const NETWORK_NAMES = [
  "GIT_SSL_CAINFO",
  "HTTPS_PROXY",
  "HTTP_PROXY",
  "NIX_SSL_CERT_FILE",
  "NO_PROXY",
  "SSL_CERT_DIR",
  "SSL_CERT_FILE",
  "http_proxy",
  "https_proxy",
  "no_proxy",
];

/** git's environment: no question to a terminal, nobody's own settings, only the named transports. */
export function gitEnvironment(protocols: string): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = {
    PATH: searchPath(),
    HOME: process.env.HOME,
    LC_ALL: "C",
    GIT_ALLOW_PROTOCOL: protocols,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "true",
    SSH_ASKPASS: "true",
    GIT_SSH_COMMAND: "ssh -o BatchMode=yes -o ConnectTimeout=10",
  };
  for (const name of NETWORK_NAMES) if (process.env[name] !== undefined) environment[name] = process.env[name];
  return environment;
}
